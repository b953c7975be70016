from __future__ import annotations

import importlib.util
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec import compression
from posthouse.codec.compression import LZ4, ZLIB, ZSTD, inflate_body
from posthouse.codec.record import RecordError, decode_record
from posthouse.model.message import StoredMessage, SysFlag
from tests.codec.golden import golden
from tests.codec.strategies import damaged

PLAIN = decode_record(golden("record_v1"))


def stored(body: bytes, sys_flag: int) -> StoredMessage:
    return replace(PLAIN, body=body, sys_flag=sys_flag)


def test_body_that_is_not_compressed_stays_as_it_is() -> None:
    assert inflate_body(stored(b"\x78\x9c", ZLIB)) == b"\x78\x9c"


@pytest.mark.parametrize("kind", [0, ZLIB])
def test_zlib_is_meant_by_two_types(kind: int) -> None:
    assert inflate_body(stored(zlib.compress(b"hi" * 4000), SysFlag.COMPRESSED | kind)) == b"hi" * 4000


@given(damaged(st.just(zlib.compress(b"hi" * 100))))
def test_damaged_body_is_a_record_error_or_inflates(data: bytes) -> None:
    try:
        inflate_body(stored(data, SysFlag.COMPRESSED))
    except RecordError:
        pass


def test_body_that_ends_early_is_refused() -> None:
    with pytest.raises(RecordError, match="ends early"):
        inflate_body(stored(zlib.compress(b"hi" * 100)[:-5], SysFlag.COMPRESSED))


def test_body_that_inflates_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "INFLATED_BYTES_MAX", 1000)
    with pytest.raises(RecordError, match="limit of 1000"):
        inflate_body(stored(zlib.compress(bytes(1001)), SysFlag.COMPRESSED))
    assert inflate_body(stored(zlib.compress(bytes(999)), SysFlag.COMPRESSED)) == bytes(999)


@pytest.mark.parametrize(("kind", "package"), [(LZ4, "lz4"), (ZSTD, "zstandard")])
def test_missing_package_is_named_by_the_extra_that_brings_it(kind: int, package: str) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(RecordError, match=r"posthouse\[compression\]"):
        inflate_body(stored(b"x", SysFlag.COMPRESSED | kind))


def _compressed(kind: int, data: bytes) -> bytes:
    if kind == LZ4:
        return bytes(pytest.importorskip("lz4.frame").compress(data))
    return bytes(pytest.importorskip("zstandard").compress(data))


@pytest.mark.parametrize("kind", [LZ4, ZSTD], ids=["LZ4", "ZSTD"])
def test_body_of_another_kind_inflates_where_its_package_is_there(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    flag = SysFlag.COMPRESSED | kind
    whole = _compressed(kind, b"hi" * 5000)
    assert inflate_body(stored(whole, flag)) == b"hi" * 5000
    for broken in (b"", whole[:-8], b"x" + whole[1:]):
        with pytest.raises(RecordError):
            inflate_body(stored(broken, flag))
    monkeypatch.setattr(compression, "INFLATED_BYTES_MAX", 1000)
    with pytest.raises(RecordError, match="limit of 1000"):
        inflate_body(stored(whole, flag))


def test_unknown_type_is_refused() -> None:
    with pytest.raises(RecordError, match="0x400"):
        inflate_body(stored(b"x", SysFlag.COMPRESSED | 0x400))
