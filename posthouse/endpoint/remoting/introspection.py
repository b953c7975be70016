"""Handlers of what a broker asks a consumer on behalf of an operator: 223, 307, 309."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.bodies.inspection import encode_consumer_status
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers import introspection as headers
from posthouse.endpoint.remoting.dispatcher import Lane, Reply, Route
from posthouse.model.limits import RELAYS_MAX
from posthouse.model.question import ClientAnswer
from posthouse.model.refusal import Reason, Refused

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer

RELAYS = Lane("relay", RELAYS_MAX)
"""Each waits for a client that may never answer."""


async def running_info(broker: Broker, header: headers.GetRunningInfo, command: Command, peer: RemotingPeer) -> Reply:
    """307."""
    asking = broker.introspection.running_info(header.consumer_group, header.client_id, command.ext_map())
    return _passed_on(await asking)


async def consume_directly(
    broker: Broker, header: headers.ConsumeDirectly, command: Command, peer: RemotingPeer
) -> Reply:
    """309. Java's client looks for the broker's name in what it is sent."""
    if not header.message_id:
        raise Refused(Reason.INVALID_PARAMETER, "CONSUME_MESSAGE_DIRECTLY needs a msgId")
    fields = {**command.ext_map(), "brokerName": broker.config.name}
    asking = broker.introspection.consume_directly(
        header.consumer_group, header.client_id or None, header.message_id, fields
    )
    return _passed_on(await asking)


def _passed_on(answer: ClientAnswer) -> Reply:
    return Reply(answer.code, dict(answer.fields), answer.body, answer.remark)


async def consumer_status(
    broker: Broker, header: headers.GetConsumerStatus, command: Command, peer: RemotingPeer
) -> Reply:
    """223."""
    client_id = (header.client_id or "").strip() or None
    found = await broker.introspection.consumer_status(header.group, header.topic, client_id)
    return Reply(body=encode_consumer_status(found))


INTROSPECTION_ROUTES = (
    Route(
        RequestCode.INVOKE_BROKER_TO_GET_CONSUMER_STATUS, headers.GET_CONSUMER_STATUS, consumer_status, RELAYS,
        doc="offsets as the members of a group know them",
    ),
    Route(
        RequestCode.GET_CONSUMER_RUNNING_INFO, headers.GET_RUNNING_INFO, running_info, RELAYS,
        doc="what goes on inside a consumer: passed on to it",
    ),
    Route(
        RequestCode.CONSUME_MESSAGE_DIRECTLY, headers.CONSUME_DIRECTLY, consume_directly, RELAYS,
        doc="have a consumer handle one stored message: passed on to it",
    ),
)  # fmt: skip
