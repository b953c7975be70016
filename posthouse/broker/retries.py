"""Messages that a consumer gives back: they come again later, or become dead letters.

A consumer that fails on a message names its record. What is stored is a new record with one more attempt counted, in
`%RETRY%group`, through a timer topic: it comes to any member of the group when its delay is over. After as many
attempts as the group allows, or the request says, or when the consumer sees no use in another one, it goes to
`%DLQ%group` at once, with where it came from and why (`dead_letters`). The answer follows the commit: then the
consumer may count the message as done, and there is no moment at which nobody has it. If the answer is lost, the
consumer gives it back once more, in another way, and it comes twice: at least once, as everything here.

RocketMQ answers "success" for a group without retry queues and drops the message; here it becomes a dead letter.
Source: RocketMQ 5.3 AbstractSendMessageProcessor.consumerSendMsgBack.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from posthouse.broker.dead_letters import DeathReason, dead_letter, dead_letter_config
from posthouse.broker.delays import of_level, without_delay
from posthouse.broker.groups import Groups
from posthouse.broker.query import QueryService
from posthouse.broker.send import OnSent, SendService
from posthouse.broker.topics import Topics
from posthouse.codec.record import RecordAgain, RecordError, record_again
from posthouse.host.clock import Clock
from posthouse.host.randomness import Randomness
from posthouse.model import properties as names
from posthouse.model.delays import RETRY_LEVEL
from posthouse.model.group import GroupConfig
from posthouse.model.ids import offset_message_id
from posthouse.model.limits import PROPERTIES_BYTES_MAX
from posthouse.model.names import retry_topic
from posthouse.model.offsets import LogOffset
from posthouse.model.properties import find_property, set_property
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig
from posthouse.store.message_store import LogError, Put
from posthouse.store.state_record import Kind

_ROOM_BYTES = 1024
"""Of properties: what a retry adds at the most, names of topics included."""


class Retries:
    """`on_sent_back` and `on_dead_letter` hear of the group and the topic that the message came from first."""

    def __init__(
        self,
        topics: Topics,
        groups: Groups,
        send: SendService,
        query: QueryService,
        clock: Clock,
        random: Randomness,
        *,
        on_sent_back: Callable[[str, str], None] = lambda group, topic: None,
        on_dead_letter: Callable[[str, str], None] = lambda group, topic: None,
    ) -> None:
        self._topics = topics
        self._groups = groups
        self._send = send
        self._query = query
        self._clock = clock
        self._random = random
        self._on_sent_back = on_sent_back
        self._on_dead_letter = on_dead_letter

    async def send_back(
        self, group: str, log_offset: LogOffset, delay_level: int = 0, attempts_max: int | None = None
    ) -> None:
        """Returns when the message whose record begins there is safe in the group's retry or dead letter topic.

        `delay_level`: 0 by the attempt, below 0 no more attempts. `attempts_max` wins over the group's. A group that
        was deleted meanwhile is made anew, if the broker makes groups. Raises Refused: GROUP_NOT_EXIST, NO_PERMISSION,
        FAILED if there is no such message, NOT_WRITABLE, BUSY.
        """
        config = self._groups.require(group)
        try:
            again = record_again(await self._query.by_log_offset(log_offset))
        except RecordError as error:
            raise Refused(Reason.FAILED, f"the message at log offset {log_offset} is damaged: {error}") from None
        committed: asyncio.Future[LogError | None] = asyncio.get_running_loop().create_future()

        def done(put: Put, error: LogError | None) -> None:
            if not committed.done():
                committed.set_result(error)

        attempts = again.message.reconsume_times
        reason = _why_dead(config, attempts, delay_level, attempts_max)
        if reason is None and len(again.message.properties.encode()) > PROPERTIES_BYTES_MAX - _ROOM_BYTES:
            reason = DeathReason.TOO_LARGE
        if reason is None:
            self._retry(config, again, delay_level or RETRY_LEVEL + attempts, done)
        else:
            self.dead_letter(group, again, reason, attempts + 1, done)
        failure = await committed
        if failure is not None:
            raise Refused(Reason.NOT_WRITABLE, f"{failure}; whether the message was put back is not known")

    def _retry(self, group: GroupConfig, again: RecordAgain, level: int, done: OnSent) -> None:
        name = retry_topic(group.name)
        topic = self._topics.ensure(TopicConfig(name, group.retry_queues, group.retry_queues))
        if not topic.config.writable:
            raise Refused(Reason.NO_PERMISSION, f"topic {name!r} may not be written to")
        message = again.message
        text = without_delay(message.properties)
        origin = find_property(text, names.RETRY_TOPIC)
        if origin is None:
            origin = message.topic
            text = set_property(text, names.RETRY_TOPIC, origin)
        if find_property(text, names.ORIGIN_MESSAGE_ID) is None:
            origin_id = offset_message_id(again.store_host, again.log_offset)
            text = set_property(text, names.ORIGIN_MESSAGE_ID, origin_id)
        retried = message._replace(
            topic=name,
            queue_id=self._random.below(topic.config.write_queues),
            properties=text,
            reconsume_times=message.reconsume_times + 1,
        )
        self._send.forward_later(retried, of_level(level, self._clock.now_ms()), again.store_host, done)
        self._on_sent_back(group.name, origin)

    def dead_letter(
        self,
        group: str,
        again: RecordAgain,
        reason: str,
        attempts: int,
        done: OnSent | None,
        *,
        states: Sequence[tuple[Kind, object]] = (),
    ) -> Put:
        """Appends a message to the group's dead letter topic, which is made if need be.

        `attempts`: how often a handler had it. `states` are committed together with it. Raises Refused.
        """
        self._topics.ensure(dead_letter_config(group))
        message_id = offset_message_id(again.store_host, again.log_offset)
        dead = dead_letter(again.message, group, reason, attempts, message_id)
        put = self._send.forward(dead._replace(reconsume_times=attempts), again.store_host, done, states=states)
        self._on_dead_letter(group, find_property(dead.properties, names.DLQ_ORIGIN_TOPIC) or "")
        return put


def _why_dead(group: GroupConfig, attempts: int, delay_level: int, attempts_max: int | None) -> DeathReason | None:
    """Why a message that was given back after so many earlier attempts does not come again; None if it does."""
    if delay_level < 0:
        return DeathReason.REFUSED
    if attempts >= (group.retry_max_times if attempts_max is None else attempts_max):
        return DeathReason.ATTEMPTS
    return None if group.retry_queues else DeathReason.NO_RETRY
