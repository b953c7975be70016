from __future__ import annotations

import pytest

from posthouse.model.topic import Perm, TopicConfig


@pytest.mark.parametrize(
    ("perm", "readable", "writable"),
    [(Perm.READ_WRITE, True, True), (Perm.READ, True, False), (Perm.WRITE, False, True), (Perm.INHERIT, False, False)],
)
def test_permission_bits_say_what_may_be_done(perm: int, readable: bool, writable: bool) -> None:
    config = TopicConfig("t", perm=perm)
    assert (config.readable, config.writable) == (readable, writable)


def test_a_topic_has_the_queues_of_its_wider_side() -> None:
    assert TopicConfig("t", read_queues=4, write_queues=8).queues == 8
    assert TopicConfig("t", read_queues=8, write_queues=4).queues == 8
