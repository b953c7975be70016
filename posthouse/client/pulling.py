"""One pull: the request as every kind of consumer sends it, and its answer as a value.

The request always brings its own expression, so that a broker that restarted, or that heard another member of the
group last, still gives what this consumer wants.
Source: RocketMQ 5.3 PullAPIWrapper, MQClientAPIImpl.processPullResponse.
"""

from __future__ import annotations

from typing import NamedTuple

from posthouse.client.errors import BadAnswer, BrokerRefused
from posthouse.client.received import ReceivedMessage, open_records, wanted_from
from posthouse.client.session import Session
from posthouse.codec.record import RecordError
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.pull import PULL_MESSAGE_REPLY, PullFlag
from posthouse.model.filter import Subscription
from posthouse.model.limits import PULL_BYTES_MAX, PULL_MESSAGES_MAX
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.route import MASTER_ID

ANSWER_SECONDS = 15.0
"""What a pull may take beyond the time that the broker holds it. RocketMQ: 30 s in all, for 15 s of holding."""


class Pulled(NamedTuple):
    """`moved`: the asked offset was outside of the queue, go on at `next_offset`; then there are no messages.

    Offsets between the asked one and `next_offset` without a message here did not match the subscription.
    """

    messages: list[ReceivedMessage]
    next_offset: QueueOffset
    min_offset: QueueOffset
    max_offset: QueueOffset
    moved: bool = False


class Puller:
    """Pulls for one group. Remembers which broker of a name to ask next, as the last answer suggested."""

    def __init__(self, session: Session, group: str) -> None:
        self._session = session
        self._group = group
        self._broker_ids: dict[MessageQueue, int] = {}  # only those that are not the master

    def forget(self, queue: MessageQueue) -> None:
        self._broker_ids.pop(queue, None)

    async def pull(
        self,
        queue: MessageQueue,
        offset: QueueOffset,
        subscription: Subscription,
        *,
        wait_ms: int,
        commit_offset: QueueOffset | None = None,
        messages_max: int = PULL_MESSAGES_MAX,
    ) -> Pulled:
        """Messages from `offset` on; with none there the broker holds the request for up to `wait_ms`.

        `commit_offset` is stored on the way. Raises BrokerRefused, Timeout, Unreachable, NoBroker, BadAnswer.
        """
        broker_id = self._broker_ids.get(queue, MASTER_ID)
        flags = PullFlag.SUBSCRIPTION | (PullFlag.SUSPEND if wait_ms else 0)
        if commit_offset is not None and broker_id == MASTER_ID:
            flags |= PullFlag.COMMIT_OFFSET
        ext = {
            "consumerGroup": self._group,
            "topic": queue.topic,
            "queueId": str(queue.queue_id),
            "queueOffset": str(offset),
            "maxMsgNums": str(messages_max),
            "maxMsgBytes": str(PULL_BYTES_MAX),
            "sysFlag": str(flags),
            "commitOffset": str(commit_offset or 0),
            "suspendTimeoutMillis": str(wait_ms),
            "subscription": subscription.expression,
            "expressionType": subscription.expression_type,
            "subVersion": str(subscription.version),
            "bname": queue.broker_name,
        }
        answer = await self._session.ask_broker(
            self._session.address_of(queue.broker_name, broker_id),
            RequestCode.PULL_MESSAGE,
            ext,
            doing=f"give messages of {queue.topic} queue {queue.queue_id}",
            timeout_s=wait_ms / 1000 + ANSWER_SECONDS,
        )
        return self._read(queue, offset, subscription, answer)

    def _read(self, queue: MessageQueue, offset: QueueOffset, subscription: Subscription, answer: Command) -> Pulled:
        if answer.code not in _ANSWERS:
            raise BrokerRefused(queue.broker_name, answer.code, answer.remark, f"give messages of {queue.topic}")
        try:
            reply = PULL_MESSAGE_REPLY.decode(answer.ext)
            messages = open_records(answer.body, queue) if answer.code == ResponseCode.SUCCESS else []
        except (WireError, RecordError) as error:
            raise BadAnswer(f"a pull answer of {queue.broker_name} for {queue} cannot be read: {error}") from None
        if reply.suggest_which_broker_id != MASTER_ID:
            self._broker_ids[queue] = reply.suggest_which_broker_id
        elif self._broker_ids:
            self.forget(queue)
        return Pulled(
            wanted_from(messages, subscription, offset),
            QueueOffset(reply.next_begin_offset),
            QueueOffset(reply.min_offset),
            QueueOffset(reply.max_offset),
            answer.code == ResponseCode.PULL_OFFSET_MOVED,
        )


_ANSWERS = frozenset(
    {
        ResponseCode.SUCCESS,
        ResponseCode.PULL_NOT_FOUND,
        ResponseCode.PULL_RETRY_IMMEDIATELY,
        ResponseCode.PULL_OFFSET_MOVED,
    }
)
