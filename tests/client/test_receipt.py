from __future__ import annotations

from posthouse.client.receipt import SendReceipt, SendStatus
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset


def test_the_four_ways_of_being_stored_have_the_numbers_of_their_answers() -> None:
    assert {status.name: int(status) for status in SendStatus} == {
        "SEND_OK": 0,
        "FLUSH_DISK_TIMEOUT": 10,
        "SLAVE_NOT_AVAILABLE": 11,
        "FLUSH_SLAVE_TIMEOUT": 12,
    }


def test_broker_that_says_nothing_of_durability_is_taken_at_its_word() -> None:
    receipt = SendReceipt("m", "o", MessageQueue("t", "b", 1), QueueOffset(5), SendStatus.SEND_OK, "r")
    assert receipt.durability is None


def test_a_receipt_is_a_value() -> None:
    def receipt() -> SendReceipt:
        return SendReceipt("m", "o", MessageQueue("t", "b", 1), QueueOffset(5), SendStatus.SEND_OK, "r")

    assert receipt() == receipt()
    assert len({receipt(), receipt()}) == 1
