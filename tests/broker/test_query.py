"""Single messages by key, by unique key, by their place in the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from posthouse.broker import query as query_module
from posthouse.broker.broker import Broker
from posthouse.codec.record import decode_record, encode_record
from posthouse.host.clock import EpochMs
from posthouse.host.real import RealDisk
from posthouse.model.message import StoredMessage
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.properties import KEYS, UNIQ_KEY, encode_properties
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig
from posthouse.store import key_index
from posthouse.store.log.batch import HEADER_BYTES
from tests.broker.brokers import HERE, host_on, message, running, send, settled
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio

EVER = 2**63 - 1
BODY_AT = HEADER_BYTES + 88
"""Where the next message's body begins, from the end of the log on: behind the heads of batch and record."""


async def keyed(
    broker: Broker, topic: str, body: str, keys: str = "", unique: str = "", queue_id: int = 0
) -> LogOffset:
    """Sends a message; where it is in the log."""
    properties = ({KEYS: keys} if keys else {}) | ({UNIQ_KEY: unique} if unique else {})
    text = encode_properties(properties)
    return (await send(broker, message(topic, body.encode(), properties=text, queue_id=queue_id))).put.log_offset


async def look(
    broker: Broker,
    topic: str,
    key: str,
    count_max: int = 64,
    begin_ms: int = 0,
    end_ms: int = EVER,
    *,
    unique: bool = False,
) -> list[StoredMessage]:
    """What is found, empty if it is refused as not found."""
    try:
        found = await broker.query.by_key(topic, key, count_max, begin_ms, end_ms, unique=unique)
    except Refused as refused:
        if refused.reason is not Reason.NOT_FOUND:
            raise
        return []
    return [decode_record(record, check_crc=True) for record in found.records]


async def bodies(broker: Broker, topic: str, key: str, count_max: int = 64, **others: int) -> list[str]:
    return [each.body.decode() for each in await look(broker, topic, key, count_max, **others)]  # type: ignore[arg-type]


async def test_messages_are_found_by_each_of_their_keys_newest_first() -> None:
    async with running() as broker:
        for number in range(9):
            await keyed(broker, "T", f"n{number}", f"all third-{number % 3}", queue_id=number % 2)
        await keyed(broker, "Other", "x", "all")
        assert await bodies(broker, "T", "all") == [f"n{number}" for number in reversed(range(9))]
        assert await bodies(broker, "T", "third-2") == ["n8", "n5", "n2"]
        assert await bodies(broker, "Other", "all") == ["x"]
        assert await bodies(broker, "T", "none") == []
        assert await bodies(broker, "T", "all third-2") == []
        assert await bodies(broker, "T", "") == []
        assert await bodies(broker, "NoSuchTopic", "all") == []


async def test_a_message_is_found_by_its_unique_key() -> None:
    async with running() as broker:
        await keyed(broker, "T", "first", "KEY", unique="U")
        await keyed(broker, "T", "its name as a key", "U")
        await keyed(broker, "T", "sent again", unique="U")
        assert [each.body for each in await look(broker, "T", "U", unique=True)] == [b"sent again", b"first"]
        assert await bodies(broker, "T", "U") == ["sent again", "its name as a key", "first"]
        assert await look(broker, "T", "KEY", unique=True) == []


async def test_a_message_that_the_broker_gave_its_unique_key_is_found_by_that() -> None:
    async with running() as broker:
        sent = await send(broker, message("T", b"nameless"))
        (found,) = await look(broker, "T", sent.accepted.unique_id, unique=True)
        assert found.body == b"nameless"


@pytest.mark.parametrize("asked, given", [(-1, 0), (0, 0), (1, 1), (64, 64), (1000, 64)])
async def test_no_more_are_given_than_asked_for_and_than_the_limit(asked: int, given: int) -> None:
    async with running() as broker:
        for number in range(70):
            await keyed(broker, "T", f"{number}", "all")
        assert await bodies(broker, "T", "all", asked) == [f"{number}" for number in range(69, 69 - given, -1)]
        for _ in range(40):
            await keyed(broker, "T", "x", unique="U")
        assert len(await look(broker, "T", "U", asked, unique=True)) == 32


