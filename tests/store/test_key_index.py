from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset
from posthouse.model.properties import find_property
from posthouse.store.key_index import (
    BLOCK_ENTRIES,
    KEY_ENTRY_BYTES,
    SPAN_BYTES_MAX,
    KeyBlock,
    KeyIndex,
    KeyPart,
    entry_bytes,
    entry_numbers,
    join_parts,
    key_hash,
    key_hashes,
    property_hashes,
    sort_blocks,
    sort_entries,
)
from tests.store.disks import FaultyDisk
from tests.store.log.recorder import turns

EVER = 1 << 62
FILE = "queues/keys"


def at(log_offset: int) -> LogOffset:
    return LogOffset(log_offset)


def apply(index: KeyIndex, log_offset: int, *hashes: int, ms: int = 0) -> None:
    index.apply(hashes, at(log_offset), EpochMs(ms))


async def found(
    index: KeyIndex, wanted: int, first_offset: int = 0, begin_ms: int = 0, end_ms: int = EVER
) -> list[int]:
    return [each async for each in index.find(wanted, at(first_offset), begin_ms, end_ms)]


async def file_away(index: KeyIndex, disk: FaultyDisk, end: int, name: str = FILE) -> list[KeyBlock]:
    """What a checkpoint at `end` does: all that is in memory is in a file afterwards."""
    parts = await join_parts(await sort_blocks(index.tail(), at(end)))
    blocks = blocks_of(parts, disk, name)
    index.place(blocks, at(end))
    return blocks


def blocks_of(parts: Sequence[KeyPart], disk: FaultyDisk, name: str = FILE) -> list[KeyBlock]:
    disk.replace(name, b"".join(part.data for part in parts), lambda error: None)
    file, position = disk.open(name), 0
    blocks: list[KeyBlock] = []
    for part in parts:
        blocks.append(KeyBlock(part.start, part.entries, part.first_ms, part.last_ms, file, position))
        position += len(part.data)
    return blocks


# What is indexed


def test_every_key_and_the_unique_key_have_a_hash() -> None:
    assert key_hashes("t", "u", None) == (key_hash("t", "u"),)
    assert key_hashes("t", None, "") == ()
    assert set(key_hashes("t", "u", "a")) == {key_hash("t", "a"), key_hash("t", "u")}
    assert set(key_hashes("t", "u", "a  b a")) == {key_hash("t", "a"), key_hash("t", "b"), key_hash("t", "u")}
    assert len(key_hashes("t", "u", "a b a u")) == 3
    assert set(key_hashes("t", None, " a\tb ")) == {key_hash("t", "a\tb")}, "only a blank parts two keys"


def test_hashes_are_the_same_in_every_process_and_for_every_letter() -> None:
    assert key_hash("t", "k") == 0xC870D62F
    assert key_hashes("t", "ключ", "😀") == (key_hash("t", "ключ"), key_hash("t", "😀"))


def test_a_key_belongs_to_its_topic() -> None:
    assert key_hash("a", "k") != key_hash("b", "k")


def test_keys_are_found_in_the_encoded_properties() -> None:
    text = "X\x01KEYS\x02KEYS\x01a b\x02MYUNIQ_KEY\x01no\x02UNIQ_KEY\x01u\x02"
    assert set(property_hashes(key_hash("t", ""), None, text)) == set(key_hashes("t", "u", "a b"))
    assert property_hashes(key_hash("t", ""), None, "X\x01KEYS\x02") == ()
    assert property_hashes(key_hash("t", ""), None, "") == ()


@given(
    st.lists(
        st.tuples(st.sampled_from(["KEYS", "UNIQ_KEY", "XKEYS", "K"]), st.sampled_from(["", "a", "b c", " a  a "])),
        max_size=6,
    ),
    st.booleans(),
)
def test_keys_in_the_properties_are_those_that_everybody_else_finds(pairs: list[tuple[str, str]], ends: bool) -> None:
    text = "\x02".join(f"{name}\x01{value}" for name, value in pairs) + "\x02" * ends
    want = key_hashes("t", find_property(text, "UNIQ_KEY"), find_property(text, "KEYS"))
    assert property_hashes(key_hash("t", ""), None, text) == want


# In memory


