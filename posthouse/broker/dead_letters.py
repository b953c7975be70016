"""Dead letters: messages that a group has given up, kept in its topic `%DLQ%group` with where they came from and why.

RocketMQ names two of the properties and leaves them to clients; here the broker sets all four, always.
"""

from __future__ import annotations

from enum import StrEnum

from posthouse.broker.delays import without_delay
from posthouse.model import properties as names
from posthouse.model.limits import PROPERTIES_BYTES_MAX
from posthouse.model.message import NewMessage
from posthouse.model.names import dead_letter_topic
from posthouse.model.properties import find_property, set_property
from posthouse.model.topic import TopicConfig


class DeathReason(StrEnum):
    """Why a message is a dead letter: the value of DLQ_REASON."""

    ATTEMPTS = "attempts"
    """It failed as often as the group, or the request, allows."""
    REFUSED = "refused"
    """The consumer said that there is no use in another attempt."""
    ORDERED = "ordered"
    """Its group holds locks on queues: a message that comes later would come out of order."""
    NO_RETRY = "no_retry"
    """Its group has no retry queues."""
    TOO_LARGE = "too_large"
    """Its properties leave no room for those of a retry. The letter may have none of ours, not even this one."""


def dead_letter_config(group: str) -> TopicConfig:
    return TopicConfig(dead_letter_topic(group), 1, 1)


def dead_letter(message: NewMessage, group: str, reason: str, attempts: int, message_id: str) -> NewMessage:
    """The message as it is stored in the group's dead letter topic.

    `message_id`: of the record at hand, for one that has no id of its own. Where the producer has used up the room for
    properties, ours are left out: the message counts more than what is said of it.
    """
    text = without_delay(message.properties)
    origin_topic = find_property(text, names.RETRY_TOPIC) or message.topic
    origin_id = find_property(text, names.UNIQ_KEY) or find_property(text, names.ORIGIN_MESSAGE_ID) or message_id
    for name, value in (
        (names.DLQ_ORIGIN_TOPIC, origin_topic),
        (names.DLQ_ORIGIN_MESSAGE_ID, origin_id),
        (names.DLQ_REASON, str(reason)),
        (names.DLQ_ATTEMPTS, str(attempts)),
    ):
        text = set_property(text, name, value)
    if len(text.encode()) > PROPERTIES_BYTES_MAX:
        text = without_delay(message.properties)
    return message._replace(topic=dead_letter_topic(group), queue_id=0, properties=text)
