"""Topics over the wire: 17, 18, 21, 202, 215, 300, 305, 316, 351."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from posthouse.codec.remoting.bodies.groups import decode_group_list
from posthouse.codec.remoting.bodies.routes import decode_route
from posthouse.codec.remoting.bodies.stats import decode_topic_stats
from posthouse.codec.remoting.bodies.topics import (
    decode_topic_config,
    decode_topic_list,
    decode_topic_table,
    encode_topic_config_list,
)
from posthouse.endpoint.remoting.topics import changed_attributes
from posthouse.model.limits import QUEUES_PER_TOPIC_MAX, TOPIC_CHARS_MAX
from posthouse.model.message import MessageQueue
from posthouse.model.refusal import Reason, Refused
from posthouse.model.stats import QueueBounds
from posthouse.model.topic import Perm, TopicConfig
from tests.broker.brokers import host_on, member, until
from tests.endpoint.clients import C, Client, R, client, house
from tests.endpoint.remoting.test_broker import broker_of
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio

OWN = {"DefaultCluster", "DefaultCluster_REPLY_TOPIC", "RMQ_SYS_TRACE_TOPIC", "TBW102", "broker-a"}
"""What a broker has from its start."""


def create_ext(topic: str, **changes: Any) -> dict[str, Any]:
    """The header of request 17."""
    ext: dict[str, Any] = {
        "topic": topic,
        "defaultTopic": "TBW102",
        "readQueueNums": 4,
        "writeQueueNums": 2,
        "perm": 6,
        "topicFilterType": "SINGLE_TAG",
        "topicSysFlag": 0,
        "order": False,
    }
    return ext | changes


async def config_of(asking: Client, topic: str) -> TopicConfig:
    return decode_topic_config((await asking.ok(C.GET_TOPIC_CONFIG, {"topic": topic, "lo": True})).body)


async def test_topic_is_made_changed_shown_and_routed() -> None:
    async with house() as found, client(found.broker_address) as admin, client(found.nameserver_address) as asking:
        await admin.ok(C.UPDATE_AND_CREATE_TOPIC, create_ext("T"))
        assert await config_of(admin, "T") == TopicConfig("T", 4, 2)
        changed = create_ext("T", readQueueNums=8, writeQueueNums=8, perm=4, order=True, topicSysFlag=1)
        for _ in range(2):
            await admin.ok(C.UPDATE_AND_CREATE_TOPIC, changed)
        wanted = TopicConfig("T", 8, 8, Perm.READ, "SINGLE_TAG", 1, True)
        assert await config_of(admin, "T") == wanted
        table = decode_topic_table((await admin.ok(C.GET_ALL_TOPIC_CONFIG)).body)
        assert table.topics["T"] == wanted
        assert set(table.topics) == {"T", *OWN}
        assert table.version == broker_of(found).topics.version

        async def queues() -> tuple[int, int]:
            answer = await asking.ask(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "T"})
            if answer.code:
                return 0, 0
            (queue,) = decode_route(answer.body).queues
            return queue.read_queues, queue.perm

        deadline_s = asyncio.get_running_loop().time() + 2
        while await queues() != (8, Perm.READ):
            assert asyncio.get_running_loop().time() < deadline_s, "the route has not changed"
            await asyncio.sleep(0.001)


async def test_answers_about_all_topics_do_not_promise_pages() -> None:
    """With totalTopicNum a client of 5.3.3 would ask for more pages until it has them all."""
    async with house() as found, client(found.broker_address) as admin:
        paged = {"topicSeq": 0, "maxTopicNum": 1, "dataVersion": "{}"}
        answer = await admin.ok(C.GET_ALL_TOPIC_CONFIG, paged)
        assert "totalTopicNum" not in answer.ext_map()
        assert set(decode_topic_table(answer.body).topics) == OWN


@pytest.mark.parametrize(
    "changes, code",
    [
        ({"topic": ""}, R.INVALID_PARAMETER),
        ({"topic": "a b"}, R.INVALID_PARAMETER),
        ({"topic": "x" * (TOPIC_CHARS_MAX + 1)}, R.INVALID_PARAMETER),
        ({"topic": "TBW102"}, R.INVALID_PARAMETER),
        ({"topic": "broker-a"}, R.INVALID_PARAMETER),
        ({"readQueueNums": 0}, R.INVALID_PARAMETER),
        ({"writeQueueNums": -1}, R.INVALID_PARAMETER),
        ({"writeQueueNums": QUEUES_PER_TOPIC_MAX + 1}, R.INVALID_PARAMETER),
        ({"readQueueNums": 2**31 - 1}, R.INVALID_PARAMETER),
        ({"perm": 2**31 - 1}, R.INVALID_PARAMETER),
        ({"topicFilterType": "NO_SUCH"}, R.INVALID_PARAMETER),
        ({"attributes": "message.type=FIFO"}, R.INVALID_PARAMETER),
        ({"attributes": "+colour=red"}, R.INVALID_PARAMETER),
        ({"readQueueNums": "many"}, R.SYSTEM_ERROR),
    ],
)
async def test_topic_that_cannot_be_is_refused(changes: dict[str, Any], code: R) -> None:
    async with house() as found, client(found.broker_address) as admin:
        answer = await admin.ask(C.UPDATE_AND_CREATE_TOPIC, create_ext("T") | changes)
        assert answer.code == code
        assert answer.remark
        assert broker_of(found).topics.find("T") is None


async def test_attributes_are_added_changed_and_removed() -> None:
    async with house() as found, client(found.broker_address) as admin:

        async def after(change: str | None) -> dict[str, str]:
            ext = create_ext("T") | ({} if change is None else {"attributes": change})
            await admin.ok(C.UPDATE_AND_CREATE_TOPIC, ext)
            return (await config_of(admin, "T")).attributes

        assert await after("+message.type=FIFO,+cleanup.policy=DELETE") == {
            "message.type": "FIFO",
            "cleanup.policy": "DELETE",
        }
        assert await after(None) == {"message.type": "FIFO", "cleanup.policy": "DELETE"}, "not said is not changed"
        assert await after("+message.type=NORMAL") == {"message.type": "NORMAL", "cleanup.policy": "DELETE"}
        assert await after("-cleanup.policy") == {"message.type": "NORMAL"}
        assert await after("-message.type") == {}


@pytest.mark.parametrize("change", ["a", "=b", "+a", "+a=", "+=b", "-", "-a=b", "a=b", "*a=b", "+a=b,c"])
async def test_malformed_change_of_attributes_is_refused(change: str) -> None:
    with pytest.raises(Refused) as refused:
        changed_attributes({"a": "x"}, change)
    assert refused.value.reason is Reason.INVALID_PARAMETER


async def test_many_topics_are_made_at_once() -> None:
    async with house() as found, client(found.broker_address) as admin:
        wanted = [TopicConfig("A", 1, 1), TopicConfig("B", 2, 3, Perm.READ, attributes={"message.type": "FIFO"})]
        for _ in range(2):
            await admin.ok(C.UPDATE_AND_CREATE_TOPIC_LIST, body=encode_topic_config_list(wanted))
            assert [await config_of(admin, each.name) for each in wanted] == wanted
        change = {"+message.type": "NORMAL", "+cleanup.policy": "DELETE"}
        for attributes in (change, {"-cleanup.policy": ""}, {}):
            body = {"topicConfigList": [{"topicName": "B", "attributes": attributes}]}
            await admin.ok(C.UPDATE_AND_CREATE_TOPIC_LIST, body=json.dumps(body).encode())
        assert (await config_of(admin, "B")).attributes == {"message.type": "NORMAL"}
        answer = await admin.ask(C.UPDATE_AND_CREATE_TOPIC_LIST, body=encode_topic_config_list([TopicConfig("TBW102")]))
        assert answer.code == R.INVALID_PARAMETER


async def test_deleted_topic_is_gone_and_unknown_ones_are_no_error() -> None:
    async with house() as found, client(found.broker_address) as admin:
        await admin.ok(C.UPDATE_AND_CREATE_TOPIC, create_ext("T"))
        for _ in range(2):
            await admin.ok(C.DELETE_TOPIC_IN_BROKER, {"topic": "T"})
        for code in (C.GET_TOPIC_CONFIG, C.GET_TOPIC_STATS_INFO):
            assert (await admin.ask(code, {"topic": "T"})).code == R.TOPIC_NOT_EXIST
        for name in ("", "TBW102"):
            assert (await admin.ask(C.DELETE_TOPIC_IN_BROKER, {"topic": name})).code == R.INVALID_PARAMETER
        await admin.ok(C.CLEAN_UNUSED_TOPIC)


async def test_figures_of_a_topic_have_a_row_for_each_queue() -> None:
    clock = ManualClock(1000)
    async with house(host_on(FaultyDisk(), clock)) as found, client(found.broker_address) as admin:
        await admin.ok(C.UPDATE_AND_CREATE_TOPIC, create_ext("T", readQueueNums=2, writeQueueNums=3))
        for at_ms in (2000, 3000):
            clock.at_ms = at_ms
            await admin.send("T", queueId=1)
        stats = decode_topic_stats((await admin.ok(C.GET_TOPIC_STATS_INFO, {"topic": "T"})).body)
        rows = {queue.queue_id: bounds for queue, bounds in stats.queues.items()}
        empty = QueueBounds(0, 0, 0)  # type: ignore[arg-type]
        assert rows == {0: empty, 1: QueueBounds(0, 2, 3000), 2: empty}  # type: ignore[arg-type]
        assert set(stats.queues) == {MessageQueue("T", "broker-a", number) for number in range(3)}


async def test_groups_of_a_topic_are_those_with_members_and_those_with_offsets() -> None:
    async with house() as found, client(found.broker_address) as admin:
        await admin.ok(C.UPDATE_AND_CREATE_TOPIC, create_ext("T"))

        async def groups() -> tuple[str, ...]:
            return decode_group_list((await admin.ok(C.QUERY_TOPIC_CONSUME_BY_WHO, {"topic": "T"})).body)

        assert await groups() == ()
        broker_of(found).groups.require("Away")
        ext = {"consumerGroup": "Away", "topic": "T", "queueId": 0, "commitOffset": 0}
        await admin.ok(C.UPDATE_CONSUMER_OFFSET, ext)
        await admin.beat(member("Here", "T"), member("Elsewhere", "U"))
        assert await groups() == ("Away", "Here")


async def test_system_topics_are_told_apart() -> None:
    async with house() as found, client(found.broker_address) as admin:
        await admin.ok(C.UPDATE_AND_CREATE_TOPIC, create_ext("T"))
        told = decode_topic_list((await admin.ok(C.GET_SYSTEM_TOPIC_LIST_FROM_BROKER)).body)
        assert told.topics == tuple(sorted(OWN))


async def test_more_topics_than_one_answer_can_hold_are_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.codec.remoting.frame.FRAME_BYTES_MAX", 2000)
    async with house(nameserver_port=None) as found, client(found.broker_address) as admin:
        for number in range(10):
            await admin.ok(C.UPDATE_AND_CREATE_TOPIC, create_ext(f"{number}" * 100))
        answer = await admin.ask(C.GET_ALL_TOPIC_CONFIG)
        assert answer.code == R.SYSTEM_ERROR
        assert "cannot be sent" in (answer.remark or "")
        await admin.ok(C.GET_TOPIC_CONFIG, {"topic": "TBW102"})


async def test_first_send_makes_a_topic_that_the_nameserver_knows_at_once() -> None:
    async with house() as found, client(found.broker_address) as producer:
        await producer.send("Made")
        nameserver = found.nameserver
        assert nameserver is not None
        await until(lambda: "Made" in nameserver.routes.topics(), 2)
