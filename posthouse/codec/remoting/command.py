"""Commands: a header (JSON or ROCKETMQ binary) with a body. Requests and answers have one shape.

The typed part of a header travels as a map of text to text (`extFields`). It stays undecoded until the code is
known; then `HeaderType.decode` turns it straight into the struct of that code. We read both serialisations and
write JSON only, as every client reads it. Source: RocketMQ 5.3 RemotingCommand, RocketMQSerializable.
"""

from __future__ import annotations

import struct
from typing import Any, Generic, TypeVar

import msgspec

from posthouse.codec.remoting.frame import JSON, ROCKETMQ, Frame, WireError, encode_frame

RESPONSE_FLAG = 1
ONE_WAY_FLAG = 2

OUR_VERSION = 479
"""What we say we are: the ordinal of V5_3_3. Clients refuse SQL92 below 232."""

OUR_LANGUAGE = "JAVA"
"""The one name that every client's parser knows; a Python name makes old ones fail."""

LANGUAGES = (
    "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY",
    "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST", "NODE_JS",
)  # fmt: skip

_ALIASES = {code & 0xFFFF: code for code in (*range(200050, 200057), 200151)}
"""Binary headers hold 16 bit codes; these are what the larger codes are cut to."""

Ext = msgspec.Raw | dict[str, str] | None


class Command(msgspec.Struct):
    """One request or answer. `ext` is undecoded JSON, or a map, or None; `request_id` is the wire's `opaque`."""

    code: int
    request_id: int = msgspec.field(name="opaque", default=0)
    flag: int = 0
    ext: Ext = msgspec.field(name="extFields", default=None)
    version: int = 0
    language: str | int = OUR_LANGUAGE
    remark: str | None = None
    body: bytes = b""

    @property
    def is_response(self) -> bool:
        return bool(self.flag & RESPONSE_FLAG)

    @property
    def is_one_way(self) -> bool:
        return bool(self.flag & ONE_WAY_FLAG)

    def ext_map(self) -> dict[str, str]:
        """The ext fields as text; numbers and booleans of lax clients are made text. Raises WireError."""
        if isinstance(self.ext, dict):
            return self.ext
        if self.ext is None:
            return {}
        try:
            found = msgspec.json.decode(self.ext, type=dict[str, str | int | float | bool | None])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise WireError(f"the header's extFields: {error}") from None
        return {name: _as_text(value) for name, value in found.items() if value is not None}


_ABSENT = msgspec.Raw(b"")


class _JsonHeader(msgspec.Struct):
    """The JSON header on the wire; `extFields` stays raw."""

    code: int
    opaque: int = 0
    flag: int = 0
    extFields: msgspec.Raw = _ABSENT  # noqa: N815
    version: int = 0
    language: str | int = OUR_LANGUAGE
    remark: str | None = None


_decode_json = msgspec.json.Decoder(_JsonHeader).decode
_NOTHING = (b"", b"null", b"{}")


def decode_command(frame: Frame) -> Command:
    """The command in a frame, ext fields still undecoded. Raises WireError."""
    if frame.serialize_type == JSON:
        try:
            head = _decode_json(frame.header)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise WireError(f"the JSON header: {error}") from None
        ext: Ext = head.extFields
        if len(head.extFields) <= 4 and bytes(head.extFields) in _NOTHING:
            ext = None
        return Command(head.code, head.opaque, head.flag, ext, head.version, head.language, head.remark, frame.body)
    if frame.serialize_type == ROCKETMQ:
        return _decode_binary(frame.header, frame.body)
    raise WireError(f"serialize type {frame.serialize_type}; 0 (JSON) and 1 (ROCKETMQ) are known")


_FIXED = struct.Struct(">hBhiii")


def _decode_binary(header: bytes, body: bytes) -> Command:
    try:
        code, language, version, request_id, flag, remark_size = _FIXED.unpack_from(header)
        at = _FIXED.size
        if remark_size < 0 or at + remark_size + 4 > len(header):
            raise WireError("the ROCKETMQ header: the remark does not fit")
        remark = header[at : at + remark_size].decode() if remark_size else None
        at += remark_size
        (ext_size,) = struct.unpack_from(">i", header, at)
        at += 4
        if ext_size < 0 or at + ext_size > len(header):
            raise WireError("the ROCKETMQ header: the ext fields do not fit")
        ext = _decode_binary_ext(header, at, at + ext_size)
    except (struct.error, UnicodeDecodeError) as error:
        raise WireError(f"the ROCKETMQ header: {error}") from None
    name = LANGUAGES[language] if language < len(LANGUAGES) else "OTHER"
    if not flag & RESPONSE_FLAG:
        code = _ALIASES.get(code & 0xFFFF, code)
    return Command(code, request_id, flag, ext, version & 0xFFFF, name, remark, body)