async def test_an_answer_stays_under_its_limit_of_bytes_but_one_message_is_always_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as broker:
        for _ in range(5):
            await keyed(broker, "T", "x" * 1000, "all")
        size = (await look(broker, "T", "all", 1))[0].store_size_bytes
        for limit, given in ((3 * size, 3), (4 * size - 1, 3), (1, 1)):
            monkeypatch.setattr(query_module, "QUERY_BYTES_MAX", limit)
            assert len(await look(broker, "T", "all")) == given


async def test_only_what_was_stored_in_the_time_asked_for_is_found() -> None:
    clock = ManualClock(1000)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        for number in range(5):
            clock.at_ms = 1000 + number * 10
            await keyed(broker, "T", f"{number}", "all")
        assert await bodies(broker, "T", "all", begin_ms=1010, end_ms=1030) == ["3", "2", "1"]
        assert await bodies(broker, "T", "all", begin_ms=1011, end_ms=1029) == ["2"]
        assert await bodies(broker, "T", "all", begin_ms=1041) == []
        assert await bodies(broker, "T", "all", end_ms=999) == []
        assert await bodies(broker, "T", "all", begin_ms=1030, end_ms=1010) == []
        assert await bodies(broker, "T", "all", begin_ms=-(2**63)) == ["4", "3", "2", "1", "0"]


async def test_other_messages_with_the_same_hash_do_not_reach_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_index, "crc32", lambda data, start=0: 5)
    monkeypatch.setattr(query_module, "key_hash", lambda topic, key: 5)
    async with running() as broker:
        await keyed(broker, "A", "1", "k")
        await keyed(broker, "B", "2", "k")
        await keyed(broker, "A", "3", "kk k2")
        await keyed(broker, "A", "4", "", "k")
        await keyed(broker, "A", "5", "k ")
        assert await bodies(broker, "A", "k") == ["5", "4", "1"]
        assert await bodies(broker, "B", "k") == ["2"]


async def test_the_answer_says_how_far_the_index_is() -> None:
    clock = ManualClock(5000)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        await keyed(broker, "T", "x", "k")
        clock.at_ms = 6000
        last = await keyed(broker, "T", "y")
        found = await broker.query.by_key("T", "k", 1, 0, EVER)
        assert found.indexed_at_ms == 6000
        assert last < found.indexed_offset <= broker.store.log.committed_offset


async def test_messages_of_a_deleted_topic_are_not_found_in_the_new_one_of_its_name() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        old = await keyed(broker, "T", "old", "k", unique="U")
        await broker.topics.delete("T")
        assert await bodies(broker, "T", "k") == []
        with pytest.raises(Refused, match="no message begins"):
            await broker.query.by_log_offset(old)
        await broker.topics.set(TopicConfig("T"))
        assert await bodies(broker, "T", "k") == []
        await keyed(broker, "T", "new", "k")
        assert await bodies(broker, "T", "k") == ["new"]
        assert await look(broker, "T", "U", unique=True) == []
        with pytest.raises(Refused, match="no message begins"):
            await broker.query.by_log_offset(old)


async def test_what_a_topic_does_not_keep_any_more_is_not_found() -> None:
    async with running() as broker:
        places = [await keyed(broker, "T", f"{number}", "k") for number in range(4)]
        broker.store.trim_queue(broker.topics.require("T").queue(0), QueueOffset(2))
        assert await bodies(broker, "T", "k") == ["3", "2"]
        with pytest.raises(Refused):
            await broker.query.by_log_offset(places[1])
        assert decode_record(await broker.query.by_log_offset(places[2])).body == b"2"


async def test_what_is_found_is_the_same_after_checkpoints_and_restarts_and_from_a_cold_disk() -> None:
    disk = FaultyDisk()
    places: list[LogOffset] = []
    for life in range(4):
        async with running(host=host_on(disk)) as broker:
            for number in range(20):
                places.append(await keyed(broker, "T", f"{life}-{number}", f"all n{number}"))
                if number % 5 == life:
                    await broker.store.checkpoint()
            disk.is_cold = True
            for number in range(20):
                want = [f"{each}-{number}" for each in reversed(range(life + 1))]
                assert await bodies(broker, "T", f"n{number}") == want
            for place in places:
                assert decode_record(await broker.query.by_log_offset(place)).log_offset == place
            disk.is_cold = False
    assert disk.later_reads > 0


