"""Handlers of replies: 324 and 325. A reply is a send whose answer says whether the client that asked has taken it."""

from __future__ import annotations

from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers.replies import PUSH_REPLY, PushReply
from posthouse.codec.remoting.headers.send import (
    SEND_MESSAGE,
    SEND_MESSAGE_REPLY,
    SEND_MESSAGE_V2,
    SendMessage,
    SendMessageReply,
)
from posthouse.endpoint.remoting.dispatcher import Lane, Reply, Route
from posthouse.host.clock import EpochMs
from posthouse.model.ids import offset_message_id
from posthouse.model.limits import REPLIES_MAX
from posthouse.model.message import Endpoint, NewMessage
from posthouse.model.properties import DEFAULT_REGION

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer

REPLIES = Lane("reply", REPLIES_MAX)
"""Each waits for the client that asked, for some seconds at most."""


async def send_reply(broker: Broker, header: SendMessage, command: Command, peer: RemotingPeer) -> Reply:
    message = NewMessage(
        header.topic,
        header.queue_id,
        command.body,
        header.properties or "",
        header.flag,
        header.sys_flag,
        EpochMs(header.born_at_ms),
        peer.remote_endpoint,
        header.reconsume_times or 0,
    )
    store_host = broker.store_host(peer.local_endpoint)
    stored = await broker.replies.take(
        message, header.default_topic, header.default_topic_queues, store_host, partial(push_fields, header, store_host)
    )
    reply = SendMessageReply(
        msg_id="0", queue_id=max(0, header.queue_id), queue_offset=0, region=DEFAULT_REGION, trace_on=True
    )
    if stored is not None:
        put = stored.put
        reply.msg_id = offset_message_id(store_host, put.log_offset)
        reply.queue_id, reply.queue_offset = put.queue.queue_id, put.queue_offset
        reply.transaction_id = stored.unique_id
        reply.durability = "disk" if put.synced else "os"
    return Reply(ext=SEND_MESSAGE_REPLY.encode(reply))


def push_fields(header: SendMessage, store_host: Endpoint, message: NewMessage, now_ms: EpochMs) -> dict[str, str]:
    """The header of 326."""
    return PUSH_REPLY.encode(
        PushReply(
            producer_group=header.producer_group,
            topic=message.topic,
            default_topic=header.default_topic,
            default_topic_queues=header.default_topic_queues,
            queue_id=max(0, message.queue_id),
            sys_flag=message.sys_flag,
            born_at_ms=message.born_at_ms,
            flag=message.flag,
            properties=message.properties,
            reconsume_times=message.reconsume_times,
            unit_mode=bool(header.unit_mode),
            born_host=_place(message.born_host),
            store_host=_place(store_host),
            stored_at_ms=now_ms,
        )
    )


def _place(host: Endpoint) -> str:
    return f"{ip_address(host.ip)}:{host.port}"


REPLY_ROUTES = (
    Route(RequestCode.SEND_REPLY_MESSAGE, SEND_MESSAGE, send_reply, REPLIES),
    Route(RequestCode.SEND_REPLY_MESSAGE_V2, SEND_MESSAGE_V2, send_reply, REPLIES),
)
