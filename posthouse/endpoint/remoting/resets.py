"""Handlers of moving groups: 222 (and 220 to the members), 308, 314."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.bodies.resets import encode_correction, encode_reset_offsets
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers import resets as headers
from posthouse.endpoint.remoting.dispatcher import Reply, Route
from posthouse.host.clock import EpochMs
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.question import Question

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer


async def reset(broker: Broker, header: headers.ResetOffsets, command: Command, peer: RemotingPeer) -> Reply:
    named = header.queue_id if header.queue_id is not None and header.queue_id >= 0 else None
    exact = QueueOffset(header.offset) if header.offset is not None and header.offset >= 0 else None
    at_ms = EpochMs(header.timestamp_ms) if header.timestamp_ms >= 0 else None
    through_clients = header.through_clients or not broker.config.server_side_reset
    members = broker.clients.consumers(header.group) if through_clients else []
    moves = await broker.resets.targets(
        header.group, header.topic, at_ms=at_ms, queue_id=named, offset=exact, force=header.force
    )
    offsets = {MessageQueue(header.topic, broker.config.name, each): offset for each, offset in moves.items()}
    if not through_clients:
        await broker.resets.reset(header.group, header.topic, moves)
    else:
        told = headers.ResetClientOffsets(
            topic=header.topic, group=header.group, timestamp_ms=header.timestamp_ms, force=header.force
        )
        ext = headers.RESET_CLIENT_OFFSETS.encode(told)
        for client, channel in members:
            body = encode_reset_offsets(offsets, as_list=client.language == "CPP")
            channel.tell(Question.RESET_OFFSETS, ext, body)
    return Reply(body=encode_reset_offsets(offsets))


def correction(broker: Broker, header: headers.QueryCorrection, command: Command, peer: RemotingPeer) -> Reply:
    left_out = [group for group in (header.filter_groups or "").split(",") if group]
    found = broker.resets.correction(header.topic, header.compare_group, left_out)
    return Reply(body=encode_correction(found))


async def clone(broker: Broker, header: headers.CloneOffsets, command: Command, peer: RemotingPeer) -> Reply:
    await broker.resets.clone(header.source_group, header.target_group, header.topic, offline=header.offline)
    return Reply()


RESET_ROUTES = (
    Route(RequestCode.INVOKE_BROKER_TO_RESET_OFFSET, headers.RESET_OFFSETS, reset),
    Route(RequestCode.QUERY_CORRECTION_OFFSET, headers.QUERY_CORRECTION, correction),
    Route(RequestCode.CLONE_GROUP_OFFSET, headers.CLONE_OFFSETS, clone),
)
