"""Handlers of offsets: 14, 15, and the bounds of queues, 29 to 32."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers import offsets as headers
from posthouse.endpoint.remoting.dispatcher import HOT, Reply, Route
from posthouse.host.clock import EpochMs
from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Reason, Refused

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer


def query_offset(
    broker: Broker, header: headers.QueryConsumerOffset, command: Command, peer: RemotingPeer
) -> Reply | Awaitable[Reply]:
    group, topic, queue_id = header.consumer_group, header.topic, header.queue_id
    zero_if_young = header.set_zero_if_not_found is not False
    found = broker.offsets.query_now(group, topic, queue_id, zero_if_young)
    return _begin(broker, group, topic, queue_id, zero_if_young) if found is None else _offset(found)


async def _begin(broker: Broker, group: str, topic: str, queue_id: int, zero_if_young: bool) -> Reply:
    return _offset(await broker.offsets.query(group, topic, queue_id, zero_if_young))


def update_offset(broker: Broker, header: headers.UpdateConsumerOffset, command: Command, peer: RemotingPeer) -> Reply:
    if header.queue_id is None or header.commit_offset is None:
        raise Refused(Reason.INVALID_PARAMETER, "queueId and commitOffset are needed")
    offset = QueueOffset(header.commit_offset)
    broker.offsets.commit(header.consumer_group, header.topic, header.queue_id, offset)
    return Reply()


async def search_offset(broker: Broker, header: headers.SearchOffset, command: Command, peer: RemotingPeer) -> Reply:
    upper = (header.boundary_type or "").upper() == "UPPER"
    return _offset(await broker.offsets.search(header.topic, header.queue_id, EpochMs(header.timestamp_ms), upper))


def max_offset(broker: Broker, header: headers.GetMaxOffset, command: Command, peer: RemotingPeer) -> Reply:
    return _offset(broker.offsets.bounds(header.topic, header.queue_id)[1])


def min_offset(broker: Broker, header: headers.GetMinOffset, command: Command, peer: RemotingPeer) -> Reply:
    return _offset(broker.offsets.bounds(header.topic, header.queue_id)[0])


async def earliest(broker: Broker, header: headers.GetEarliestStoreTime, command: Command, peer: RemotingPeer) -> Reply:
    stored_at_ms = await broker.offsets.earliest_stored_at_ms(header.topic, header.queue_id)
    found = headers.EarliestStoreTimeReply(timestamp_ms=stored_at_ms)
    return Reply(ext=headers.EARLIEST_STORE_TIME_REPLY.encode(found))


def _offset(offset: QueueOffset) -> Reply:
    return Reply(ext={"offset": str(offset)})


OFFSET_ROUTES = (
    Route(RequestCode.QUERY_CONSUMER_OFFSET, headers.QUERY_CONSUMER_OFFSET, query_offset),
    Route(RequestCode.UPDATE_CONSUMER_OFFSET, headers.UPDATE_CONSUMER_OFFSET, update_offset, HOT),
    Route(RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, headers.SEARCH_OFFSET, search_offset),
    Route(RequestCode.GET_MAX_OFFSET, headers.GET_MAX_OFFSET, max_offset, HOT),
    Route(RequestCode.GET_MIN_OFFSET, headers.GET_MIN_OFFSET, min_offset, HOT),
    Route(RequestCode.GET_EARLIEST_MSG_STORETIME, headers.GET_EARLIEST_STORE_TIME, earliest),
)
