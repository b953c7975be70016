"""What a dump shows of a store and of single files, whole and damaged, resting and growing."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from posthouse.host.clock import EpochMs
from posthouse.model.message import StoredMessage
from posthouse.model.offsets import LogOffset
from posthouse.store.dump import Damage, Dump, DumpError, Item, Selection, Shown, dump_file
from posthouse.store.log.scan import Frame
from posthouse.store.state_record import StateRecord
from tests.store.damage import a_store, contents_of, frames_of, names, open_later, place_of
from tests.store.disks import FaultyDisk, ManualClock

ALL = Selection()


def messages(items: Iterable[Item]) -> list[StoredMessage]:
    return [each.record for each in items if isinstance(each, Shown) and isinstance(each.record, StoredMessage)]


def dumped(disk: FaultyDisk, selection: Selection = ALL) -> list[StoredMessage]:
    return messages(Dump(disk, selection).more())


def place(message: StoredMessage) -> tuple[str, int, int]:
    return message.topic, message.queue_id, message.queue_offset


@pytest.mark.asyncio
async def test_every_record_is_shown_once_in_log_order() -> None:
    disk = await a_store(closed=False)
    items = list(Dump(disk, ALL).more())
    shown = [each for each in items if isinstance(each, Shown)]
    assert [each.log_offset for each in shown] == sorted({each.log_offset for each in shown})
    assert len(shown) == sum(kept.frame.header.records for kept in frames_of(disk))
    assert all(each.is_sure and each.record.log_offset == each.log_offset for each in shown)
    before = contents_of(open_later(FaultyDisk(disk.files())))
    assert {place(message) for message in messages(items)} == before.keys()
    assert disk.changes == []


@pytest.mark.asyncio
async def test_choices_are_those_that_filtering_everything_would_give() -> None:
    disk = await a_store()
    every = dumped(disk)
    middle = every[len(every) // 2]
    since, until = EpochMs(middle.stored_at_ms), EpochMs(middle.stored_at_ms + 100)
    assert dumped(disk, Selection(topic="mails")) == [each for each in every if each.topic == "mails"]
    assert dumped(disk, Selection(topic="mail")) == []
    assert dumped(disk, Selection(queue_id=1)) == [each for each in every if each.queue_id == 1]
    assert dumped(disk, Selection(tag="paid")) == [each for each in every if each.tag == "paid"]
    assert dumped(disk, Selection(since_ms=since)) == [each for each in every if each.stored_at_ms >= since]
    assert dumped(disk, Selection(since_ms=since, until_ms=until)) == [
        each for each in every if since <= each.stored_at_ms < until
    ]
    begin, end = middle.log_offset, LogOffset(middle.log_offset + 900)
    assert dumped(disk, Selection(from_offset=begin, to_offset=end)) == [
        each for each in every if begin <= each.log_offset < end
    ]
    assert dumped(disk, Selection(kinds=frozenset({"offsets"}))) == []
    assert dumped(disk, Selection(key=middle.message_id)) == [middle]


@pytest.mark.asyncio
async def test_state_records_are_chosen_by_kind_and_left_out_when_messages_are_asked_for() -> None:
    disk = await a_store()
    items = [each for each in Dump(disk, Selection(kinds=frozenset({"group_set"}))).more() if isinstance(each, Shown)]
    states = [each.record for each in items if isinstance(each.record, StateRecord)]
    assert [state.body["config"]["name"] for state in states] == ["billing"] * 2
    assert len(dumped(disk, Selection(topic="orders"))) == len(list(Dump(disk, Selection(topic="orders")).more()))


@pytest.mark.asyncio
async def test_frames_are_shown_before_their_records() -> None:
    disk = await a_store(messages=9)
    items = list(Dump(disk, ALL, frames=True).more())
    frames = [each for each in items if isinstance(each, Frame)]
    assert [each.header.offset for each in frames] == [kept.frame.header.offset for kept in frames_of(disk)]
    assert items[0] is frames[0]


@pytest.mark.asyncio
async def test_damage_is_named_and_what_can_be_recognised_in_it_is_shown_with_a_doubt() -> None:
    disk = await a_store()
    every = dumped(disk)
    victim = frames_of(disk)[4]
    name, at = place_of(victim)
    disk.flip(name, at + 10)
    items = list(Dump(disk, ALL).more())
    (damage,) = [each for each in items if isinstance(each, Damage)]
    assert (damage.file, damage.first, damage.end) == (name, victim.frame.header.offset, victim.frame.header.end)
    assert messages(items) == every
    doubtful = [each for each in items if isinstance(each, Shown) and not each.is_sure]
    assert len(doubtful) == victim.frame.header.records


@pytest.mark.asyncio
async def test_segment_that_is_missing_is_named() -> None:
    disk = await a_store()
    files = disk.files()
    gone = names(disk, "log")[1]
    del files[gone]
    (damage,) = [each for each in Dump(FaultyDisk(files), ALL).more() if isinstance(each, Damage)]
    assert damage.first == int(gone[4:24])
    assert damage.why == "no file has these bytes"


@pytest.mark.asyncio
async def test_a_log_that_grows_is_followed_over_the_ends_of_segments() -> None:
    disk, clock = FaultyDisk(), ManualClock()
    opened = open_later(disk, clock)
    reader = Dump(disk, Selection(topic="orders"))
    seen: list[bytes] = []
    for number in range(80):
        opened.put("orders", b"%d" % number * 20)
        await opened.settled()
        seen += [each.body for each in messages(reader.more(follow=True))]
        assert seen[-1] == b"%d" % number * 20
    assert len(seen) == 80
    assert len(names(disk, "log")) > 3
    assert list(reader.more(follow=True)) == []


@pytest.mark.asyncio
async def test_write_that_is_under_way_is_not_shown_until_it_is_whole() -> None:
    disk = await a_store(messages=9)
    last = frames_of(disk)[-1]
    name, at = place_of(last)
    whole = disk.files()[name]
    disk.edit(name, lambda data: data.__delitem__(slice(at + 20, None)))
    reader = Dump(disk, ALL)
    before = list(reader.more(follow=True))
    assert not any(isinstance(each, Damage) for each in before)
    assert list(reader.more(follow=True)) == []
    disk.edit(name, lambda data: data.extend(whole[at + 20 :]))
    assert len(list(reader.more(follow=True))) == last.frame.header.records


@pytest.mark.asyncio
async def test_follower_goes_on_when_retention_takes_what_it_has_not_read() -> None:
    disk = await a_store()
    reader = Dump(disk, ALL)
    seen = reader.more()
    next(seen)
    seen.close()  # type: ignore[attr-defined]
    files = disk.files()
    for name in names(disk, "log")[:2]:
        del files[name]
    reader._disk = FaultyDisk(files)
    items = list(reader.more())
    assert isinstance(items[0], Damage)
    assert messages(items)


@pytest.mark.asyncio
async def test_single_file_is_shown_with_what_its_name_says_of_its_place() -> None:
    disk = await a_store()
    every = dumped(disk)
    name = names(disk, "log")[1]
    base = LogOffset(int(name[4:24]))
    inside = [each for each in every if base <= each.log_offset < base + len(disk.files()[name])]
    assert messages(dump_file(disk.open(name), ALL, base=base)) == inside
    assert messages(dump_file(disk.open(name), ALL, base=None)) == inside
    assert messages(dump_file(disk.open(name), ALL, base=LogOffset(base + 7))) == inside
    assert messages(dump_file(disk.open(name), Selection(topic="bills"), base=base)) == [
        each for each in inside if each.topic == "bills"
    ]


def test_folder_without_a_log_is_an_error_that_asks_for_the_right_one() -> None:
    with pytest.raises(DumpError, match="is it the data folder of a broker"):
        Dump(FaultyDisk(), ALL)
