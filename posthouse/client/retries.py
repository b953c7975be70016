"""Messages whose handling failed: how they come back later, to any member of the group.

First the broker that holds the message is asked to put it into `%RETRY%group` with a delay. If it cannot, the message
is sent there as a new one, with the delay that belongs to its attempt. After the last attempt the broker puts it into
`%DLQ%group`. Source: RocketMQ 5.3 DefaultMQPushConsumerImpl.sendMessageBack.
"""

from __future__ import annotations

import logging

from posthouse.client.errors import BrokerRefused, NoBroker, PosthouseError
from posthouse.client.outbox import aim, pack, send_ext
from posthouse.client.receipt import SendStatus
from posthouse.client.received import ReceivedMessage
from posthouse.client.session import Session
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.model import properties as names
from posthouse.model.message import Message
from posthouse.model.names import retry_topic
from posthouse.model.route import MASTER_ID

log = logging.getLogger(__name__)

BACK_SECONDS = 5.0
"""For the broker to take a message back. RocketMQ: the same."""

DEAD = -1
"""The delay level that means: no more attempts."""

LEVEL_SECONDS = (
    1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0,
    360.0, 420.0, 480.0, 540.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0,
)  # fmt: skip
"""Delay levels 1 to 18. RocketMQ: messageDelayLevel."""

_STORED = frozenset(int(status) for status in SendStatus)


class RetryLater(Exception):
    """Raise it in a handler to get the message again.

    `delay_level` 1 to 18 is 1 s to 2 h; 0: by its attempt; DEAD (-1): never, it becomes a dead letter at once. In an
    ordered consumer the whole queue waits that long.
    """

    def __init__(self, delay_level: int = 0) -> None:
        super().__init__(f"delay level {delay_level}")
        self.delay_level = delay_level


class Retries:
    """Puts messages of one group back."""

    def __init__(self, session: Session, group: str, attempts_max: int) -> None:
        self._session = session
        self._group = group
        self._attempts_max = attempts_max

    async def put_back(self, message: ReceivedMessage, delay_level: int) -> None:
        """Returns when it is safe to count the message as done here. Raises PosthouseError if it is not."""
        try:
            await self._hand_back(message, delay_level)
        except PosthouseError as error:
            log.debug("%s: %s; it is sent to the retry topic instead", message.message_id, error)
            await self._send_anew(message, delay_level)

    async def _hand_back(self, message: ReceivedMessage, delay_level: int) -> None:
        ext = {
            "offset": str(message.log_offset),
            "group": self._group,
            "delayLevel": str(delay_level),
            "originMsgId": message.message_id,
            "originTopic": message.topic,
            "unitMode": "false",
            "maxReconsumeTimes": str(self._attempts_max),
            "bname": message.queue.broker_name,
        }
        address = self._session.address_of(message.queue.broker_name)
        doing = "take a message back"
        answer = await self._session.ask_broker(
            address, RequestCode.CONSUMER_SEND_MSG_BACK, ext, doing=doing, timeout_s=BACK_SECONDS
        )
        if answer.code != ResponseCode.SUCCESS:
            raise BrokerRefused(message.queue.broker_name, answer.code, answer.remark, doing)

    async def _send_anew(self, message: ReceivedMessage, delay_level: int) -> None:
        topic = retry_topic(self._group)
        times = message.reconsume_times + 1
        properties = dict(message.properties)
        for name in _NOT_AGAIN:
            properties.pop(name, None)
        properties.setdefault(names.RETRY_TOPIC, message.topic)
        properties.setdefault(names.ORIGIN_MESSAGE_ID, message.message_id)
        properties[names.DELAY] = str(delay_level if delay_level > 0 else 3 + message.reconsume_times)
        last = delay_level == DEAD
        parcel = pack(Message(topic, message.body, properties=properties, flag=message.flag), message.message_id, 4096)
        ext = send_ext(
            self._group,
            parcel,
            self._session.host.clock.now_ms(),
            reconsume_times=times,
            reconsume_times_max=0 if last else self._attempts_max,
        )
        queues = await self._session.queues(topic)
        if not queues.write_queues:
            raise NoBroker(f"topic {topic} has no queue that takes messages now")
        queue = queues.write_queues[self._session.host.random.below(len(queues.write_queues))]
        aim(ext, queue.broker_name, queue.queue_id)
        address = queues.brokers[queue.broker_name][MASTER_ID]
        doing = f"take a message for {topic}"
        answer = await self._session.ask_broker(
            address, RequestCode.SEND_MESSAGE_V2, ext, parcel.body, doing=doing, timeout_s=BACK_SECONDS
        )
        if answer.code not in _STORED:
            raise BrokerRefused(queue.broker_name, answer.code, answer.remark, doing)


_NOT_AGAIN = (
    names.TRAN_MSG,
    names.POP_CK,
    names.RECONSUME_TIME,
    names.MAX_RECONSUME_TIMES,
    names.DELAY,
    "TIMER_DELAY_SEC",
    "TIMER_DELAY_MS",
    "TIMER_DELIVER_MS",
)
"""Properties that belong to the first journey of a message only."""
