"""Names of topics and groups: what is legal, what is reserved, how derived names are made.

Source: RocketMQ 5.3 TopicValidator and its table of system topics.
"""

from __future__ import annotations

import re

from posthouse.model.limits import GROUP_CHARS_MAX, RESERVED_TOPIC_CHARS_MAX, TOPIC_CHARS_MAX
from posthouse.model.refusal import Reason, Refused

RETRY_PREFIX = "%RETRY%"
DEAD_LETTER_PREFIX = "%DLQ%"
SYSTEM_PREFIX = "rmq_sys_"
AUTO_CREATE_TOPIC = "TBW102"
"""The template from which unknown topics are made."""

TRACE_TOPIC = "RMQ_SYS_TRACE_TOPIC"
"""Where clients that trace say what they do with messages."""

_LEGAL = re.compile(r"[%|a-zA-Z0-9_-]+\Z")

SCHEDULE_TOPIC = "SCHEDULE_TOPIC_XXXX"
"""Messages that wait for one of the delay levels: a queue for each."""
WHEEL_TIMER_TOPIC = "rmq_sys_wheel_timer"
"""Messages that wait for any other time."""
TIMER_TOPICS = frozenset({SCHEDULE_TOPIC, WHEEL_TIMER_TOPIC})

CLOSED_TOPICS = frozenset(
    {
        SCHEDULE_TOPIC,
        WHEEL_TIMER_TOPIC,
        "RMQ_SYS_TRANS_HALF_TOPIC",
        "RMQ_SYS_TRANS_OP_HALF_TOPIC",
        "TRANS_CHECK_MAX_TIME_TOPIC",
        "SELF_TEST_TOPIC",
        "OFFSET_MOVED_EVENT",
    }
)
"""System topics that no client may send to."""

SYSTEM_TOPICS = CLOSED_TOPICS | {
    AUTO_CREATE_TOPIC,
    "BenchmarkTest",
    TRACE_TOPIC,
    "CHECKPOINT_TOPIC",
}

SYSTEM_GROUPS = frozenset(
    {
        "CLIENT_INNER_PRODUCER",
        "FILTERSRV_CONSUMER",
        "SCHEDULE_CONSUMER",
        "SELF_TEST_C_GROUP",
        "SELF_TEST_P_GROUP",
        "TOOLS_CONSUMER",
        "__MONITOR_CONSUMER",
    }
)


def retry_topic(group: str) -> str:
    return RETRY_PREFIX + group


def is_retry_topic_of(group: str, topic: str) -> bool:
    """Whether it holds what the group has to consume again: its retry topic, or those that pop makes for each topic."""
    name = RETRY_PREFIX + group
    return topic.startswith(name) and topic[len(name) : len(name) + 1] in ("", "_", "+")


def dead_letter_topic(group: str) -> str:
    return DEAD_LETTER_PREFIX + group


def reply_topic(cluster: str) -> str:
    """Where answers to requests go; whoever answers makes the name from the request's property CLUSTER."""
    return f"{cluster}_REPLY_TOPIC"


def is_system_topic(topic: str) -> bool:
    return topic in SYSTEM_TOPICS or topic.startswith(SYSTEM_PREFIX)


def check_topic(topic: str) -> None:
    """Raises Refused(INVALID_PARAMETER) with the rule that the name breaks."""
    reserved = topic.startswith((RETRY_PREFIX, DEAD_LETTER_PREFIX))
    _check("topic", topic, RESERVED_TOPIC_CHARS_MAX if reserved else TOPIC_CHARS_MAX)


def check_group(group: str) -> None:
    """Raises Refused(INVALID_PARAMETER) with the rule that the name breaks."""
    _check("group", group, GROUP_CHARS_MAX)


def _check(kind: str, name: str, chars_max: int) -> None:
    if not name:
        raise Refused(Reason.INVALID_PARAMETER, f"the {kind} name is empty")
    if len(name) > chars_max:
        raise Refused(Reason.INVALID_PARAMETER, f"the {kind} name has {len(name)} characters; the limit is {chars_max}")
    if _LEGAL.match(name) is None:
        raise Refused(
            Reason.INVALID_PARAMETER,
            f"the {kind} name {name[:60]!r} has a character outside A-Z a-z 0-9 % | _ -",
        )
