from __future__ import annotations

from posthouse.model.refusal import Reason, Refused


def test_a_refusal_carries_its_reason_and_a_sentence() -> None:
    refused = Refused(Reason.BUSY, "the disk is behind; try again")
    assert (refused.reason, refused.remark) == (Reason.BUSY, "the disk is behind; try again")
    assert str(refused) == "the disk is behind; try again"
    assert repr(refused) == "Refused(BUSY, 'the disk is behind; try again')"
