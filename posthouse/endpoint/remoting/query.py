"""Handlers of queries for single messages: by key (12) and by log offset (33)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers import query as headers
from posthouse.endpoint.remoting.dispatcher import Lane, Reply, Route
from posthouse.model.limits import QUERIES_MAX
from posthouse.model.offsets import LogOffset

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer

QUERIES = Lane("query", QUERIES_MAX)
"""Each may hold as much memory as its answer has."""


async def query_message(broker: Broker, header: headers.QueryMessage, command: Command, peer: RemotingPeer) -> Reply:
    """12. The newest that there is room for, in the order of the log, as RocketMQ gives them."""
    unique = (header.unique or "").lower() == "true"
    found = await broker.query.by_key(
        header.topic, header.key, header.messages_max, header.begin_ms, header.end_ms, unique=unique
    )
    reply = headers.QueryMessageReply(indexed_at_ms=found.indexed_at_ms, indexed_offset=found.indexed_offset)
    return Reply(ext=headers.QUERY_MESSAGE_REPLY.encode(reply), body=b"".join(reversed(found.records)))


async def view_message(broker: Broker, header: headers.ViewMessage, command: Command, peer: RemotingPeer) -> Reply:
    """33."""
    return Reply(body=await broker.query.by_log_offset(LogOffset(header.offset)))


QUERY_ROUTES = (
    Route(RequestCode.QUERY_MESSAGE, headers.QUERY_MESSAGE, query_message, QUERIES),
    Route(RequestCode.VIEW_MESSAGE_BY_ID, headers.VIEW_MESSAGE, view_message, QUERIES),
)
