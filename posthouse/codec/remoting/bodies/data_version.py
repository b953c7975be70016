"""DataVersion as JSON: the bodies of 322, a member of tables, and text in the answer to 26.

Source: RocketMQ 5.3 DataVersion.
"""

from __future__ import annotations

import msgspec

from posthouse.codec.remoting.bodies.shape import BodyType
from posthouse.codec.remoting.headers.numbers import Int64
from posthouse.codec.remoting.json_dialect import write_json
from posthouse.model.route import DataVersion


class DataVersionShape(msgspec.Struct, rename="camel"):
    state_version: Int64 | None = None
    timestamp: Int64 | None = None
    counter: Int64 | None = None

    def value(self) -> DataVersion:
        return DataVersion(self.state_version or 0, self.timestamp or 0, self.counter or 0)


_DATA_VERSION = BodyType(DataVersionShape, "a data version")


def data_version_members(version: DataVersion) -> dict[str, int]:
    return {
        "counter": version.counter,
        "stateVersion": version.state_version,
        "timestamp": version.timestamp_ms,
    }


def encode_data_version(version: DataVersion) -> bytes:
    return write_json(data_version_members(version))


def decode_data_version(data: bytes) -> DataVersion:
    """Raises WireError."""
    return _DATA_VERSION.decode(data).value()
