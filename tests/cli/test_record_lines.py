from __future__ import annotations

import json

from posthouse.cli.record_lines import STATE_CHARS_MAX, item_document, item_line
from posthouse.cli.screen import time_text
from posthouse.codec.record import decode_record
from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset
from posthouse.store.dump import Damage, Shown
from posthouse.store.state_record import Kind, StateRecord
from tests.store.test_check import message_record


def test_message_from_outside_cannot_command_the_terminal() -> None:
    record = decode_record(message_record(0, 0, topic="o\x1b[2Jx"))
    assert "\x1b" not in item_line(Shown(LogOffset(0), 90, record), True)


def test_doubt_is_said() -> None:
    record = decode_record(message_record(0, 0))
    assert "(recognised in damage)" in item_line(Shown(LogOffset(0), 90, record, is_sure=False), False)
    assert json.loads(item_document(Shown(LogOffset(0), 90, record, is_sure=False), False))["sure"] is False


def test_long_state_is_cut_on_a_line_and_whole_in_json() -> None:
    state = StateRecord(Kind.OFFSETS, {"group": {"x" * 1000: {"0": 1}}}, LogOffset(5), EpochMs(1_700_000_000_000))
    item = Shown(LogOffset(5), 1100, state)
    assert len(item_line(item, False)) < STATE_CHARS_MAX + 60
    assert json.loads(item_document(item, False))["content"] == state.body


def test_damage_is_a_line_of_its_own() -> None:
    damage = Damage("log/1.log", LogOffset(10), LogOffset(30), "zeros")
    assert item_line(damage, False) == "!! 20 bytes at 10 are damaged (log/1.log): zeros"
    assert json.loads(item_document(damage, False))["end"] == 30


def test_delayed_message_says_when_it_is_due_and_where_and_what_is_delivered_says_for_which() -> None:
    record = decode_record(message_record(0, 0, topic="SCHEDULE_TOPIC_XXXX"))
    record.properties = {"TIMER_OUT_MS": "1700000000000", "REAL_TOPIC": "orders"}
    line = item_line(Shown(LogOffset(0), 90, record), False)
    assert f"(due {time_text(1_700_000_000_000)} in orders)" in line
    record.properties["TIMER_OUT_MS"] = "9" * 18
    assert "(due ? in orders)" in item_line(Shown(LogOffset(0), 90, record), False)
    delivered = decode_record(message_record(0, 0, topic="orders"))
    delivered.prepared_transaction_offset = LogOffset(4096)
    shown = Shown(LogOffset(9000), 90, delivered)
    assert "(replaces 4096)" in item_line(shown, False)
    assert json.loads(item_document(shown, False))["replaces"] == 4096
