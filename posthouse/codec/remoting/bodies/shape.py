"""A body's shape: a struct with the wire's names, read from strict JSON in one go, or through the dialect.

The structs stay inside this package; what goes in and out are values of the model. Nulls count as absent, and
numbers and booleans may come as text, as some clients write them so.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Generic, TypeVar

import msgspec

from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.json_dialect import read_json

S = TypeVar("S")
E = TypeVar("E", bound=IntEnum)


class BodyType(Generic[S]):
    """Reads one shape of body. Raises WireError, naming the member."""

    __slots__ = ("_from_json", "_name", "_shape")

    def __init__(self, shape: type[S], name: str) -> None:
        self._shape = shape
        self._name = name
        self._from_json = msgspec.json.Decoder(shape, strict=False).decode

    def decode(self, data: bytes) -> S:
        if b"$ref" not in data:
            try:
                return self._from_json(data)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # the dialect, or really wrong: read again with more patience
        return self.convert(read_json(data))

    def convert(self, value: Any) -> S:
        """From what `read_json` gave."""
        try:
            return msgspec.convert(value, self._shape, strict=False)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise WireError(f"{self._name}: {error}") from None


def enum_of(kind: type[E], value: str | int) -> E:
    """A member by its name, as Java says it, or by its ordinal, as C++ does. Raises WireError."""
    try:
        return kind(int(value)) if isinstance(value, int) or value.lstrip("-").isdecimal() else kind[value]
    except (KeyError, ValueError):
        raise WireError(f"{str(value)[:60]!r} is no {kind.__name__}") from None


def ids_of(table: dict[str, str] | None) -> dict[int, str]:
    """A map whose keys are broker ids. Raises WireError."""
    try:
        return {int(key): value for key, value in (table or {}).items()}
    except ValueError:
        raise WireError("a broker id is not a number") from None


def mapping_of(value: Any, member: str) -> dict[Any, Any]:
    """A member that is a map with keys of any kind; absent is empty. Raises WireError."""
    found = value.get(member) if isinstance(value, dict) else None
    if found is None and isinstance(value, dict):
        return {}
    if not isinstance(found, dict):
        raise WireError(f"a body needs an object with an object {member!r} in it")
    return found
