"""The body of REGISTER_BROKER: a broker's topics, as plain JSON or as one zlib stream of parts.

The parts, each but the counts with an int32 length before it: DataVersion JSON; count of topics; for each topic the
text `name readQueues writeQueues perm filterType attributesJson` (4.x: no attributes); a JSON array of filter
servers; from sender version 413 on a count of static topic mappings, and these. We have no static topics: we write 0
of them and look at none.
Source: RocketMQ 5.3 RegisterBrokerBody, TopicConfig.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import msgspec

from posthouse.codec.remoting.bodies.data_version import decode_data_version, encode_data_version
from posthouse.codec.remoting.bodies.shape import BodyType
from posthouse.codec.remoting.bodies.topics import TopicTableShape, topic_table_members
from posthouse.codec.remoting.command import OUR_VERSION
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.json_dialect import write_json
from posthouse.model.limits import INFLATED_BYTES_MAX, TOPICS_MAX
from posthouse.model.registration import Registration
from posthouse.model.topic import TopicConfig

MAPPINGS_VERSION_MIN = 413
"""V5_0_0."""

_LEVEL = 9
_ZLIB = b"\x78"  # the first byte of a zlib stream with the usual window; JSON cannot begin with an x
_I32 = struct.Struct(">i")


class _RegistrationShape(msgspec.Struct, rename="camel"):
    topic_config_serialize_wrapper: TopicTableShape | None = None
    filter_server_list: list[str] | None = None


_REGISTRATION = BodyType(_RegistrationShape, "a registration")
_SERVERS = BodyType(list[str], "filter servers")
_ATTRIBUTES = BodyType(dict[str, str], "topic attributes")


def body_crc(data: bytes) -> int:
    """For the header's `body_crc`: CRC-32 of the body as sent, without the sign bit."""
    return zlib.crc32(data) & 0x7FFFFFFF


def decode_registration(data: bytes, *, compressed: bool, crc: int = 0) -> Registration:
    """No body is an empty table. `crc` 0 is not checked. Raises WireError.

    A body that begins as a zlib stream is one, whatever the header says: 5.3.3 brokers with compressedRegister=true
    say false there.
    """
    if crc and body_crc(data) != crc:
        raise WireError("the registration does not match its CRC")
    if not data:
        return Registration()
    found = _decode_parts(data) if compressed or data[:1] == _ZLIB else _decode_plain(data)
    if len(found.topics) > TOPICS_MAX:
        raise WireError(f"a registration of {len(found.topics)} topics; the limit is {TOPICS_MAX}")
    return found


def encode_registration(registration: Registration, *, compressed: bool = False, version: int = OUR_VERSION) -> bytes:
    """As a broker of that version sends it."""
    if compressed:
        return _encode_parts(registration, version)
    wrapper = topic_table_members(registration.topics.values(), registration.version)
    if version >= MAPPINGS_VERSION_MIN:
        wrapper["mappingDataVersion"] = {"counter": 0, "stateVersion": 0, "timestamp": 0}
        wrapper["topicQueueMappingDetailMap"] = {}
        wrapper["topicQueueMappingInfoMap"] = {}
    return write_json({"filterServerList": registration.filter_servers, "topicConfigSerializeWrapper": wrapper})


def _decode_plain(data: bytes) -> Registration:
    found = _REGISTRATION.decode(data)
    wrapper = found.topic_config_serialize_wrapper or TopicTableShape()
    table = wrapper.value()
    return Registration(table.topics, table.version, tuple(found.filter_server_list or ()))


class _Part(NamedTuple):
    data: bytes
    end: int


def _decode_parts(data: bytes) -> Registration:
    parts = _inflate(data)
    version, at = _part(parts, 0)
    count, at = _number(parts, at)
    if not 0 <= count <= TOPICS_MAX:
        raise WireError(f"a registration of {count} topics; the limit is {TOPICS_MAX}")
    topics: dict[str, TopicConfig] = {}
    for _ in range(count):
        text, at = _part(parts, at)
        config = _decode_topic(text)
        topics[config.name] = config
    servers, _ = _part(parts, at)
    return Registration(topics, decode_data_version(version), tuple(_SERVERS.decode(servers)))


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, INFLATED_BYTES_MAX)
    except zlib.error as error:
        raise WireError(f"the registration: {error}") from None
    if not stream.eof:
        raise WireError(f"the registration ends early, or inflates to more than {INFLATED_BYTES_MAX} bytes")
    return found


def _number(parts: bytes, at: int) -> tuple[int, int]:
    if at + 4 > len(parts):
        raise WireError(f"the registration ends at {len(parts)}, a length at {at} is missing")
    return int(_I32.unpack_from(parts, at)[0]), at + 4


def _part(parts: bytes, at: int) -> _Part:
    size, at = _number(parts, at)
    if size < 0 or at + size > len(parts):
        raise WireError(f"the registration: a part of {size} bytes at {at} does not fit")
    return _Part(parts[at : at + size], at + size)


def _decode_topic(data: bytes) -> TopicConfig:
    try:
        name, reads, writes, perm, filter_type, *rest = data.decode().split(" ", 5)
        numbers = int(reads), int(writes), int(perm)
    except ValueError as error:
        raise WireError(f"the registration: a topic: {error}") from None
    if not all(0 <= number < 2**31 for number in numbers):
        raise WireError(f"the registration: topic {name[:127]!r} has {numbers}")
    attributes = _ATTRIBUTES.decode(rest[0].encode()) if rest and rest[0] else {}
    return TopicConfig(name, *numbers, filter_type, attributes=attributes)


def _encode_parts(registration: Registration, version: int) -> bytes:
    new = version >= MAPPINGS_VERSION_MIN
    parts = [_sized(encode_data_version(registration.version)), _I32.pack(len(registration.topics))]
    for config in registration.topics.values():
        text = f"{config.name} {config.read_queues} {config.write_queues} {config.perm} {config.filter_type}".encode()
        parts.append(_sized(text + b" " + write_json(config.attributes) if new else text))
    parts.append(_sized(write_json(registration.filter_servers)))
    if new:
        parts.append(_I32.pack(0))
    return zlib.compress(b"".join(parts), _LEVEL)


def _sized(data: bytes) -> bytes:
    return _I32.pack(len(data)) + data
