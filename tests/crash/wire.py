"""A bare connection that speaks remoting with the project's codec and nothing else of it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

from posthouse.codec.record import decode_records
from posthouse.codec.remoting.bodies.groups import decode_group_config, encode_group_config
from posthouse.codec.remoting.bodies.topics import decode_topic_config
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, decode_command, encode_command, request
from posthouse.codec.remoting.frame import FrameReader
from posthouse.codec.remoting.headers.groups import DELETE_GROUP, GET_GROUP_CONFIG, DeleteGroup, GetGroupConfig
from posthouse.codec.remoting.headers.offsets import (
    GET_MAX_OFFSET,
    GET_MIN_OFFSET,
    QUERY_CONSUMER_OFFSET,
    UPDATE_CONSUMER_OFFSET,
    GetMaxOffset,
    GetMinOffset,
    QueryConsumerOffset,
    UpdateConsumerOffset,
)
from posthouse.codec.remoting.headers.pull import PULL_MESSAGE, PullFlag, PullMessage
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_V2, SendMessageV2
from posthouse.codec.remoting.headers.topics import CREATE_TOPIC, TOPIC_NAME, CreateTopic, TopicName
from posthouse.host.net import Address
from posthouse.model.group import GroupConfig
from posthouse.model.message import StoredMessage
from posthouse.model.topic import Perm, TopicConfig

ANSWER_SECONDS_MAX = 20.0


class Wire(asyncio.Protocol):
    """`ask` waits for the answer; `give` calls back with it. `lost` is done when the connection has ended."""

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._waiting: dict[int, Callable[[Command], None]] = {}
        self._last_id = 0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for frame in self._reader.receive_data(data):
            answer = decode_command(frame)
            done = self._waiting.pop(answer.request_id, None)
            if done is not None:
                done(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    def give(self, code: int, ext: dict[str, str] | None, body: bytes, done: Callable[[Command], None] | None) -> None:
        """A request whose answer `done` gets; without `done` it is one-way."""
        self._last_id += 1
        if done is not None:
            self._waiting[self._last_id] = done
        self.transport.write(encode_command(request(code, self._last_id, ext, body, one_way=done is None)))

    async def ask(self, code: int, ext: dict[str, str] | None = None, body: bytes = b"") -> Command:
        answer: asyncio.Future[Command] = asyncio.get_running_loop().create_future()
        self.give(code, ext, body, lambda found: None if answer.done() else answer.set_result(found))
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            await asyncio.wait((answer, self.lost), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ConnectionError("the connection was lost before the answer came")
        return answer.result()

    def close(self) -> None:
        self.transport.close()


async def dial(address: Address) -> Wire:
    async with asyncio.timeout(10):
        _, wire = await asyncio.get_running_loop().create_connection(Wire, address.host, address.port)
    return wire


def send_ext(topic: str, queue_id: int, properties: str = "", *, batch: bool = False) -> dict[str, str]:
    """The header of SEND_MESSAGE_V2."""
    header = SendMessageV2(
        producer_group="p",
        topic=topic,
        default_topic="TBW102",
        default_topic_queues=4,
        queue_id=queue_id,
        sys_flag=0,
        born_at_ms=1_600_000_000_000,
        flag=0,
        properties=properties,
        batch=batch or None,
    )
    return SEND_MESSAGE_V2.encode(header)


def pull_ext(group: str, topic: str, queue_id: int, offset: int, suspend_ms: int = 0) -> dict[str, str]:
    """The header of PULL_MESSAGE for everything in a queue."""
    flag = PullFlag.SUBSCRIPTION | (PullFlag.SUSPEND if suspend_ms else 0)
    header = PullMessage(
        consumer_group=group,
        topic=topic,
        queue_id=queue_id,
        queue_offset=offset,
        messages_max=32,
        sys_flag=flag,
        commit_offset=0,
        suspend_timeout_ms=suspend_ms,
        subscription="*",
        sub_version=0,
    )
    return PULL_MESSAGE.encode(header)


def commit_ext(group: str, topic: str, queue_id: int, offset: int) -> dict[str, str]:
    header = UpdateConsumerOffset(consumer_group=group, topic=topic, queue_id=queue_id, commit_offset=offset)
    return UPDATE_CONSUMER_OFFSET.encode(header)


async def send(wire: Wire, topic: str, queue_id: int, body: bytes) -> Command:
    return await wire.ask(RequestCode.SEND_MESSAGE_V2, send_ext(topic, queue_id), body)


async def pull_all(wire: Wire, group: str, topic: str, queue_id: int, offset: int) -> list[StoredMessage]:
    """All messages of a queue from `offset` on, or from its min offset; none if there is no such topic."""
    found: list[StoredMessage] = []
    while True:
        answer = await wire.ask(RequestCode.PULL_MESSAGE, pull_ext(group, topic, queue_id, offset))
        if answer.code == ResponseCode.PULL_OFFSET_MOVED:
            moved_to = int(answer.ext_map()["nextBeginOffset"])
            assert moved_to > offset, f"there is nothing at {offset} of {topic}, queue {queue_id}: {answer}"
            offset = moved_to
            continue
        if answer.code in (ResponseCode.PULL_NOT_FOUND, ResponseCode.TOPIC_NOT_EXIST):
            return found
        assert answer.code == ResponseCode.SUCCESS, (answer.code, answer.remark)
        messages = decode_records(answer.body)
        assert messages, "an answer FOUND without messages"
        found += messages
        offset = int(answer.ext_map()["nextBeginOffset"])


async def max_offset(wire: Wire, topic: str, queue_id: int) -> int:
    ext = GET_MAX_OFFSET.encode(GetMaxOffset(topic=topic, queue_id=queue_id))
    answer = await wire.ask(RequestCode.GET_MAX_OFFSET, ext)
    assert answer.code == ResponseCode.SUCCESS, (answer.code, answer.remark)
    return int(answer.ext_map()["offset"])


async def min_offset(wire: Wire, topic: str, queue_id: int) -> int:
    ext = GET_MIN_OFFSET.encode(GetMinOffset(topic=topic, queue_id=queue_id))
    answer = await wire.ask(RequestCode.GET_MIN_OFFSET, ext)
    assert answer.code == ResponseCode.SUCCESS, (answer.code, answer.remark)
    return int(answer.ext_map()["offset"])


async def committed_offset(wire: Wire, group: str, topic: str, queue_id: int) -> int | None:
    header = QueryConsumerOffset(consumer_group=group, topic=topic, queue_id=queue_id, set_zero_if_not_found=False)
    answer = await wire.ask(RequestCode.QUERY_CONSUMER_OFFSET, QUERY_CONSUMER_OFFSET.encode(header))
    if answer.code == ResponseCode.QUERY_NOT_FOUND:
        return None
    assert answer.code == ResponseCode.SUCCESS, (answer.code, answer.remark)
    return int(answer.ext_map()["offset"])


def create_topic_ext(topic: str, queues: int) -> dict[str, str]:
    """The header of UPDATE_AND_CREATE_TOPIC."""
    return CREATE_TOPIC.encode(CreateTopic(topic=topic, read_queues=queues, write_queues=queues, perm=Perm.READ_WRITE))


async def topic_config(wire: Wire, topic: str) -> TopicConfig | None:
    answer = await wire.ask(RequestCode.GET_TOPIC_CONFIG, TOPIC_NAME.encode(TopicName(topic=topic)))
    if answer.code == ResponseCode.TOPIC_NOT_EXIST:
        return None
    assert answer.code == ResponseCode.SUCCESS, (answer.code, answer.remark)
    return decode_topic_config(answer.body)


def delete_topic_ext(topic: str) -> dict[str, str]:
    return TOPIC_NAME.encode(TopicName(topic=topic))


def group_body(group: str, retries: int) -> bytes:
    """The body of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP."""
    return encode_group_config(GroupConfig(group, retry_max_times=retries))


async def group_config(wire: Wire, group: str) -> GroupConfig | None:
    ext = GET_GROUP_CONFIG.encode(GetGroupConfig(group=group))
    answer = await wire.ask(RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG, ext)
    if answer.code == ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST:
        return None
    assert answer.code == ResponseCode.SUCCESS, (answer.code, answer.remark)
    return decode_group_config(answer.body)


def delete_group_ext(group: str) -> dict[str, str]:
    return DELETE_GROUP.encode(DeleteGroup(group=group, clean_offset=True))


def frame(header: bytes, body: bytes = b"", serialize_type: int = 0) -> bytes:
    """A frame from raw parts, true to its lengths."""
    return struct.pack(">II", 4 + len(header) + len(body), serialize_type << 24 | len(header)) + header + body
