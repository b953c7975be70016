"""Locks of an ordered group: what a member asks for (41, 42) and what it holds (answer of 41).

`onlyThisBroker` is written as false, as clients do; what it asks of replicas does not apply to one broker.
Source: RocketMQ 5.3 LockBatchRequestBody, LockBatchResponseBody, UnlockBatchRequestBody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.json_dialect import queue_of, read_json, write_json
from posthouse.model.message import MessageQueue


class LockRequest(NamedTuple):
    group: str
    client_id: str
    queues: tuple[MessageQueue, ...]


def encode_lock_request(asked: LockRequest) -> bytes:
    return write_json(
        {
            "clientId": asked.client_id,
            "consumerGroup": asked.group,
            "mqSet": list(asked.queues),
            "onlyThisBroker": False,
        }
    )


def decode_lock_request(data: bytes) -> LockRequest:
    """Raises WireError."""
    found = _object(read_json(data), "a lock request")
    group, client_id = found.get("consumerGroup"), found.get("clientId")
    if not isinstance(group, str) or not isinstance(client_id, str):
        raise WireError("a lock request needs consumerGroup and clientId")
    return LockRequest(group, client_id, _queues(found.get("mqSet"), "mqSet"))


def encode_locked(queues: Iterable[MessageQueue]) -> bytes:
    return write_json({"lockOKMQSet": list(queues)})


def decode_locked(data: bytes) -> tuple[MessageQueue, ...]:
    """Raises WireError."""
    return _queues(_object(read_json(data), "a lock answer").get("lockOKMQSet"), "lockOKMQSet")


def _object(value: Any, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise WireError(f"{what} is not an object")
    return value


def _queues(value: Any, member: str) -> tuple[MessageQueue, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise WireError(f"{member} is not a list")
    return tuple(queue_of(each) for each in value)
