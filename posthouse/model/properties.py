"""Properties of a message: a map of text to text, kept in one string as `name U+0001 value U+0002 ...`.

The names that RocketMQ gives a meaning are here, once. There is no escaping: neither names nor values may hold
the two separators. The broker edits the encoded text and never builds the map on its hot path.
Source: RocketMQ 5.3 MessageDecoder, MessageConst.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

NAME_END = "\x01"
PAIR_END = "\x02"

KEYS = "KEYS"
TAGS = "TAGS"
WAIT = "WAIT"
DELAY = "DELAY"
TIMER_DELAY_SEC = "TIMER_DELAY_SEC"
TIMER_DELAY_MS = "TIMER_DELAY_MS"
TIMER_DELIVER_MS = "TIMER_DELIVER_MS"
TIMER_OUT_MS = "TIMER_OUT_MS"
"""When a delayed message is due. The broker's own; it stays on the message that is delivered."""
REAL_TOPIC = "REAL_TOPIC"
REAL_QID = "REAL_QID"
"""Where a message goes that is kept in a system topic for now."""
UNIQ_KEY = "UNIQ_KEY"
CLUSTER = "CLUSTER"
MSG_REGION = "MSG_REGION"
TRACE_ON = "TRACE_ON"
POP_CK = "POP_CK"
FIRST_POP_TIME = "1ST_POP_TIME"
TRAN_MSG = "TRAN_MSG"
RETRY_TOPIC = "RETRY_TOPIC"
RECONSUME_TIME = "RECONSUME_TIME"
MAX_RECONSUME_TIMES = "MAX_RECONSUME_TIMES"
ORIGIN_MESSAGE_ID = "ORIGIN_MESSAGE_ID"
DLQ_ORIGIN_TOPIC = "DLQ_ORIGIN_TOPIC"
DLQ_ORIGIN_MESSAGE_ID = "DLQ_ORIGIN_MESSAGE_ID"
DLQ_REASON = "DLQ_REASON"
"""Why a message is a dead letter: a word of broker.retries. Ours; the two before are RocketMQ's."""
DLQ_ATTEMPTS = "DLQ_ATTEMPTS"
"""How often a handler had the message before it became a dead letter. Ours."""
REDRIVEN_FROM = "REDRIVEN_FROM"
"""On a message that was sent again: the place of the dead letter, by which it is known that this was done. Ours."""
REDRIVES = "REDRIVES"
"""How often it was sent again, all its deaths together. Ours."""
SHARDING_KEY = "__SHARDINGKEY"
CORRELATION_ID = "CORRELATION_ID"
REPLY_TO_CLIENT = "REPLY_TO_CLIENT"
TTL = "TTL"
MSG_TYPE = "MSG_TYPE"
PUSH_REPLY_TIME = "PUSH_REPLY_TIME"
MIN_OFFSET = "MIN_OFFSET"
MAX_OFFSET = "MAX_OFFSET"

DEFAULT_REGION = "DefaultRegion"


def encode_properties(properties: Mapping[str, str]) -> str:
    """One string, a separator after every pair.

    Raises ValueError if a name or value holds a separator, or a name is empty.
    """
    parts: list[str] = []
    for name, value in properties.items():
        if not name or NAME_END in name or PAIR_END in name or NAME_END in value or PAIR_END in value:
            raise ValueError(
                f"property {name!r} is empty or holds U+0001 or U+0002, which separate properties on the wire"
            )
        parts.append(f"{name}{NAME_END}{value}{PAIR_END}")
    return "".join(parts)


def decode_properties(text: str) -> dict[str, str]:
    """The map. Pairs without a separator or without a value are dropped, the last of two equal names wins."""
    found: dict[str, str] = {}
    for pair in text.split(PAIR_END):
        name, separator, value = pair.partition(NAME_END)
        if separator and name and value:
            found[name] = value
    return found


def find_property(text: str, name: str) -> str | None:
    """The value that `decode_properties` would give, without decoding the rest. None if absent."""
    wanted = name + NAME_END
    at = text.rfind(PAIR_END + wanted)
    if at >= 0:
        start = at + len(wanted) + 1
    elif text.startswith(wanted):
        start = len(wanted)
    else:
        return None
    end = text.find(PAIR_END, start)
    found = text[start:end] if end >= 0 else text[start:]
    return found or decode_properties(text).get(name)  # the last one with a value wins


def property_finder(name: str) -> Callable[[str], str | None]:
    """`find_property` for one name that is looked for in every message."""
    wanted = name + NAME_END
    inside, inside_chars, chars = PAIR_END + wanted, len(wanted) + 1, len(wanted)

    def find(text: str) -> str | None:
        at = text.rfind(inside)
        if at >= 0:
            start = at + inside_chars
        elif text.startswith(wanted):
            start = chars
        else:
            return None
        end = text.find(PAIR_END, start)
        found = text[start:end] if end >= 0 else text[start:]
        return found or decode_properties(text).get(name)

    return find


def remove_property(text: str, name: str) -> str:
    """The encoded text without that property, however often it is in there, and with a separator after every pair."""
    wanted = name + NAME_END
    if not text.startswith(wanted) and PAIR_END + wanted not in text:
        return text
    return "".join(pair + PAIR_END for pair in text.split(PAIR_END) if pair and not pair.startswith(wanted))


def set_property(text: str, name: str, value: str) -> str:
    """The encoded text with that property, once, at its end."""
    return f"{remove_property(text, name)}{name}{NAME_END}{value}{PAIR_END}"
