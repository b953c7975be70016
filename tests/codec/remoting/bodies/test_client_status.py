"""What a consumer says of itself comes back as it was; Java's own texts are read."""

from __future__ import annotations

import pytest

from posthouse.codec.remoting.bodies.client_status import (
    decode_client_offsets,
    decode_direct_result,
    decode_reset_offsets,
    decode_running_info,
    encode_client_offsets,
    encode_direct_result,
    encode_running_info,
)
from posthouse.codec.remoting.frame import WireError
from posthouse.host.clock import EpochMs
from posthouse.model.client_status import ConsumeRates, DirectOutcome, DirectResult, QueueStatus, RunningInfo
from posthouse.model.filter import parse_subscription
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset

QUEUE = MessageQueue("t", "broker-a", 3)

INFO = RunningInfo(
    {"PROP_CONSUME_TYPE": "CONSUME_PASSIVELY", "PROP_CONSUMEORDERLY": "true"},
    (parse_subscription("t", "A || B", version=7), parse_subscription("%RETRY%g", "*", version=7)),
    {
        QUEUE: QueueStatus(
            QueueOffset(5), QueueOffset(6), QueueOffset(9), 4, 2 * 1024 * 1024, True,
            EpochMs(10), False, EpochMs(11), EpochMs(12),
        ),
        QUEUE._replace(queue_id=4): QueueStatus(QueueOffset(0)),
    },
    {"t": ConsumeRates(1.5, 2.5, 3.5, 4.5, 0.5, 6)},
    "a stack\nof two lines",
)  # fmt: skip


def test_all_about_a_consumer_comes_back_as_it_was() -> None:
    assert decode_running_info(encode_running_info(INFO)) == INFO
    assert decode_running_info(encode_running_info(RunningInfo())) == RunningInfo()


def test_names_are_those_that_the_java_tools_read() -> None:
    text = encode_running_info(INFO).decode()
    assert '"mqTable":{{"brokerName":"broker-a","queueId":3,"topic":"t"}:{' in text
    for name in ("cachedMsgSizeInMiB", "droped", "consumeOKTPS", "pullRT", "jstack", "subscriptionSet", "properties"):
        assert f'"{name}":' in text


@pytest.mark.parametrize("outcome", DirectOutcome)
def test_the_result_of_a_message_comes_back_as_it_was(outcome: DirectOutcome) -> None:
    result = DirectResult(outcome, "why", 12, ordered=True)
    assert decode_direct_result(encode_direct_result(result)) == result


def test_an_unknown_result_is_refused() -> None:
    with pytest.raises(WireError, match="no result"):
        decode_direct_result(b'{"consumeResult":"CR_MAYBE"}')


def test_offsets_of_a_client_come_back_as_they_were() -> None:
    offsets = {QUEUE: QueueOffset(7), QUEUE._replace(queue_id=0): QueueOffset(0)}
    assert decode_client_offsets(encode_client_offsets(offsets)) == offsets


@pytest.mark.parametrize(
    "text",
    [
        b'{"offsetTable":{{"brokerName":"broker-a","queueId":3,"topic":"t"}:9}}',
        b'{"offsetTable":[{"topic":"t","brokerName":"broker-a","queueId":3,"offset":9}]}',
    ],
)
def test_a_reset_is_read_in_both_its_forms(text: bytes) -> None:
    assert decode_reset_offsets(text) == {QUEUE: 9}


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b'{"offsetTable":7}',
        b'{"offsetTable":{{"brokerName":"broker-a","queueId":3,"topic":"t"}:-1}}',
        b'{"offsetTable":[{"topic":"t","brokerName":"broker-a","queueId":3}]}',
        b'{"offsetTable":[3]}',
    ],
)
def test_a_reset_that_says_nothing_is_refused(text: bytes) -> None:
    with pytest.raises(WireError):
        decode_reset_offsets(text)