async def test_on_a_real_disk(tmp_path: Path) -> None:
    for life in range(2):
        async with running(host=host_on(RealDisk(str(tmp_path)))) as broker:
            place = await keyed(broker, "T", f"life {life}", "k")
            await broker.store.checkpoint()
            assert await bodies(broker, "T", "k") == [f"life {each}" for each in reversed(range(life + 1))]
            assert decode_record(await broker.query.by_log_offset(place)).body == f"life {life}".encode()


# By place


async def test_a_message_is_found_by_its_place() -> None:
    async with running() as broker:
        places = [await keyed(broker, "T", f"{number}", queue_id=number % 3) for number in range(10)]
        for number, place in enumerate(places):
            found = decode_record(await broker.query.by_log_offset(place), check_crc=True)
            assert (found.body, found.queue_id, found.log_offset) == (f"{number}".encode(), number % 3, place)


async def test_a_place_where_no_message_begins_is_refused() -> None:
    async with running() as broker:
        place = await keyed(broker, "T", "x" * 100)
        await keyed(broker, "T", "y")
        end = broker.store.log.committed_offset
        for wrong in (-1, 0, 1, place - 1, place + 1, place + 50, end - 1, end, end + 1, 2**40, 2**63 - 1, -(2**63)):
            with pytest.raises(Refused, match=f"no message begins at log offset {wrong}") as refused:
                await broker.query.by_log_offset(LogOffset(wrong))
            assert refused.value.reason is Reason.FAILED


async def test_nothing_is_found_at_any_other_place_of_the_log() -> None:
    async with running() as broker:
        places = {await keyed(broker, "T", "x", "k") for _ in range(3)}
        for wrong in set(range(broker.store.log.committed_offset + 3)) - places:
            with pytest.raises(Refused):
                await broker.query.by_log_offset(LogOffset(wrong))


async def test_a_record_that_somebody_put_into_a_body_is_not_a_message() -> None:
    """Not even if it says that it is where it is, and names a queue offset that there is."""
    async with running() as broker:
        await keyed(broker, "T", "real")
        inside = LogOffset(broker.store.log.committed_offset + BODY_AT)
        forged = encode_record(
            message("T", b"forged"),
            topic=b"T",
            properties=b"",
            queue_offset=QueueOffset(0),
            log_offset=inside,
            stored_at_ms=EpochMs(5),
            store_host=HERE,
        )
        await send(broker, message("T", forged))
        assert broker.store.log.read_wait(inside, len(forged)) == forged
        with pytest.raises(Refused, match="no message begins"):
            await broker.query.by_log_offset(inside)


async def test_a_huge_size_at_a_place_is_not_read() -> None:
    """Eight bytes of a body that look like the beginning of a record of 300 MB."""
    async with running() as broker:
        await send(broker, message("T", bytes(4)))
        inside = LogOffset(broker.store.log.committed_offset + BODY_AT)
        await send(broker, message("T", (300_000_000).to_bytes(4, "big") + bytes.fromhex("DAA320A7") + bytes(200)))
        sizes: list[int] = []
        read = broker.store.log.read

        def measured(offset: LogOffset, size: int) -> bytes | None:
            sizes.append(size)
            return read(offset, size)

        broker.store.log.read = measured  # type: ignore[method-assign]
        with pytest.raises(Refused):
            await broker.query.by_log_offset(inside)
        assert sizes == [8]


async def test_a_device_that_cannot_be_read_is_said_to_be_that() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        place = await keyed(broker, "T", "x", "k")
        await settled(broker)
        disk.is_cold, disk.read_error = True, OSError(5, "Input/output error")
        with pytest.raises(Refused, match="Input/output error") as refused:
            await broker.query.by_key("T", "k", 1, 0, EVER)
        assert refused.value.reason is Reason.FAILED
        with pytest.raises(Refused, match="Input/output error"):
            await broker.query.by_log_offset(place)
        disk.is_cold, disk.read_error = False, None
        await broker.store.checkpoint()
        disk.is_cold, disk.read_error = True, OSError(5, "Input/output error")
        with pytest.raises(Refused, match="looking for a key failed"):
            await broker.query.by_key("T", "k", 1, 0, EVER)
        disk.is_cold, disk.read_error = False, None
