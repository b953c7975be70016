"""What a sender asks for by its properties, and what becomes of the message."""

from __future__ import annotations

from base64 import urlsafe_b64decode

import pytest

from posthouse.broker.delays import Delay, delay_of, delayed, delivered, of_level, recall_handle, until, without_delay
from posthouse.host.clock import EpochMs
from posthouse.model.limits import DUE_MS_MAX
from posthouse.model.names import SCHEDULE_TOPIC, WHEEL_TIMER_TOPIC
from posthouse.model.properties import decode_properties, encode_properties
from posthouse.model.refusal import Reason, Refused
from tests.broker.brokers import message

NOW = EpochMs(1_700_000_000_050)


def asked(**properties: str) -> Delay | None:
    return delay_of(encode_properties(properties), NOW)


@pytest.mark.parametrize(
    "level, queue_id, delay_ms",
    [
        ("1", 0, 1000),
        ("2", 1, 5000),
        ("3", 2, 10_000),
        ("18", 17, 7_200_000),
        ("19", 17, 7_200_000),
        ("999", 17, 7_200_000),
    ],
)
def test_a_level_is_a_queue_and_a_time(level: str, queue_id: int, delay_ms: int) -> None:
    found = asked(DELAY=level)
    assert found is not None
    assert found[:2] == (SCHEDULE_TOPIC, queue_id)
    assert NOW + delay_ms <= found.due_ms < NOW + delay_ms + 100


@pytest.mark.parametrize(
    "properties, due_ms",
    [
        ({"TIMER_DELAY_SEC": "3"}, NOW + 3000),
        ({"TIMER_DELAY_MS": "250"}, NOW + 250),
        ({"TIMER_DELIVER_MS": str(NOW + 12_345)}, NOW + 12_345),
        ({"TIMER_DELAY_SEC": "3", "TIMER_DELAY_MS": "9", "TIMER_DELIVER_MS": "9"}, NOW + 3000),
        ({"TIMER_DELAY_MS": "250", "TIMER_DELIVER_MS": str(NOW + 9000)}, NOW + 250),
        ({"TIMER_DELAY_SEC": str(86_400 * 400)}, NOW + 86_400_000 * 400),
        ({"DELAY": "0", "TIMER_DELAY_SEC": "3"}, NOW + 3000),
    ],
)
def test_a_time_is_rounded_up_to_a_tick(properties: dict[str, str], due_ms: int) -> None:
    found = asked(**properties)
    assert found is not None
    assert found[:2] == (WHEEL_TIMER_TOPIC, 0)
    assert found.due_ms % 100 == 0
    assert due_ms <= found.due_ms < due_ms + 100


def test_a_level_wins_over_times() -> None:
    found = asked(DELAY="1", TIMER_DELAY_SEC="100")
    assert found == of_level(1, NOW)


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"DELAY": "0"},
        {"DELAY": "-1"},
        {"TIMER_DELAY_SEC": "0"},
        {"TIMER_DELAY_MS": "-5"},
        {"TIMER_DELIVER_MS": str(NOW)},
        {"TIMER_DELIVER_MS": "12"},
        {"MY_DELAY": "3", "x": "TIMER_DELAY_SEC"},
    ],
)
def test_no_delay_and_what_is_past_is_an_ordinary_message(properties: dict[str, str]) -> None:
    assert asked(**properties) is None


@pytest.mark.parametrize("name", ["DELAY", "TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS"])
@pytest.mark.parametrize("value", ["x", "1.5", "1e3", "١", "9" * 19, "1 2"])
def test_what_is_no_number_is_refused(name: str, value: str) -> None:
    with pytest.raises(Refused) as refused:
        asked(**{name: value})
    assert refused.value.reason is Reason.MESSAGE_ILLEGAL
    assert name in refused.value.remark


def test_a_time_after_the_last_year_is_refused() -> None:
    assert until(DUE_MS_MAX, NOW) is not None
    with pytest.raises(Refused):
        until(DUE_MS_MAX + 1, NOW)
    with pytest.raises(Refused):
        asked(TIMER_DELAY_SEC="9" * 18)


def test_a_delayed_message_comes_out_as_it_went_in_but_for_its_wish() -> None:
    text = encode_properties({"DELAY": "3", "k": "v", "TAGS": "A", "REAL_TOPIC": "forged", "TIMER_OUT_MS": "7"})
    new = message("T", queue_id=5, properties=text)._replace(reconsume_times=3, flag=9)
    stored = delayed(new, Delay(SCHEDULE_TOPIC, 2, EpochMs(NOW + 50)))
    assert (stored.topic, stored.queue_id) == (SCHEDULE_TOPIC, 2)
    assert decode_properties(stored.properties)["REAL_TOPIC"] == "T"
    out = delivered(stored)
    assert out is not None
    assert decode_properties(out.properties) == {"k": "v", "TAGS": "A", "TIMER_OUT_MS": str(NOW + 50)}
    assert out._replace(properties="") == new._replace(properties="")


def test_a_stored_message_without_a_place_is_none() -> None:
    assert delivered(message(SCHEDULE_TOPIC, properties="REAL_QID\x011\x02")) is None
    assert delivered(message(SCHEDULE_TOPIC, properties="REAL_TOPIC\x01T\x02REAL_QID\x01x\x02")) is None


def test_only_the_wish_is_taken_away() -> None:
    text = "a\x01b\x02DELAY\x013\x02MY_DELAY\x014\x02TIMER_DELAY_SEC\x015\x02"
    assert without_delay(text) == "a\x01b\x02MY_DELAY\x014\x02"


def test_a_recall_handle_names_the_message_and_the_end_of_its_tick() -> None:
    handle = recall_handle("T", "broker-a", EpochMs(1000), "ID")
    assert urlsafe_b64decode(handle) == b"v1 T broker-a 1001 ID"
