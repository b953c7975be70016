"""How things look on a screen, and the keys of the JSON."""

from __future__ import annotations

import json

import pytest

from posthouse.cli.screen import (
    CELL_CHARS_MAX,
    body_text,
    message_document,
    message_line,
    printable,
    show_json,
    show_table,
    time_text,
)
from posthouse.host.clock import EpochMs
from posthouse.model.message import Endpoint, StoredMessage
from posthouse.model.offsets import LogOffset, QueueOffset


def stored(body: bytes = b"first mail", **properties: str) -> StoredMessage:
    return StoredMessage(
        topic="hello", queue_id=3, queue_offset=QueueOffset(42), log_offset=LogOffset(1000), body=body,
        properties=properties, flag=0, sys_flag=0, born_at_ms=EpochMs(1000), born_host=Endpoint(b"\x7f\0\0\1", 5),
        stored_at_ms=EpochMs(2000), store_host=Endpoint(b"\x7f\0\0\1", 10911), reconsume_times=0,
        prepared_transaction_offset=LogOffset(0), store_size_bytes=100, body_crc=0, broker_name="broker-a",
    )  # fmt: skip


def test_table_aligns_words_left_and_numbers_right(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("queue", "topic", "max"), [(0, "hello", 7), (11, "x", 1234)])
    assert capsys.readouterr().out == "queue  topic   max\n    0  hello     7\n   11  x      1234\n"


def test_table_without_rows_is_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("topic",), [])
    assert capsys.readouterr().out == "topic\n"


def test_json_is_one_line_and_keeps_letters_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"body": "驿站\n"})
    assert capsys.readouterr().out == '{"body": "驿站\\n"}\n'


def test_text_cannot_command_the_terminal() -> None:
    assert printable("a\x1b[2Jb\r\n\tc") == "a\\x1b[2Jb\\r\\n\\tc"
    assert printable("驿站 é") == "驿站 é"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"first mail", "first mail"),
        ("驿站".encode(), "驿站"),
        (b"two\nlines", "two\\nlines"),
        (b"", ""),
        (b"\xff\x00", "<2 bytes: ff00>"),
        (b"a\0b", "<3 bytes: 610062>"),
        (b"\xff" * 65, f"<65 bytes: {'ff' * 64}…>"),
    ],
)
def test_body_is_shown_as_text_or_else_in_hex(body: bytes, shown: str) -> None:
    assert body_text(body) == shown


def test_line_of_a_message_has_a_place_for_everything() -> None:
    when = time_text(2000)
    assert message_line(stored(), b"first mail") == f"{when}  3:42  -  -  first mail"
    assert message_line(stored(TAGS="a", KEYS="k1 k2"), b"x") == f"{when}  3:42  a  k1,k2  x"


def test_keys_of_the_json_stay_as_they_are() -> None:
    document = message_document(stored(KEYS="k1 k2", UNIQ_KEY="AB"), b"\xff")
    assert json.loads(json.dumps(document)) == {
        "topic": "hello", "broker": "broker-a", "queue": 3, "offset": 42, "message_id": "AB", "tag": "",
        "keys": ["k1", "k2"], "properties": {"KEYS": "k1 k2", "UNIQ_KEY": "AB"}, "born_at_ms": 1000,
        "stored_at_ms": 2000, "reconsume_times": 0, "body": None, "body_base64": "/w==",
    }  # fmt: skip
    assert message_document(stored(), b"x") | {"body": "x", "body_base64": None} == message_document(stored(), b"x")


def test_a_long_body_is_cut_where_a_table_shows_it() -> None:
    assert body_text(b"x" * CELL_CHARS_MAX, CELL_CHARS_MAX) == "x" * CELL_CHARS_MAX
    assert body_text(b"x" * 5000, CELL_CHARS_MAX) == "x" * CELL_CHARS_MAX + "… (5000 bytes)"
    assert body_text(b"x" * 5000) == "x" * 5000
