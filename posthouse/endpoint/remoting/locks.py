"""Handlers of locks: 41, 42."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from posthouse.codec.remoting.bodies.locks import decode_lock_request, encode_locked
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.endpoint.remoting.dispatcher import HOT, Reply, Route

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer


def lock(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply | Awaitable[Reply]:
    """A renewal is answered at once; what is new when it is recorded."""
    asked = decode_lock_request(command.body)
    before = broker.locks.handed_over
    reply = Reply(body=encode_locked(broker.locks.lock(asked.group, asked.client_id, asked.queues)))
    return reply if broker.locks.handed_over == before else _when_recorded(broker, reply)


async def _when_recorded(broker: Broker, reply: Reply) -> Reply:
    await broker.store.settled()
    return reply


def unlock(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    asked = decode_lock_request(command.body)
    broker.locks.unlock(asked.group, asked.client_id, asked.queues)
    return Reply()


LOCK_ROUTES = (
    Route(RequestCode.LOCK_BATCH_MQ, None, lock),
    Route(RequestCode.UNLOCK_BATCH_MQ, None, unlock, HOT),
)
