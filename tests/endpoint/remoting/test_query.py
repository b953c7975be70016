"""Single messages over the wire: 12 and 33."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from posthouse.codec.record import decode_records
from posthouse.codec.remoting.headers.query import QUERY_MESSAGE_REPLY
from posthouse.model.ids import parse_offset_message_id
from posthouse.model.properties import encode_properties
from tests.broker.brokers import host_on
from tests.endpoint.clients import C, Client, R, client, house
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio


def query_ext(key: str, **changes: Any) -> dict[str, Any]:
    """The header of request 12 as Java's client sends it."""
    ext: dict[str, Any] = {"topic": "T", "key": key, "maxNum": 32, "beginTimestamp": 0, "endTimestamp": 2**63 - 1}
    return ext | changes


async def send_keyed(asking: Client, body: bytes, keys: str, unique: str = "") -> int:
    """Where it is in the log."""
    text = encode_properties({"KEYS": keys} | ({"UNIQ_KEY": unique} if unique else {}))
    sent = await asking.send("T", body, properties=text)
    return parse_offset_message_id(sent.msg_id)[1]


async def bodies(asking: Client, key: str, **changes: Any) -> list[bytes]:
    return [each.body for each in decode_records((await asking.ok(C.QUERY_MESSAGE, query_ext(key, **changes))).body)]


async def test_the_newest_are_given_in_the_order_of_the_log() -> None:
    async with house() as found, client(found.broker_address) as asking:
        for number in range(5):
            await send_keyed(asking, b"%d" % number, f"all k{number}")
        assert await bodies(asking, "all") == [b"0", b"1", b"2", b"3", b"4"]
        assert await bodies(asking, "all", maxNum=2) == [b"3", b"4"]
        assert await bodies(asking, "k3") == [b"3"]


async def test_a_unique_key_is_looked_for_when_the_header_says_so() -> None:
    async with house() as found, client(found.broker_address) as asking:
        await send_keyed(asking, b"wanted", "k", "U")
        await send_keyed(asking, b"other", "U", "V")
        flag = {"_UNIQUE_KEY_QUERY": "true"}
        assert await bodies(asking, "U", **flag) == [b"wanted"]
        assert await bodies(asking, "U", **flag | {"maxNum": 0}) == [b"wanted"], "the broker alone limits it"
        for said in ("false", "maybe", ""):
            assert await bodies(asking, "U", _UNIQUE_KEY_QUERY=said) == [b"wanted", b"other"]


async def test_the_answer_says_how_far_the_index_is() -> None:
    clock = ManualClock(7000)
    async with house(host_on(FaultyDisk(), clock)) as found, client(found.broker_address) as asking:
        place = await send_keyed(asking, b"x", "k")
        answer = await asking.ok(C.QUERY_MESSAGE, query_ext("k"))
        header = QUERY_MESSAGE_REPLY.decode(answer.ext)
        assert header.indexed_at_ms == 7000
        assert header.indexed_offset > place


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "none"},
        {"key": ""},
        {"topic": "NoSuchTopic"},
        {"maxNum": 0},
        {"maxNum": -1},
        {"endTimestamp": 5},
        {"beginTimestamp": 2**62},
        {"beginTimestamp": 2**62, "endTimestamp": 5},
    ],
)
async def test_nothing_found_is_told_so(changes: dict[str, Any]) -> None:
    async with house() as found, client(found.broker_address) as asking:
        await send_keyed(asking, b"x", "k")
        answer = await asking.ask(C.QUERY_MESSAGE, query_ext("k") | changes)
        assert (answer.code, answer.body) == (R.QUERY_NOT_FOUND, b"")


@pytest.mark.parametrize("field", ["topic", "key", "maxNum", "beginTimestamp", "endTimestamp"])
async def test_a_query_without_a_needed_field_is_a_broken_header(field: str) -> None:
    async with house() as found, client(found.broker_address) as asking:
        ext = query_ext("k")
        del ext[field]
        answer = await asking.ask(C.QUERY_MESSAGE, ext)
        assert answer.code == R.SYSTEM_ERROR
        assert field in (answer.remark or "")


async def test_a_message_is_viewed_by_its_place_with_and_without_its_topic() -> None:
    async with house() as found, client(found.broker_address) as asking:
        await asking.send("T", b"before")
        place = await send_keyed(asking, b"wanted", "k")
        for ext in ({"offset": place}, {"offset": place, "topic": "T"}):
            answer = await asking.ok(C.VIEW_MESSAGE_BY_ID, ext)
            (message,) = decode_records(answer.body)
            assert (message.body, message.log_offset) == (b"wanted", place)


@pytest.mark.parametrize("offset", [-1, 0, 3, 2**40, -(2**63), 2**63 - 1])
async def test_a_place_without_a_message_is_an_error(offset: int) -> None:
    async with house() as found, client(found.broker_address) as asking:
        await asking.send("T", b"x")
        answer = await asking.ask(C.VIEW_MESSAGE_BY_ID, {"offset": offset})
        assert (answer.code, answer.body) == (R.SYSTEM_ERROR, b"")
        assert f"no message begins at log offset {offset}" in (answer.remark or "")


@pytest.mark.parametrize("offset", ["", "x", 2**63, None])
async def test_a_place_that_is_no_number_is_a_broken_header(offset: Any) -> None:
    async with house() as found, client(found.broker_address) as asking:
        answer = await asking.ask(C.VIEW_MESSAGE_BY_ID, {} if offset is None else {"offset": offset})
        assert answer.code == R.SYSTEM_ERROR
        assert "offset" in (answer.remark or "")


async def test_queries_beyond_the_limit_are_told_to_come_again() -> None:
    disk = FaultyDisk()
    async with house(host_on(disk)) as found, client(found.broker_address) as asking:
        await send_keyed(asking, b"x", "k")
        asked = [asking.ask(C.QUERY_MESSAGE, query_ext("k")) for _ in range(200)]
        codes = [answer.code for answer in await asyncio.gather(*asked)]
        assert set(codes) <= {R.SUCCESS, R.SYSTEM_BUSY}
        assert codes.count(R.SUCCESS) >= 32
        assert (await asking.ask(C.QUERY_MESSAGE, query_ext("k"))).code == R.SUCCESS
