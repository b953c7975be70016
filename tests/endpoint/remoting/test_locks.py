"""Locks over the wire: 41, 42."""

from __future__ import annotations

import pytest

from posthouse.codec.remoting.bodies.locks import LockRequest, decode_locked, encode_lock_request
from posthouse.model.message import MessageQueue
from tests.endpoint.clients import C, Client, R, client, house

pytestmark = pytest.mark.asyncio

ONE, TWO = MessageQueue("T", "broker-a", 0), MessageQueue("T", "broker-a", 1)


async def lock(asking: Client, client_id: str, *queues: MessageQueue) -> tuple[MessageQueue, ...]:
    body = encode_lock_request(LockRequest("G", client_id, queues))
    return decode_locked((await asking.ok(C.LOCK_BATCH_MQ, body=body)).body)


async def test_queue_has_one_holder_until_it_is_given_back() -> None:
    async with house() as found, client(found.broker_address) as asking:
        assert await lock(asking, "a", ONE, TWO) == (ONE, TWO)
        assert await lock(asking, "b", ONE, TWO) == ()
        asking.tell(C.UNLOCK_BATCH_MQ, body=encode_lock_request(LockRequest("G", "a", (ONE,))))  # one-way, as Java
        assert await lock(asking, "b", ONE, TWO) == (ONE,)
        await asking.ok(C.UNLOCK_BATCH_MQ, body=encode_lock_request(LockRequest("G", "b", (ONE,))))
        assert await lock(asking, "a", ONE) == (ONE,)


async def test_locks_go_with_their_group() -> None:
    async with house() as found, client(found.broker_address) as asking:
        assert await lock(asking, "a", ONE) == (ONE,)
        await asking.ok(C.DELETE_SUBSCRIPTIONGROUP, {"groupName": "G"})
        assert await lock(asking, "b", ONE) == (ONE,)


async def test_body_that_is_none_is_refused() -> None:
    async with house() as found, client(found.broker_address) as asking:
        for body in (b"", b"[]", b'{"consumerGroup":"G"}'):
            assert (await asking.ask(C.LOCK_BATCH_MQ, body=body)).code != R.SUCCESS
