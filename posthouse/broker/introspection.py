"""What operators ask consumers through the broker: their inside, their offsets, and to handle one message now.

The broker passes on what it is asked, over the client's own connection, and gives back what the client says, whatever
it is. A client that does not answer in CLIENT_ANSWER_SECONDS_MAX is told of as such; how many such questions wait at
a time is the endpoint's limit. Source: RocketMQ 5.3 AdminBrokerProcessor.callConsumer, Broker2Client.getConsumeStatus.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from posthouse.broker.clients import Channel, Clients
from posthouse.broker.query import QueryService
from posthouse.codec.remoting.bodies.client_status import decode_client_offsets
from posthouse.codec.remoting.frame import WireError
from posthouse.model.connection import ClientConnection
from posthouse.model.ids import parse_offset_message_id
from posthouse.model.limits import CLIENT_ANSWER_SECONDS_MAX
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.question import ClientAnswer, Question
from posthouse.model.refusal import Reason, Refused

log = logging.getLogger(__name__)

_STATUS_VERSION = 28  # V3_0_7
_RELAY_VERSION = 62  # V3_1_8
"""The oldest clients that know the questions. Ordinals of RocketMQ's releases."""


class Introspection:
    def __init__(self, clients: Clients, query: QueryService) -> None:
        self._clients = clients
        self._query = query

    async def running_info(self, group: str, client_id: str, fields: Mapping[str, str]) -> ClientAnswer:
        """What goes on inside a consumer. `fields` is the question as it was asked.

        Raises Refused: FAILED when the client is not there or too old, CLIENT_SILENT.
        """
        channel = self._channel(group, client_id)
        return await channel.ask(Question.RUNNING_INFO, fields, timeout_s=CLIENT_ANSWER_SECONDS_MAX)

    async def consume_directly(
        self, group: str, client_id: str | None, message_id: str, fields: Mapping[str, str]
    ) -> ClientAnswer:
        """A member's listener is given one stored message, now; without a client id, some member's.

        Raises Refused: INVALID_PARAMETER, FAILED when the message or the client is not there, CLIENT_SILENT.
        """
        channel = self._channel(group, client_id)
        try:
            _, log_offset = parse_offset_message_id(message_id)
        except ValueError:
            raise Refused(
                Reason.INVALID_PARAMETER,
                f"{message_id[:64]!r} is not an offset message id (32 or 56 hex digits); a unique key is not enough",
            ) from None
        record = await self._query.by_log_offset(log_offset)
        return await channel.ask(Question.CONSUME_DIRECTLY, fields, record, timeout_s=CLIENT_ANSWER_SECONDS_MAX)

    def _channel(self, group: str, client_id: str | None) -> Channel:
        """Raises Refused(FAILED)."""
        try:
            members = self._clients.consumers(group)
        except Refused as refused:
            raise Refused(Reason.FAILED, refused.remark) from None
        for client, channel in members:
            if client_id is None or client.client_id == client_id:
                _check_version(client, _RELAY_VERSION)
                return channel
        raise Refused(Reason.FAILED, f"client {str(client_id)[:255]!r} is not a member of group {group!r} here")

    async def consumer_status(
        self, group: str, topic: str, client_id: str | None = None
    ) -> dict[str, dict[MessageQueue, QueueOffset]]:
        """By client id, how far each member thinks it is in the queues of the topic that it has.

        Who does not answer is left out, unless nobody does. Raises Refused: CONSUMER_NOT_ONLINE, FAILED, CLIENT_SILENT.
        """
        asked = [
            (client, channel)
            for client, channel in self._clients.consumers(group)
            if client_id is None or client.client_id == client_id
        ]
        if not asked:
            raise Refused(
                Reason.CONSUMER_NOT_ONLINE, f"client {str(client_id)[:255]!r} is not a member of group {group!r} here"
            )
        for client, _ in asked:
            _check_version(client, _STATUS_VERSION)
        answers = await asyncio.gather(*(self._status(channel, group, topic) for _, channel in asked))
        found: dict[str, dict[MessageQueue, QueueOffset]] = {}
        refusals: list[Refused] = []
        for (client, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Refused):
                log.warning("client %s of group %s gives no offsets: %s", client.client_id, group, answer)
                refusals.append(answer)
            else:
                found[client.client_id] = answer
        if not found:
            raise refusals[0]
        return found

    async def _status(self, channel: Channel, group: str, topic: str) -> dict[MessageQueue, QueueOffset] | Refused:
        fields = {"topic": topic, "group": group}
        try:
            answer = await channel.ask(Question.CONSUMER_STATUS, fields, timeout_s=CLIENT_ANSWER_SECONDS_MAX)
        except Refused as refused:
            return refused
        if answer.code:
            return Refused(Reason.FAILED, f"the client at {channel.client_address} refuses: {answer.remark}")
        try:
            return decode_client_offsets(answer.body)
        except WireError as error:
            return Refused(Reason.FAILED, f"the answer of the client at {channel.client_address}: {error}")


def _check_version(client: ClientConnection, least: int) -> None:
    """Raises Refused(FAILED)."""
    if client.version < least:
        raise Refused(
            Reason.FAILED,
            f"client {client.client_id!r} says that it is of version {client.version}, which does not know this "
            f"question; {least} is the first that does",
        )