def _decode_binary_ext(header: bytes, at: int, end: int) -> dict[str, str]:
    ext: dict[str, str] = {}
    while at < end:
        (key_size,) = struct.unpack_from(">H", header, at)
        at += 2
        key = header[at : at + key_size].decode()
        at += key_size
        (value_size,) = struct.unpack_from(">i", header, at)
        at += 4
        if value_size < 0 or at + value_size > end:
            raise WireError("the ROCKETMQ header: an ext field does not fit")
        ext[key] = header[at : at + value_size].decode()
        at += value_size
    return ext


_encode_json = msgspec.json.Encoder().encode


def encode_command(command: Command, serialize_type: int = JSON) -> bytes:
    """The frame of a command. Null members are left out; ext values are text, always."""
    if serialize_type == ROCKETMQ:
        return encode_frame(_encode_binary(command), command.body, ROCKETMQ)
    head: dict[str, Any] = {"code": command.code, "flag": command.flag, "language": command.language}
    head["opaque"] = command.request_id
    head["version"] = command.version
    head["serializeTypeCurrentRPC"] = "JSON"
    if command.remark is not None:
        head["remark"] = command.remark
    if command.ext is not None:
        head["extFields"] = command.ext
    return encode_frame(_encode_json(head), command.body)


def _encode_binary(command: Command) -> bytes:
    remark = (command.remark or "").encode()
    ext = b"".join(
        struct.pack(">H", len(k)) + k + struct.pack(">i", len(v)) + v
        for k, v in ((key.encode(), value.encode()) for key, value in command.ext_map().items())
    )
    language = command.language
    number = language if isinstance(language, int) else LANGUAGES.index(language)
    code = command.code & 0xFFFF
    fixed = struct.pack(
        ">HBHiii", code, number, command.version & 0xFFFF, command.request_id, command.flag, len(remark)
    )
    return b"".join((fixed, remark, struct.pack(">i", len(ext)), ext))


def request(
    code: int, request_id: int, ext: dict[str, str] | None = None, body: bytes = b"", one_way: bool = False
) -> Command:
    """A request of ours."""
    flag = ONE_WAY_FLAG if one_way else 0
    return Command(code, request_id, flag, ext, OUR_VERSION, OUR_LANGUAGE, None, body)


def response(
    code: int, request_id: int, ext: dict[str, str] | None = None, body: bytes = b"", remark: str | None = None
) -> Command:
    """An answer of ours. The map of ext fields is always there: old clients dereference it."""
    return Command(
        code, request_id, RESPONSE_FLAG, ext if ext is not None else {}, OUR_VERSION, OUR_LANGUAGE, remark, body
    )


H = TypeVar("H", bound=msgspec.Struct)


class HeaderType(Generic[H]):
    """Turns the ext fields of a command into one struct, and back into a map of text.

    Values are coerced from text; numbers and booleans of lax clients pass as well.
    """

    __slots__ = ("_from_json", "_names", "struct_type")

    def __init__(self, struct_type: type[H]) -> None:
        self.struct_type = struct_type
        self._from_json = msgspec.json.Decoder(struct_type, strict=False).decode
        self._names = tuple((f.name, f.encode_name) for f in msgspec.structs.fields(struct_type))

    def decode(self, ext: Ext) -> H:
        """Raises WireError naming the field that is missing or wrong."""
        try:
            if ext.__class__ is dict or ext is None:
                return msgspec.convert(ext or {}, self.struct_type, strict=False)
            return self._from_json(ext)  # type: ignore[arg-type]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise WireError(f"{self.struct_type.__name__}: {error}") from None

    def encode(self, header: H) -> dict[str, str]:
        """The map of text; members that are None are left out."""
        found: dict[str, str] = {}
        for name, wire_name in self._names:
            value = getattr(header, name)
            if value is not None:
                found[wire_name] = _as_text(value)
        return found


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
