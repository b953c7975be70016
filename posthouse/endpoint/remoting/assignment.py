"""Handlers of assignments by the broker: 400, 401, 402."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.bodies.assignment import (
    decode_assignment_question,
    decode_request_mode,
    encode_assignment,
    encode_request_modes,
)
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.endpoint.remoting.dispatcher import HOT, Reply, Route

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer


async def assign(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    asked = decode_assignment_question(command.body)
    found = await broker.assignment.assign(asked.group, asked.topic, asked.client_id, asked.strategy, asked.model)
    return Reply(body=encode_assignment(found.queues, found.mode))


async def set_mode(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    rule = decode_request_mode(command.body)
    assert rule.mode is not None
    await broker.assignment.set_mode(rule.topic, rule.group, rule.mode, rule.share_queues)
    return Reply()


def all_modes(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=encode_request_modes(broker.assignment.modes()))


ASSIGNMENT_ROUTES = (
    Route(RequestCode.QUERY_ASSIGNMENT, None, assign),
    Route(RequestCode.SET_MESSAGE_REQUEST_MODE, None, set_mode),
    Route(RequestCode.GET_ALL_MESSAGE_REQUEST_MODE, None, all_modes, HOT),
)
