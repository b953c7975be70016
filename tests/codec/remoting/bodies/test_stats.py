from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.stats import (
    decode_broker_consume_stats,
    decode_group_stats,
    decode_runtime_info,
    decode_topic_stats,
    decode_windows,
    encode_broker_consume_stats,
    encode_group_stats,
    encode_runtime_info,
    encode_topic_stats,
    encode_windows,
)
from posthouse.codec.remoting.frame import WireError
from posthouse.host.clock import EpochMs
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.stats import (
    BrokerConsumeStats,
    GroupStats,
    QueueBounds,
    QueueProgress,
    TopicStats,
    Window,
    Windows,
)
from tests.codec.strategies import gives_a_value_or, int64, queues, samples, word

rates = st.floats(0, 1e9)
offsets = int64.map(QueueOffset)
times = int64.map(EpochMs)
topic_stats = st.builds(
    TopicStats, st.dictionaries(queues, st.builds(QueueBounds, offsets, offsets, times), max_size=4), rates
)
group_stats = st.builds(
    GroupStats,
    st.dictionaries(queues, st.builds(QueueProgress, offsets, offsets, offsets, times), max_size=4),
    rates,
)
window_stats = st.builds(Windows, *[st.builds(Window, int64, rates, rates)] * 3)
broker_stats = st.builds(
    BrokerConsumeStats, st.dictionaries(word, st.lists(group_stats, max_size=2).map(tuple), max_size=2), word
)
QUEUE = MessageQueue("t", "b", 0)
BOUNDS = TopicStats({QUEUE: QueueBounds(QueueOffset(1), QueueOffset(5), EpochMs(9))}, 0.5)
PROGRESS = GroupStats({QUEUE: QueueProgress(QueueOffset(5), QueueOffset(2), QueueOffset(4), EpochMs(9))}, 0.5)


@given(topic_stats)
def test_topic_figures_that_were_encoded_are_decoded(stats: TopicStats) -> None:
    assert decode_topic_stats(encode_topic_stats(stats)) == stats


@given(group_stats)
def test_group_figures_that_were_encoded_are_decoded(stats: GroupStats) -> None:
    assert decode_group_stats(encode_group_stats(stats)) == stats


def test_tables_are_keyed_by_whole_queues() -> None:
    assert encode_topic_stats(BOUNDS) == (
        b'{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"t"}:{"lastUpdateTimestamp":9,"maxOffset":5,'
        b'"minOffset":1}},"topicPutTps":0.5}'
    )
    assert encode_group_stats(PROGRESS) == (
        b'{"consumeTps":0.5,"offsetTable":{{"brokerName":"b","queueId":0,"topic":"t"}:{"brokerOffset":5,'
        b'"consumerOffset":2,"lastTimestamp":9,"pullOffset":4}}}'
    )


def test_key_may_be_the_text_of_a_queue() -> None:
    data = b'{"offsetTable":{"{\\"brokerName\\":\\"b\\",\\"queueId\\":0,\\"topic\\":\\"t\\"}":{"maxOffset":5}}}'
    assert decode_topic_stats(data) == TopicStats({QUEUE: QueueBounds(QueueOffset(0), QueueOffset(5), EpochMs(0))})


@pytest.mark.parametrize(
    "data", [b'{"offsetTable":{"x":{}}}', b'{"offsetTable":[]}', b"[]", b"", b'{"consumeTps":' + b"9" * 400 + b"}"]
)
def test_wrong_table_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_group_stats(data)


def test_runtime_figures_are_a_table_of_text() -> None:
    data = encode_runtime_info({"putTps": "0.0 0.0 0.0", "bootTimestamp": "1"})
    assert data == b'{"table":{"putTps":"0.0 0.0 0.0","bootTimestamp":"1"}}'
    assert decode_runtime_info(data) == {"putTps": "0.0 0.0 0.0", "bootTimestamp": "1"}


@given(window_stats)
def test_windows_that_were_encoded_are_decoded(windows: Windows) -> None:
    assert decode_windows(encode_windows(windows)) == windows


@given(broker_stats)
def test_figures_of_all_groups_that_were_encoded_are_decoded(stats: BrokerConsumeStats) -> None:
    assert decode_broker_consume_stats(encode_broker_consume_stats(stats)) == stats


def test_windows_have_rocketmqs_names() -> None:
    data = encode_windows(Windows(Window(6, 0.5, 2.0), Window(7), Window(8)))
    assert data == (
        b'{"statsDay":{"avgpt":0.0,"sum":8,"tps":0.0},"statsHour":{"avgpt":0.0,"sum":7,"tps":0.0},'
        b'"statsMinute":{"avgpt":2.0,"sum":6,"tps":0.5}}'
    )
    assert decode_windows(b'{"statsMinute":{"sum":6}}') == Windows(Window(6))


def test_figures_of_all_groups_have_their_totals() -> None:
    data = encode_broker_consume_stats(BrokerConsumeStats({"g": (PROGRESS,)}, "10.0.0.1:10911"))
    assert data.startswith(b'{"brokerAddr":"10.0.0.1:10911","consumeStatsList":[{"g":[{"consumeTps":0.5,')
    assert data.endswith(b'"totalDiff":3,"totalInflightDiff":2}')


@pytest.mark.parametrize("data", [b"{}", b"[]", b'{"consumeStatsList":[1]}', b'{"consumeStatsList":[{"g":1}]}'])
def test_wrong_list_of_groups_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_broker_consume_stats(data)


WHOLE = [
    encode_topic_stats(BOUNDS),
    encode_group_stats(PROGRESS),
    encode_broker_consume_stats(BrokerConsumeStats({"g": (PROGRESS,)}, "b")),
    encode_windows(Windows(Window(1, 1.0, 1.0))),
]


@given(samples(WHOLE))
def test_any_bytes_are_figures_or_a_wire_error(data: bytes) -> None:
    decoders = (
        decode_topic_stats,
        decode_group_stats,
        decode_runtime_info,
        decode_broker_consume_stats,
        decode_windows,
    )
    for decode in decoders:
        gives_a_value_or(WireError, decode, data)
