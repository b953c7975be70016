"""What a dead letter says of itself."""

from __future__ import annotations

from posthouse.broker.dead_letters import DeathReason, dead_letter
from posthouse.model.properties import decode_properties, encode_properties
from tests.broker.brokers import message


def properties_of(text: dict[str, str], topic: str = "T") -> dict[str, str]:
    new = message(topic, properties=encode_properties(text), queue_id=3)
    dead = dead_letter(new, "G", DeathReason.ATTEMPTS, 16, "PLACE")
    assert (dead.topic, dead.queue_id, dead.body) == ("%DLQ%G", 0, new.body)
    return decode_properties(dead.properties)


def test_a_dead_letter_names_where_it_came_from_why_and_how_often_it_was_tried() -> None:
    assert properties_of({"UNIQ_KEY": "id1", "TAGS": "A", "k": "v"}) == {
        "UNIQ_KEY": "id1",
        "TAGS": "A",
        "k": "v",
        "DLQ_ORIGIN_TOPIC": "T",
        "DLQ_ORIGIN_MESSAGE_ID": "id1",
        "DLQ_REASON": "attempts",
        "DLQ_ATTEMPTS": "16",
    }


def test_the_first_topic_counts_and_not_the_retry_topic() -> None:
    found = properties_of({"RETRY_TOPIC": "T", "ORIGIN_MESSAGE_ID": "first"}, "%RETRY%G")
    assert (found["DLQ_ORIGIN_TOPIC"], found["DLQ_ORIGIN_MESSAGE_ID"]) == ("T", "first")


def test_a_message_without_any_id_is_named_by_its_place() -> None:
    assert properties_of({})["DLQ_ORIGIN_MESSAGE_ID"] == "PLACE"


def test_a_dead_letter_waits_for_nothing_and_an_earlier_death_is_overwritten() -> None:
    found = properties_of({"DELAY": "3", "TIMER_DELAY_SEC": "5", "DLQ_REASON": "old", "DLQ_ORIGIN_TOPIC": "old"})
    assert not {"DELAY", "TIMER_DELAY_SEC"} & set(found)
    assert (found["DLQ_REASON"], found["DLQ_ORIGIN_TOPIC"]) == ("attempts", "T")
