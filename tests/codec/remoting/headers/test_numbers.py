from __future__ import annotations

import msgspec
import pytest

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.numbers import Int32, Int64


class Both(msgspec.Struct):
    small: Int32 = 0
    large: Int64 = 0


BOTH = HeaderType(Both)


@pytest.mark.parametrize(("name", "bits"), [("small", 31), ("large", 63)])
def test_range_is_java_s(name: str, bits: int) -> None:
    for inside in (-(2**bits), 2**bits - 1):
        assert getattr(BOTH.decode({name: str(inside)}), name) == inside
    for outside in (-(2**bits) - 1, 2**bits):
        with pytest.raises(WireError, match=name):
            BOTH.decode({name: str(outside)})


@pytest.mark.parametrize("text", ["", " 1", "1 ", "0x1", "one", "1_0", "+", "--1", "1.5"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        BOTH.decode({"small": text})
