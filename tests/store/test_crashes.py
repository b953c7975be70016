"""A store over a disk that crashes, against a plain model: what was acknowledged is there for ever.

Hypothesis draws the steps: put, batch, state changes, commits that reach the disk one by one, checkpoints, clean stops,
kills and power cuts with torn tails. The model only knows what was put, in which order, and what was acknowledged.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from posthouse.model.offsets import QueueOffset
from tests.store.disks import FaultyDisk, ManualClock
from tests.store.log.recorder import turns
from tests.store.stores import Opened, open_store

TOPICS = ("a", "b")
QUEUES = 2
reopen = partial(open_store, segment_bytes=2500, batch_bytes=900, checkpoint_bytes=4000)


@dataclass
class Sent:
    """A message as the model knows it; `group` are those that are there together or not at all."""

    body: bytes
    group: int
    acknowledged: bool = False


@dataclass
class Model:
    """What was put into each queue of a topic since the topic was made, in order."""

    queues: dict[int, list[Sent]] = field(default_factory=lambda: {number: [] for number in range(QUEUES)})


class Crashes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.disk = FaultyDisk()
        self.models: dict[str, Model] = {}
        self.offsets: dict[tuple[str, int], list[int]] = {}  # every value that was ever said
        self.groups = 0
        self.opened: Opened

    def run_turns(self, count: int = 3) -> None:
        self.loop.run_until_complete(turns(count))

    @initialize()
    def begin(self) -> None:
        self.open()

    def open(self) -> None:
        async def open_it() -> Opened:
            return reopen(self.disk, self.clock)

        self.opened = self.loop.run_until_complete(open_it())
        for name in TOPICS:
            if name not in self.opened.store.topics.live:
                self.make(name)
        self.write_everything()

    def write_everything(self) -> None:
        async def write() -> None:
            self.disk.release()
            await self.opened.settled()
            await turns()

        self.loop.run_until_complete(write())
        self.disk.hold()

    def make(self, name: str) -> None:
        self.models[name] = Model()

        async def make_it() -> None:
            self.opened.topic(name, QUEUES)
            self.opened.group("g")

        self.loop.run_until_complete(make_it())

    # Steps

    @rule(topic=st.sampled_from(TOPICS), queue=st.integers(0, QUEUES - 1), size=st.integers(0, 1200))
    def put(self, topic: str, queue: int, size: int) -> None:
        self.put_group(topic, queue, [size])

    @rule(sizes=st.lists(st.integers(0, 900), min_size=2, max_size=15))
    def put_a_burst(self, sizes: list[int]) -> None:
        """Several batches of the log in one commit."""
        for number, size in enumerate(sizes):
            self.put_group(TOPICS[number % 2], size % QUEUES, [size])

    @rule(
        topic=st.sampled_from(TOPICS),
        queue=st.integers(0, QUEUES - 1),
        sizes=st.lists(st.integers(0, 400), min_size=2, max_size=5),
    )
    def put_group(self, topic: str, queue: int, sizes: list[int]) -> None:
        self.groups += 1
        before = self.models[topic].queues[queue]
        sent = [Sent(b"%d.%d:" % (self.groups, n) + bytes(size), self.groups) for n, size in enumerate(sizes)]
        count = len(before)
        before += sent

        def done(put: object, error: object) -> None:
            if error is None:
                for each in sent:
                    each.acknowledged = True

        async def put_them() -> None:
            self.opened.done = done  # type: ignore[method-assign]
            if len(sent) == 1:
                puts = [self.opened.put(topic, sent[0].body, queue)]
            else:
                puts = self.opened.put_many(topic, [each.body for each in sent], queue)
            assert [put.queue_offset for put in puts] == list(range(count, count + len(sent)))

        self.loop.run_until_complete(put_them())

    @rule(topic=st.sampled_from(TOPICS), queue=st.integers(0, QUEUES - 1), offset=st.integers(0, 99))
    def commit_offset(self, topic: str, queue: int, offset: int) -> None:
        async def say() -> None:
            self.opened.store.offsets.commit("g", topic, queue, QueueOffset(offset))
            self.opened.write_offsets()

        self.loop.run_until_complete(say())
        self.offsets.setdefault((topic, queue), []).append(offset)

    @rule(topic=st.sampled_from(TOPICS))
    def delete_and_make_again(self, topic: str) -> None:
        async def delete() -> None:
            self.opened.delete(topic)

        # What a crash leaves of a deletion is one of two states; the model keeps to one by waiting for the disk.
        self.loop.run_until_complete(delete())
        for name in list(self.offsets):
            if name[0] == topic:
                del self.offsets[name]
        self.make(topic)
        self.write_everything()

    @precondition(lambda self: self.disk.held)
    @rule(count=st.integers(1, 3))
    def disk_works(self, count: int) -> None:
        async def work() -> None:
            self.disk.release(min(count, len(self.disk.held)))
            await turns(4)

        self.loop.run_until_complete(work())

    @rule()
    def loop_turns(self) -> None:
        self.run_turns(2)

    @rule(forward_ms=st.integers(-1000, 1000))
    def clock_jumps(self, forward_ms: int) -> None:
        self.clock.at_ms += forward_ms

    @rule()
    def checkpoint_begins(self) -> None:
        async def begin() -> None:
            self.opened.store._begin_checkpoint()
            await turns(2)

        self.loop.run_until_complete(begin())

    @rule()
    def clean_stop(self) -> None:
        async def stop() -> None:
            self.disk.release()
            await asyncio.wait_for(self.opened.store.close(), 20)

        self.loop.run_until_complete(stop())
        for model in self.models.values():
            assert all(each.acknowledged for queue in model.queues.values() for each in queue)
        self.disk = FaultyDisk(self.disk.files())
        self.open()
        assert self.opened.store.recovered is not None
        assert self.opened.store.recovered.records == 0
        self.compare_after_restart()

    @rule()
    def kill(self) -> None:
        self.disk = self.disk.kill()
        self.end_of_process()
        self.open()
        self.compare_after_restart()

    @rule(seed=st.integers(0, 1 << 30), again=st.booleans())
    def power_cut(self, seed: int, again: bool) -> None:
        self.disk = self.disk.crash(random.Random(seed))
        self.end_of_process()
        if again:  # and once more, in the middle of the start
            self.open()
            self.disk = self.disk.crash(random.Random(seed + 1))
            self.end_of_process()
        self.open()
        self.compare_after_restart()

    def end_of_process(self) -> None:
        """What ran is gone; its disk is dead already, so nothing that it still does has an effect."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.run_turns()
        self.loop.close()
        self.loop = asyncio.new_event_loop()

    # Checks

    def compare_after_restart(self) -> None:
        """Acknowledged ones are there, in order; the others of each group are whole or absent; then the model goes on
        with what is there."""
        for topic, model in self.models.items():
            for queue_id, sent in model.queues.items():
                bodies = self.opened.bodies(topic, queue_id)
                acknowledged = max((n + 1 for n, each in enumerate(sent) if each.acknowledged), default=0)
                assert acknowledged <= len(bodies) <= len(sent), (topic, queue_id)
                assert bodies == [each.body for each in sent[: len(bodies)]]
                if 0 < len(bodies) < len(sent):
                    assert sent[len(bodies) - 1].group != sent[len(bodies)].group, "half a batch"
                del sent[len(bodies) :]
                for each in sent:
                    each.acknowledged = True  # it is committed now, and must stay
        for (topic, queue_id), said in self.offsets.items():
            found = self.opened.store.offsets.find("g", topic, queue_id)
            assert found is None or found in said
        full = {name: data for name, data in self.disk.files().items() if name.startswith(("log/", "format"))}
        assert reopen(FaultyDisk(full)).folds() == self.opened.folds(), "not what the log alone says"

    @invariant()
    def visible_is_committed_and_dense(self) -> None:
        if not hasattr(self, "opened"):
            return
        assert self.opened.store.failure is None
        for topic, model in self.models.items():
            for queue_id, sent in model.queues.items():
                queue = self.opened.store.topics.live[topic].queue(queue_id)
                assert queue.next_offset == len(sent)
                visible = sum(each.acknowledged for each in sent)
                assert queue.max_offset == visible, "acknowledged and visible are not the same"

    def teardown(self) -> None:
        if hasattr(self, "opened"):
            self.power_cut(1, again=False)
            self.clean_stop()
        self.loop.close()


TestCrashes = pytest.mark.timeout(400)(Crashes.TestCase)  # only a failure takes long: it is made small first
TestCrashes.settings = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
