"""The dead letter desk against a broker in the test: every letter is counted once and sent once, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from posthouse.client import dead_letters as module
from posthouse.client.admin import Admin
from posthouse.client.dead_letters import DESK_GROUP, Chosen, DeadLetter, DeadLetterDesk, Redriven, Report, Verdict
from posthouse.client.errors import NoRoute, PosthouseError, SendTimeout
from posthouse.client.producer import Producer
from posthouse.client.pull_consumer import PullConsumer
from posthouse.client.receipt import SendReceipt
from posthouse.client.received import ReceivedMessage
from posthouse.host.clock import EpochMs
from posthouse.model.message import Endpoint, Message, MessageQueue
from posthouse.model.names import dead_letter_topic
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.testing import Cluster, cluster

pytestmark = pytest.mark.asyncio

NOWHERE = Endpoint(b"\0\0\0\0", 0)
DLQ = dead_letter_topic("G")


def letter(reconsume_times: int = 3, **properties: str) -> DeadLetter:
    queue = MessageQueue(DLQ, "b", 0)
    return DeadLetter(
        "G",
        ReceivedMessage(
            DLQ, 0, QueueOffset(7), LogOffset(0), b"x", properties, 0, 0, EpochMs(0), NOWHERE, EpochMs(5000), NOWHERE,
            reconsume_times, LogOffset(0), 0, 0, "b", queue,
        ),
    )  # fmt: skip


async def test_what_the_broker_notes_is_read() -> None:
    found = letter(
        DLQ_ORIGIN_TOPIC="orders", DLQ_ORIGIN_MESSAGE_ID="ID", DLQ_REASON="attempts", DLQ_ATTEMPTS="17", REDRIVES="2"
    )
    assert (found.origin_topic, found.message_id, found.reason) == ("orders", "ID", "attempts")
    assert (found.attempts, found.redrives, found.died_at_ms) == (17, 2, 5000)
    assert found.place == "%DLQ%G:b:0:7@5000"


async def test_a_letter_of_another_broker_says_less() -> None:
    found = letter(RETRY_TOPIC="orders", UNIQ_KEY="U", DLQ_ATTEMPTS="many")
    assert (found.origin_topic, found.message_id, found.reason, found.attempts) == ("orders", "U", "", 3)
    assert letter().origin_topic == ""
    assert letter(DLQ_ORIGIN_TOPIC="%RETRY%G").origin_topic == "", "a way that it went, not where it came from"


@pytest.mark.parametrize(
    ("chosen", "is_taken"),
    [
        (Chosen(), True),
        (Chosen(since_ms=EpochMs(5000), until_ms=EpochMs(5000)), True),
        (Chosen(since_ms=EpochMs(5001)), False),
        (Chosen(until_ms=EpochMs(4999)), False),
        (Chosen(key="k2"), True),
        (Chosen(key="ID"), True),
        (Chosen(key="k"), False),
        (Chosen(origin_topic="orders"), True),
        (Chosen(origin_topic="order"), False),
        (Chosen(key="k1", origin_topic="other"), False),
    ],
)
async def test_letters_are_chosen_by_time_key_id_and_topic(chosen: Chosen, is_taken: bool) -> None:
    assert chosen.takes(letter(DLQ_ORIGIN_TOPIC="orders", UNIQ_KEY="ID", KEYS="k1 k2")) is is_taken


@dataclass
class Stage:
    """A broker with dead letters of group G from topic `orders`."""

    cluster: Cluster
    admin: Admin

    @property
    def desk(self) -> DeadLetterDesk:
        return self.admin.dead_letters

    async def bury(self, count: int, **more: str) -> None:
        properties = {"DLQ_ORIGIN_TOPIC": "orders", "DLQ_REASON": "attempts", "RETRY_TOPIC": "orders"} | more
        async with Producer(self.cluster.nameservers, create_topic=None) as producer:
            for number in range(count):
                await producer.send(Message(DLQ, b"%d" % number, keys=f"k{number}", properties=properties))

    async def bodies(self, topic: str = "orders") -> list[str]:
        async with PullConsumer("reader", self.cluster.nameservers) as consumer:
            return sorted([each.body.decode() async for each in consumer.stream(topic, stop_at_end=True)])

    async def run(self, **how: Any) -> tuple[list[Redriven], dict[str, int]]:
        """The receipts, and the counts that are not 0."""
        redrive = self.desk.redrive("G", **how)
        receipts = [each async for each in redrive]
        return receipts, counts(redrive.report)

    def gone(self, before: int) -> None:
        """Retention takes the first letters away."""
        broker = self.cluster.houses[0].broker
        assert broker is not None
        broker.store.trim_queue(broker.topics.require(DLQ).queues[0], QueueOffset(before))


def counts(report: Report) -> dict[str, int]:
    assert report.found == sum(report.counts.values()), "each letter is in one count"
    assert min(report.counts.values()) >= 0
    return {verdict.value: count for verdict, count in report.counts.items() if count}


@asynccontextmanager
async def stage(letters: int = 0) -> AsyncIterator[Stage]:
    async with cluster() as running, Admin(running.nameservers) as admin:
        for topic in ("orders", DLQ):
            await admin.create_topic(topic, queues=1)
        found = Stage(running, admin)
        await found.bury(letters)
        yield found


async def test_all_letters_are_sent_with_a_receipt_each() -> None:
    async with stage(70) as at:
        receipts, found = await at.run()
        assert found == {"sent": 70}
        assert [each.receipt is not None and each.topic == "orders" for each in receipts] == [True] * 70
        assert [each.letter.message.queue_offset for each in receipts] == list(range(70))
        assert await at.bodies() == sorted(str(number) for number in range(70))
        assert await at.run() == ([], {})
        assert (await at.desk.groups())[0].settled == 70


async def test_a_run_that_is_broken_off_is_gone_on_with() -> None:
    async with stage(5) as at:
        redrive = at.desk.redrive("G", per_second=1000)
        going = aiter(redrive)
        assert (await anext(going)).verdict is Verdict.SENT
        await going.aclose()  # the mark has not been moved: only the copies say what was sent
        assert sum(counts(redrive.report).values()) == 5
        assert (await at.desk.groups())[0].settled == 0
        _, found = await at.run()
        assert found["already"] == counts(redrive.report)["sent"]
        assert await at.bodies() == ["0", "1", "2", "3", "4"]


async def test_a_run_that_is_cancelled_counts_what_it_does_not_know_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(3) as at:
        never: list[asyncio.Future[SendReceipt]] = []

        def send(self: Producer, message: Message) -> asyncio.Future[SendReceipt]:
            never.append(asyncio.get_running_loop().create_future())
            return never[-1]

        with monkeypatch.context() as patch:
            patch.setattr(Producer, "send", send)
            redrive = at.desk.redrive("G")
            running = asyncio.create_task(redrive.finish())
            while len(never) < 3:
                await asyncio.sleep(0.001)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert counts(redrive.report) == {"failed": 3}
        assert (await at.run())[1] == {"sent": 3}


async def test_a_letter_that_may_have_been_sent_is_looked_for_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(2) as at:
        plain = Producer.send

        def send(self: Producer, message: Message) -> asyncio.Future[SendReceipt]:
            sending = plain(self, message)
            if message.body != b"1":
                return sending
            lost: asyncio.Future[SendReceipt] = asyncio.get_running_loop().create_future()

            def ended(_: object) -> None:
                lost.set_exception(SendTimeout("no answer", maybe_stored=True))

            sending.add_done_callback(ended)
            return lost

        with monkeypatch.context() as patch:
            patch.setattr(Producer, "send", send)
            receipts, found = await at.run()
        assert found == {"sent": 1, "failed": 1}
        assert receipts[1].why == "no answer"
        assert (await at.run())[1] == {"already": 1}
        assert await at.bodies() == ["0", "1"]


async def test_what_cannot_be_looked_for_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(2) as at:

        async def refuse(*args: object) -> tuple[ReceivedMessage, ...]:
            raise PosthouseError("the broker is busy")

        with monkeypatch.context() as patch:
            patch.setattr(Admin, "query_by_unique_key", refuse)
            receipts, found = await at.run()
        assert found == {"failed": 2}
        assert "whether it was sent already cannot be seen: the broker is busy" in receipts[0].why
        assert await at.bodies() == []
        assert (await at.run())[1] == {"sent": 2}


async def test_a_mark_that_cannot_be_moved_costs_nothing_but_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(3) as at:

        async def refuse(*args: object) -> None:
            raise PosthouseError("no")

        with monkeypatch.context() as patch:
            patch.setattr(DeadLetterDesk, "_set_mark", refuse)
            assert (await at.run())[1] == {"sent": 3}
        assert (await at.run())[1] == {"already": 3}
        assert await at.bodies() == ["0", "1", "2"]


async def test_letters_that_retention_took_are_counted_as_gone() -> None:
    async with stage(6) as at:
        at.gone(before=2)
        assert (await at.run())[1] == {"gone": 2, "sent": 4}
        assert (await at.run())[1] == {}, "they are told of once"


async def test_letters_that_go_while_it_runs_are_counted_as_gone() -> None:
    async with stage(100) as at:
        redrive = at.desk.redrive("G", per_second=10_000)
        receipts: list[Redriven] = []
        async for each in redrive:
            if not receipts:
                at.gone(before=90)
            receipts.append(each)
        found = counts(redrive.report)
        assert found["sent"] == len(receipts) < 100
        assert found["sent"] + found["gone"] == 100
        assert len(await at.bodies()) == found["sent"]


async def test_what_comes_while_it_runs_waits_for_the_next_run() -> None:
    async with stage(2) as at:
        redrive = at.desk.redrive("G")
        async for each in redrive:
            if each.letter.message.body == b"0":
                await at.bury(1)
        assert counts(redrive.report) == {"sent": 2}
        assert (await at.run())[1] == {"sent": 1}


async def test_a_copy_that_died_again_is_a_letter_of_its_own() -> None:
    async with stage(1) as at:
        await at.run()
        async with PullConsumer("reader", at.cluster.nameservers) as consumer:
            (copy,) = [each async for each in consumer.stream("orders", stop_at_end=True)]
        async with Producer(at.cluster.nameservers) as producer:
            await producer.send(Message(DLQ, copy.body, properties={**copy.properties, "DLQ_ORIGIN_TOPIC": "orders"}))
        (again,), found = await at.run()
        assert found == {"sent": 1}
        assert again.letter.redrives == 1
        assert await at.bodies() == ["0", "0"]


async def test_two_letters_of_one_message_are_two() -> None:
    async with stage() as at:
        await at.bury(2, UNIQ_KEY="SAME")
        assert (await at.run())[1] == {"sent": 2}
        assert (await at.run(again=True, dry_run=True))[1] == {"sent": 2}


async def test_a_letter_from_nowhere_needs_a_topic() -> None:
    async with stage() as at:
        await at.bury(1, DLQ_ORIGIN_TOPIC="%RETRY%G")
        receipts, found = await at.run()
        assert found == {"failed": 1}
        assert "nothing says which topic it came from" in receipts[0].why
        assert (await at.run(to="orders"))[1] == {"sent": 1}


async def test_a_topic_that_takes_no_messages_is_named() -> None:
    async with stage(1) as at:
        await at.admin.create_topic("orders", queues=1, perm=4)
        deadline = asyncio.get_running_loop().time() + 10
        while (await at.admin.topic_route("orders")).queues[0].perm != 4:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)
        receipts, found = await at.run()
        assert found == {"failed": 1}
        assert receipts[0].why == "topic orders takes no messages"


async def test_nothing_begins_when_the_topic_to_send_to_is_not_there() -> None:
    async with stage(1) as at:
        with pytest.raises(NoRoute):
            await at.desk.redrive("G", to="nowhere").finish()
        with pytest.raises(NoRoute, match="no dead letters"):
            await at.desk.redrive("nobody").finish()


async def test_no_more_than_asked_for_are_sent() -> None:
    async with stage(40) as at:
        receipts, found = await at.run(count_max=35)
        assert (len(receipts), found) == (35, {"sent": 35, "left": 5})
        assert (await at.run(chosen=Chosen(key="k39")))[1] == {"sent": 1, "passed_over": 4}
        assert (await at.run())[1] == {"sent": 4, "already": 1}
        for wrong in ({"count_max": 0}, {"per_second": 0}):
            with pytest.raises(ValueError, match="is 0"):
                at.desk.redrive("G", **wrong)  # type: ignore[arg-type]


async def test_the_body_of_a_large_letter_comes_whole() -> None:
    async with stage() as at:
        body = b"large " * 2000
        async with Producer(at.cluster.nameservers) as producer:
            await producer.send(Message(DLQ, body, flag=9, properties={"DLQ_ORIGIN_TOPIC": "orders"}))
        await at.run()
        async with PullConsumer("reader", at.cluster.nameservers) as consumer:
            (copy,) = [each async for each in consumer.stream("orders", stop_at_end=True)]
        assert (copy.body, copy.flag) == (body, 9)


async def test_the_mark_is_the_offset_of_a_group_of_its_own() -> None:
    async with stage(3) as at:
        await at.run(count_max=2)
        async with PullConsumer(DESK_GROUP, at.cluster.nameservers) as consumer:
            (queue,) = await consumer.queues(DLQ)
            assert await consumer.committed(queue) == 2
        assert module.DESK_GROUP == "POSTHOUSE_REDRIVE", "it is in the documentation"


async def test_over_several_brokers() -> None:
    async with cluster(brokers=2) as running, Admin(running.nameservers) as admin:
        for topic in ("orders", DLQ):
            await admin.create_topic(topic, queues=1)
        at = Stage(running, admin)
        await at.bury(10)
        assert (await at.desk.groups())[0].letters == 10
        assert (await at.run(count_max=7))[1] == {"sent": 7, "left": 3}
        assert (await at.run())[1] == {"sent": 3}
        assert await at.bodies() == sorted(str(number) for number in range(10))
