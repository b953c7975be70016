from __future__ import annotations

from posthouse.model.offsets import LogOffset
from posthouse.model.topic import TopicConfig
from posthouse.store.state_record import Kind
from posthouse.store.topic_table import TopicTable


class Steps:
    """A table, and what was decided and not yet committed."""

    def __init__(self) -> None:
        self.table = TopicTable()
        self.open: list[tuple[Kind, object, LogOffset]] = []
        self.end = 0

    def set(self, name: str, queues: int = 4) -> int:
        return self._decide(Kind.TOPIC_SET, TopicTable.set_body(TopicConfig(name, queues, queues)))

    def delete(self, name: str) -> int:
        return self._decide(Kind.TOPIC_DELETED, TopicTable.deleted_body(name))

    def _decide(self, kind: Kind, body: object) -> int:
        self.end += 10
        self.table.decide(kind, body, LogOffset(self.end))
        self.open.append((kind, body, LogOffset(self.end)))
        return self.end

    def commit(self, count: int = 100) -> None:
        for each in self.open[:count]:
            self.table.apply(*each)
        del self.open[:count]

    def committed(self) -> dict[str, tuple[int, int]]:
        """name: (id, queues) as a snapshot has them."""
        again = TopicTable()
        again.restore(self.table.snapshot())
        return {name: (topic.id, topic.config.queues) for name, topic in again.live.items()}


def test_a_topic_lives_when_it_is_decided_and_is_kept_when_it_is_committed() -> None:
    steps = Steps()
    made = steps.set("a")
    assert steps.table.live["a"].id == made
    assert steps.table.by_id(made) is steps.table.live["a"]
    assert steps.committed() == {}
    steps.commit()
    assert steps.committed() == {"a": (made, 4)}


def test_a_change_keeps_the_topic_its_id_and_its_queues() -> None:
    steps = Steps()
    made = steps.set("a")
    topic = steps.table.live["a"]
    queue = topic.queue(2)
    steps.set("a", 8)
    assert steps.table.live["a"] is topic
    assert (topic.config.queues, topic.id, topic.queue(2)) == (8, made, queue)
    steps.commit(1)
    assert steps.committed() == {"a": (made, 4)}
    steps.commit()
    assert steps.committed() == {"a": (made, 8)}


def test_a_deleted_topic_is_gone_at_once_and_its_queues_are_kept_until_the_commit() -> None:
    steps = Steps()
    made = steps.set("a")
    steps.commit()
    topic = steps.table.live["a"]
    steps.delete("a")
    assert "a" not in steps.table.live
    assert list(steps.table.all()) == [topic]
    assert steps.committed() == {"a": (made, 4)}
    steps.commit()
    assert list(steps.table.all()) == []
    assert steps.table.by_id(made) is None
    assert steps.committed() == {}


def test_a_topic_made_again_is_another_one() -> None:
    steps = Steps()
    first = steps.set("a")
    steps.commit()
    old = steps.table.live["a"]
    steps.delete("a")
    second = steps.set("a", 2)
    new = steps.table.live["a"]
    assert new is not old
    assert (old.id, new.id) == (first, second)
    assert set(steps.table.all()) == {old, new}
    steps.commit(1)
    assert list(steps.table.all()) == [new]
    assert steps.committed() == {}
    steps.commit()
    assert steps.committed() == {"a": (second, 2)}


def test_made_and_deleted_and_made_before_anything_is_committed() -> None:
    steps = Steps()
    steps.set("a")
    steps.delete("a")
    third = steps.set("a", 3)
    steps.delete("never")
    for done, want in ((1, {"a": (10, 4)}), (1, {}), (1, {"a": (third, 3)}), (1, {"a": (third, 3)})):
        steps.commit(done)
        assert steps.committed() == want
    assert [topic.id for topic in steps.table.all()] == [third]
