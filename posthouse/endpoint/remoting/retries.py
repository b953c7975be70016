"""Handler of messages that consumers give back: 36."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers import retries as headers
from posthouse.endpoint.remoting.dispatcher import Reply, Route
from posthouse.model.offsets import LogOffset

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer


async def send_message_back(
    broker: Broker, header: headers.SendMessageBack, command: Command, peer: RemotingPeer
) -> Reply:
    """36. Answered when the message is safe in its next place."""
    await broker.retries.send_back(
        header.group, LogOffset(header.offset), header.delay_level, header.reconsume_times_max
    )
    return Reply()


RETRY_ROUTES = (Route(RequestCode.CONSUMER_SEND_MSG_BACK, headers.SEND_MESSAGE_BACK, send_message_back),)
