"""Hypothesis strategies for the codec's values, and the two checks that every reader of bytes must pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from hypothesis import strategies as st

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers.numbers import Int32, Int64
from posthouse.host.clock import EpochMs
from posthouse.model.filter import Subscription
from posthouse.model.group import ConsumeFrom, ConsumeType, Membership, MessageModel
from posthouse.model.message import Endpoint, MessageQueue, NewMessage
from posthouse.model.route import BrokerData, DataVersion
from posthouse.model.topic import TopicConfig

int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
count = st.integers(0, 2**31 - 1)

# A map of text with this one name and nothing else cannot be told from fastjson's back-references.
word = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda each: each != "$ref")
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(lambda each: each != "$ref")
property_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x01\x02"), min_size=1, max_size=30
)
properties = st.dictionaries(property_text, property_text, max_size=6)
text_map = st.dictionaries(word, text, max_size=4)

endpoints = st.builds(Endpoint, st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16), int32)
queues = st.builds(MessageQueue, word, word, int32)
versions = st.builds(DataVersion, int64, int64, int64)
topic_configs = st.builds(
    TopicConfig, word, count, count, st.integers(0, 15), st.sampled_from(["SINGLE_TAG", "MULTI_TAG"]), count,
    st.booleans(), st.dictionaries(word, word, max_size=3),
)  # fmt: skip
brokers = st.builds(
    BrokerData,
    word,
    word,
    st.dictionaries(st.integers(0, 2**63 - 1), word, max_size=4),
    st.none() | word,
    st.booleans(),
)
new_messages = st.builds(
    NewMessage,
    topic=st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    queue_id=int32,
    body=st.binary(max_size=200),
    properties=st.just(""),
    flag=int32,
    sys_flag=int32,
    born_at_ms=int64.map(EpochMs),
    born_host=endpoints,
    reconsume_times=int32,
)


@st.composite
def subscriptions(draw: st.DrawFn) -> Subscription:
    tags = draw(st.frozensets(word, max_size=3))
    hashes = draw(st.frozensets(int32, min_size=1, max_size=3)) if tags else frozenset()
    expression_type = draw(st.sampled_from(["TAG", "SQL92"]))
    return Subscription(draw(word), draw(word), expression_type, draw(int64), tags, hashes, draw(st.booleans()))


memberships = st.builds(
    Membership,
    word,
    st.sampled_from(ConsumeType),
    st.sampled_from(MessageModel),
    st.sampled_from(ConsumeFrom),
    st.lists(subscriptions(), max_size=3).map(tuple),
)

json_values = st.recursive(
    st.none() | st.booleans() | int64 | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)

_OF_TYPE: dict[Any, st.SearchStrategy[Any]] = {str: text, bool: st.booleans(), Int32: int32, Int64: int64}


def headers(struct_type: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    """Any header of that type, optional members there or not."""
    members: dict[str, st.SearchStrategy[Any]] = {}
    for each in msgspec.structs.fields(struct_type):
        plain = {kind: strategy for kind, strategy in _OF_TYPE.items() if each.type in (kind, kind | None)}
        assert plain, f"{struct_type.__name__}.{each.name}: {each.type}"
        (strategy,) = plain.values()
        members[each.name] = strategy if each.type in plain else st.none() | strategy
    return st.builds(struct_type, **members)


def wire_names(header_type: HeaderType[Any]) -> set[str]:
    """The names on the wire, with `?` after those that may be absent: the notation of protocol tables."""
    return {
        each.encode_name + ("" if each.required else "?") for each in msgspec.structs.fields(header_type.struct_type)
    }


def gives_a_value_or(error: type[Exception], decode: Callable[[bytes], object], data: bytes) -> None:
    """The only exception that may come out is the named one."""
    try:
        decode(data)
    except error:
        pass


def damaged(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes that are almost right: cut short, or with some bytes changed. A reader gets further with these."""

    @st.composite
    def damage(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(whole))
        for _ in range(draw(st.integers(0, 3))):
            if data:
                data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)

    return damage()


def samples(data: Iterable[bytes]) -> st.SearchStrategy[bytes]:
    """Any bytes at all, or damaged ones of these."""
    return st.binary(max_size=200) | damaged(st.sampled_from(list(data)))