@pytest.mark.asyncio
async def test_the_newest_comes_first() -> None:
    index = KeyIndex()
    for number in range(10):
        apply(index, number * 100, 7, number + 10)
    assert await found(index, 7) == [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    assert await found(index, 13) == [300]
    assert await found(index, 99) == []
    assert await found(index, 7, first_offset=450) == [900, 800, 700, 600, 500]
    assert await found(index, 7, first_offset=900) == [900]
    assert await found(index, 7, first_offset=901) == []


@pytest.mark.asyncio
async def test_a_message_that_is_in_it_is_not_taken_again() -> None:
    index = KeyIndex()
    for _ in range(2):
        for number in range(10):
            apply(index, number * 100, 7)
    assert await found(index, 7) == [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    assert index.applied_offset == 901


@pytest.mark.asyncio
async def test_a_message_of_which_two_keys_have_that_hash_is_given_once() -> None:
    index = KeyIndex()
    apply(index, 0, 7, 7)
    apply(index, 100, 7, 8, 7)
    assert await found(index, 7) == [100, 0]
    await file_away(index, FaultyDisk(), 200)
    assert await found(index, 7) == [100, 0]


@pytest.mark.asyncio
async def test_messages_without_keys_move_it_on_all_the_same() -> None:
    index = KeyIndex()
    apply(index, 500, ms=77)
    assert (index.applied_offset, index.applied_at_ms) == (501, 77)
    assert index.tail() == ()


@pytest.mark.asyncio
async def test_bytes_that_look_like_the_hash_in_other_places_are_not_taken_for_it() -> None:
    """Offsets that hold the bytes of the hash, and hashes that hold them across two entries."""
    index = KeyIndex()
    wanted = 0x01010101
    apply(index, 0, 0x01010000, 0x00000101)
    apply(index, wanted, 0x01000000, wanted, 0x00010101)
    apply(index, wanted + 1, 5)
    assert await found(index, wanted) == [wanted]


@pytest.mark.asyncio
async def test_a_block_ends_when_it_is_full_and_when_its_offsets_would_not_fit() -> None:
    index = KeyIndex()
    for number in range(BLOCK_ENTRIES + 1):
        apply(index, number, 7)
    apply(index, SPAN_BYTES_MAX + BLOCK_ENTRIES - 1, 8)
    apply(index, SPAN_BYTES_MAX + BLOCK_ENTRIES, 8)
    apply(index, SPAN_BYTES_MAX * 3, 8)
    blocks = index.tail()
    assert [block.start for block in blocks] == [
        0,
        BLOCK_ENTRIES,
        SPAN_BYTES_MAX + BLOCK_ENTRIES,
        SPAN_BYTES_MAX * 3,
    ]
    assert await found(index, 8) == [
        SPAN_BYTES_MAX * 3,
        SPAN_BYTES_MAX + BLOCK_ENTRIES,
        SPAN_BYTES_MAX + BLOCK_ENTRIES - 1,
    ]


@pytest.mark.asyncio
async def test_one_message_with_many_keys_is_in_one_block() -> None:
    index = KeyIndex()
    apply(index, 0, 1)
    apply(index, 10, *range(2, 20_000))
    apply(index, 20, 5)
    first, second = index.tail()
    assert len(first.data) == 19_999 * KEY_ENTRY_BYTES
    assert second.start == 20
    assert await found(index, 5) == [20, 10]
    assert await file_away(index, FaultyDisk(), 30)
    assert await found(index, 5) == [20, 10]


# In files


@pytest.mark.asyncio
@pytest.mark.parametrize("entries", [1, 2, 500, 512, 513, 5000, BLOCK_ENTRIES])
async def test_what_is_in_a_file_is_found_as_in_memory(entries: int) -> None:
    rng = random.Random(entries)
    index = KeyIndex()
    hashes = [rng.getrandbits(32) for _ in range(entries)]
    for number, hashed in enumerate(hashes):
        apply(index, number * 300, hashed)
    await file_away(index, FaultyDisk(), entries * 300)
    assert index.tail() == ()
    for number in rng.sample(range(entries), min(entries, 300)):
        assert number * 300 in await found(index, hashes[number])
    for _ in range(300):
        absent = rng.getrandbits(32)
        assert absent in hashes or await found(index, absent) == []
    for edge in (0, 2**32 - 1):
        assert await found(index, edge) == [number * 300 for number in range(entries) if hashes[number] == edge]


@pytest.mark.asyncio
@pytest.mark.parametrize("hot", [0, 1 << 20, 1 << 31, 2**32 - 1])
async def test_hashes_are_found_beside_one_that_is_there_ten_thousand_times(hot: int) -> None:
    """It shifts the others far from where they are expected."""
    rng = random.Random(hot)
    index = KeyIndex()
    others: dict[int, int] = {}
    for number in range(BLOCK_ENTRIES):
        hashed = hot if number % 8 else rng.getrandbits(32)
        apply(index, number * 10, hashed)
        if hashed != hot:
            others[hashed] = number * 10
    want = [number * 10 for number in reversed(range(BLOCK_ENTRIES)) if number % 8]
    await file_away(index, FaultyDisk(), BLOCK_ENTRIES * 10)
    assert await found(index, hot) == want
    for hashed, log_offset in list(others.items())[:300]:
        assert await found(index, hashed) == [log_offset]


@pytest.mark.asyncio
async def test_a_look_into_a_full_block_reads_one_small_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    index = KeyIndex()
    hashes = [rng.getrandbits(32) for _ in range(BLOCK_ENTRIES)]
    for number, hashed in enumerate(hashes):
        apply(index, number * 10, hashed)
    (block,) = await file_away(index, FaultyDisk(), BLOCK_ENTRIES * 10)
    sizes: list[int] = []
    read = block.file.read

    def measured(position: int, size: int) -> bytes | None:
        sizes.append(size)
        return read(position, size)

    monkeypatch.setattr(block.file, "read", measured)
    for hashed in hashes[:500]:
        await found(index, hashed)
    assert len(sizes) <= 505, "about one read each"
    assert sorted(sizes)[490] <= 4096


@pytest.mark.asyncio
async def test_a_device_that_must_be_waited_for_is_waited_for() -> None:
    disk = FaultyDisk()
    index = KeyIndex()
    for number in range(5000):
        apply(index, number * 10, number * 850_000)
    await file_away(index, disk, 50_000)
    disk.is_cold = True
    assert await found(index, 850_000 * 4000) == [40_000]
    assert disk.later_reads == 1
    disk.read_error = OSError(5, "Input/output error")
    with pytest.raises(OSError, match="Input/output error"):
        await found(index, 850_000 * 10)


@pytest.mark.asyncio
async def test_a_file_that_is_cut_short_is_an_error_and_not_an_absence() -> None:
    disk = FaultyDisk()
    index = KeyIndex()
    for number in range(10):
        apply(index, number * 10, number)
    await file_away(index, disk, 100)
    disk.edit(FILE, lambda data: data.__delitem__(slice(40, None)))
    with pytest.raises(OSError, match="cut short"):
        await found(index, 3)


# Time


@pytest.mark.asyncio
async def test_blocks_outside_of_the_time_are_not_looked_at() -> None:
    disk = FaultyDisk()
    index = KeyIndex()
    blocks: list[KeyBlock] = []
    for hour in range(8):  # six in files, two in memory
        for number in range(4):
            apply(index, hour * 1000 + number, 7, ms=hour * 100 + number)
        if hour < 6:
            parts = await sort_blocks(index.tail(), at((hour + 1) * 1000))
            blocks += blocks_of(parts, disk, f"{FILE}{hour}")
            index.place(blocks, at((hour + 1) * 1000))
        else:
            index.tail()  # the next one begins a block
    every = [hour * 1000 + number for hour in reversed(range(8)) for number in reversed(range(4))]
    assert await found(index, 7) == every
    for hour in range(8):
        of_hour = [each for each in every if each // 1000 == hour]
        assert await found(index, 7, begin_ms=hour * 100, end_ms=hour * 100 + 50) == of_hour
        assert await found(index, 7, begin_ms=hour * 100) == [each for each in every if each // 1000 >= hour]
        assert await found(index, 7, end_ms=hour * 100) == [each for each in every if each // 1000 <= hour]
    assert await found(index, 7, begin_ms=750) == []
    assert await found(index, 7, end_ms=-1) == []
    assert await found(index, 7, begin_ms=10, end_ms=50) == []
    assert await found(index, 7, begin_ms=500, end_ms=100) == []


# Moving


@pytest.mark.asyncio
async def test_a_search_goes_on_while_blocks_move_to_files_and_are_joined() -> None:
    disk = FaultyDisk()
    index = KeyIndex()
    for number in range(9):
        apply(index, number * 100, 7)
        index.tail()
    search = index.find(7, at(0), 0, EVER)
    seen = [await anext(search) for _ in range(3)]
    (joined,) = await file_away(index, disk, 900)
    assert joined.entries == 9
    for number in range(9, 12):
        apply(index, number * 100, 7)
    seen += [each async for each in search]
    assert seen == [800, 700, 600, 500, 400, 300, 200, 100, 0]


@pytest.mark.asyncio
async def test_what_comes_during_a_checkpoint_stays_in_memory() -> None:
    disk = FaultyDisk()
    index = KeyIndex()
    apply(index, 0, 7)
    tail = index.tail()
    apply(index, 100, 7)
    parts = await sort_blocks(tail, at(100))
    index.place(blocks_of(parts, disk), at(100))
    assert [block.start for block in index.tail()] == [100]
    assert await found(index, 7) == [100, 0]


@pytest.mark.asyncio
async def test_blocks_of_a_log_that_was_trimmed_are_forgotten() -> None:
    index = KeyIndex()
    blocks: list[KeyBlock] = []
    for number in range(3):
        apply(index, number * 100, 7)
        blocks += blocks_of(await sort_blocks(index.tail(), at(number * 100 + 100)), FaultyDisk())
        index.place(blocks, at(number * 100 + 100))
    index.place(blocks[1:], at(100))
    assert await found(index, 7) == [200, 100]
    assert index.applied_offset == 300


@pytest.mark.asyncio
async def test_other_work_has_its_turn_between_blocks() -> None:
    index = KeyIndex()
    for number in range(20):
        apply(index, number * 100, 7)
        index.tail()
    task = asyncio.ensure_future(found(index, 8))
    await turns(10)
    assert not task.done()
    assert await task == []


# Sorting and joining


@pytest.mark.asyncio
@pytest.mark.parametrize("entries", [0, 1, 4095, 4096, 4097, 20_000])
async def test_sorting_in_pieces_is_sorting(entries: int) -> None:
    rng = random.Random(entries)
    numbers = [rng.getrandbits(64) for _ in range(entries)]
    data = await sort_entries(entry_bytes(numbers))
    assert entry_numbers(data).tolist() == sorted(numbers)


def test_an_entry_is_little_endian_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert entry_bytes([1 << 32 | 2]) == bytes((2, 0, 0, 0, 1, 0, 0, 0))
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")
    assert entry_bytes([1 << 32 | 2]) == bytes((0, 0, 0, 1, 0, 0, 0, 2)), (
        "swapped, as a machine of the other kind needs"
    )
    assert entry_numbers(bytes((0, 0, 0, 1, 0, 0, 0, 2))).tolist() == [1 << 32 | 2]


def part(start: int, end: int, *entries: tuple[int, int]) -> KeyPart:
    """`entries` are (hash, log offset)."""
    numbers = sorted(hashed << 32 | log_offset - start for hashed, log_offset in entries)
    return KeyPart(at(start), at(end), EpochMs(start), EpochMs(end), entry_bytes(numbers))


@pytest.mark.asyncio
async def test_small_neighbours_become_one_block() -> None:
    joined = await join_parts([part(100, 200, (9, 150), (2, 100)), part(200, 300, (5, 200)), part(300, 400, (9, 300))])
    assert joined == [part(100, 400, (2, 100), (5, 200), (9, 150), (9, 300))]


@pytest.mark.asyncio
async def test_blocks_that_would_be_too_large_or_reach_too_far_are_not_joined() -> None:
    full = part(0, 1000, *((number, number % 1000) for number in range(BLOCK_ENTRIES)))
    one, two = part(1000, 2000, (1, 1000)), part(2000, 3000, (1, 2000))
    assert await join_parts([full, one, two]) == [
        full,
        part(1000, 3000, (1, 1000), (1, 2000))._replace(last_ms=two.last_ms),
    ]
    far = part(SPAN_BYTES_MAX, SPAN_BYTES_MAX + 1, (1, SPAN_BYTES_MAX))
    near = part(SPAN_BYTES_MAX - 1, SPAN_BYTES_MAX, (1, SPAN_BYTES_MAX - 1))
    first = part(0, 1, (1, 0))
    assert await join_parts([first, far]) == [first, far]
    assert [each.entries for each in await join_parts([first, near])] == [2]
