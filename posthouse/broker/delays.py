"""Delayed messages: what a sender asks for, how one is stored until it is due, and what it is then.

Until then a message is a record in a timer topic, with the topic and queue that it is for, and its due time, as
properties; the due time stays on it when it is delivered, as it says where the record that is replaced was waiting.
Source: RocketMQ 5.3 HookUtils, ScheduleMessageService, TimerMessageStore.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from typing import NamedTuple

from posthouse.host.clock import EpochMs
from posthouse.model import properties as names
from posthouse.model.delays import DELAY_LEVELS_MS, LEVEL_MAX, on_tick
from posthouse.model.limits import DUE_MS_MAX
from posthouse.model.message import NewMessage
from posthouse.model.names import SCHEDULE_TOPIC, WHEEL_TIMER_TOPIC
from posthouse.model.properties import NAME_END, PAIR_END, find_property, remove_property
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig

TIMER_TOPIC_CONFIGS = {
    SCHEDULE_TOPIC: TopicConfig(SCHEDULE_TOPIC, LEVEL_MAX, LEVEL_MAX),
    WHEEL_TIMER_TOPIC: TopicConfig(WHEEL_TIMER_TOPIC, 1, 1),
}

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}\Z")
_WISHES = (names.DELAY, names.TIMER_DELAY_SEC, names.TIMER_DELAY_MS, names.TIMER_DELIVER_MS)
_OURS = (names.REAL_TOPIC, names.REAL_QID)


class Delay(NamedTuple):
    """Until when a message waits, and in which queue of which timer topic."""

    topic: str
    queue_id: int
    due_ms: EpochMs


def delay_of(properties: str, now_ms: EpochMs) -> Delay | None:
    """What the sender asks for; None if that is no delay, or is past. Raises Refused(MESSAGE_ILLEGAL).

    A level wins over times. Of these, seconds win over milliseconds from now, and those over a point in time.
    """
    level = _number(properties, names.DELAY)
    if level is not None and level > 0:
        return of_level(level, now_ms)
    for name, unit_ms, begin_ms in (
        (names.TIMER_DELAY_SEC, 1000, now_ms),
        (names.TIMER_DELAY_MS, 1, now_ms),
        (names.TIMER_DELIVER_MS, 1, 0),
    ):
        value = _number(properties, name)
        if value is not None:
            return until(begin_ms + value * unit_ms, now_ms, name)
    return None


def of_level(level: int, now_ms: EpochMs) -> Delay:
    """`level` from 1 on; what is above the highest is the highest."""
    number = min(level, LEVEL_MAX) - 1
    return Delay(SCHEDULE_TOPIC, number, EpochMs(on_tick(now_ms + DELAY_LEVELS_MS[number])))


def until(due_ms: int, now_ms: EpochMs, what: str = "the due time") -> Delay | None:
    """None if that is past. Raises Refused(MESSAGE_ILLEGAL)."""
    if due_ms <= now_ms:
        return None
    if due_ms > DUE_MS_MAX:
        raise Refused(Reason.MESSAGE_ILLEGAL, f"{what}: {due_ms} ms since 1970; the limit is {DUE_MS_MAX}")
    return Delay(WHEEL_TIMER_TOPIC, 0, EpochMs(on_tick(due_ms)))


def _number(properties: str, name: str) -> int | None:
    if name not in properties:
        return None
    text = find_property(properties, name)
    if text is None or not (text := text.strip()):
        return None
    if _NUMBER.match(text) is None:
        raise Refused(Reason.MESSAGE_ILLEGAL, f"property {name}={text[:20]!r} is not a whole number")
    return int(text)


def without_delay(properties: str) -> str:
    """The properties without what asks for a delay."""
    if "DELAY" in properties or "TIMER_" in properties:
        for name in _WISHES:
            properties = remove_property(properties, name)
    return properties


def delayed(message: NewMessage, delay: Delay) -> NewMessage:
    """The message as it is stored until it is due. `message.topic` and `queue_id` are where it is for."""
    text = message.properties
    if "REAL_" in text or names.TIMER_OUT_MS in text:
        for name in (*_OURS, names.TIMER_OUT_MS):
            text = remove_property(text, name)
    text = (
        f"{text}{names.REAL_TOPIC}{NAME_END}{message.topic}{PAIR_END}{names.REAL_QID}{NAME_END}{message.queue_id}{PAIR_END}"
        f"{names.TIMER_OUT_MS}{NAME_END}{delay.due_ms}{PAIR_END}"
    )
    return message._replace(topic=delay.topic, queue_id=delay.queue_id, properties=text)


def delivered(stored: NewMessage) -> NewMessage | None:
    """The message that a stored one is when it is due; None if it does not say where it is for."""
    text = stored.properties
    topic, queue_id = find_property(text, names.REAL_TOPIC), find_property(text, names.REAL_QID) or "0"
    if topic is None or _NUMBER.match(queue_id) is None:
        return None
    text = without_delay(text)
    for name in _OURS:
        text = remove_property(text, name)
    return stored._replace(topic=topic, queue_id=max(0, int(queue_id)), properties=text)


def recall_handle(topic: str, broker_name: str, due_ms: EpochMs, unique_id: str) -> str:
    """What a client names to take a message back. Source: RocketMQ 5.3 RecallMessageHandle."""
    return urlsafe_b64encode(f"v1 {topic} {broker_name} {due_ms + 1} {unique_id}".encode()).decode()
