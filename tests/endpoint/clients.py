"""A house and clients on real sockets: what they say is what Java's clients say, with its names on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from posthouse.codec.record import decode_records
from posthouse.codec.remoting.bodies.heartbeat import encode_heartbeat
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, request
from posthouse.codec.remoting.headers.pull import PULL_MESSAGE_REPLY, PullMessageReply
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_REPLY, SendMessageReply
from posthouse.endpoint.house import House, HouseConfig
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.link.peer import RemotingPeer
from posthouse.model.group import Membership
from posthouse.model.heartbeat import HeartbeatData
from posthouse.model.message import StoredMessage

C = RequestCode
R = ResponseCode

IN_MEMORY = HouseConfig(data=None, nameserver_port=0, broker_port=0)
SUSPEND, SUBSCRIPTION, COMMIT = 2, 4, 1


@asynccontextmanager
async def house(machine: Host | None = None, **changes: Any) -> AsyncIterator[House]:
    """A house that has started, with a NameServer and a broker unless `changes` say otherwise."""
    found = House(machine or Host.real(), replace(IN_MEMORY, **changes))
    await found.start()
    try:
        yield found
    finally:
        await found.close()


class Client:
    """One connection, and what the server asked or told on it."""

    def __init__(self) -> None:
        self.peer = RemotingPeer(self)
        self.told: list[Command] = []
        self.is_gone = False

    def connected(self, peer: RemotingPeer) -> None:
        pass

    def disconnected(self, peer: RemotingPeer) -> None:
        self.is_gone = True

    def request(self, peer: RemotingPeer, command: Command) -> None:
        self.told.append(command)

    async def ask(self, code: int, ext: dict[str, Any] | None = None, body: bytes = b"") -> Command:
        """The answer, whatever its code."""
        return await self.peer.ask(code, text(ext), body, 5.0)

    async def ok(self, code: int, ext: dict[str, Any] | None = None, body: bytes = b"") -> Command:
        answer = await self.ask(code, ext, body)
        assert answer.code == R.SUCCESS, (answer.code, answer.remark)
        return answer

    def tell(self, code: int, ext: dict[str, Any] | None = None, body: bytes = b"") -> None:
        self.peer.tell(code, text(ext), body)

    async def quiet(self) -> None:
        """Until the server has handled all that was said before."""
        await self.ask(C.GET_SYSTEM_TOPIC_LIST_FROM_BROKER)

    async def send(self, topic: str, body: bytes = b"body", **changes: Any) -> SendMessageReply:
        return SEND_MESSAGE_REPLY.decode((await self.ok(C.SEND_MESSAGE_V2, send_ext(topic, **changes), body)).ext)

    async def pull(self, topic: str, offset: int = 0, **changes: Any) -> tuple[Command, PullMessageReply]:
        answer = await self.ask(C.PULL_MESSAGE, pull_ext(topic, offset, **changes))
        return answer, PULL_MESSAGE_REPLY.decode(answer.ext)

    async def messages(self, topic: str, offset: int = 0, **changes: Any) -> list[StoredMessage]:
        answer, _ = await self.pull(topic, offset, **changes)
        return decode_records(answer.body)

    async def beat(self, *members: Membership, client_id: str = "client-1", producers: tuple[str, ...] = ()) -> None:
        await self.ok(C.HEART_BEAT, body=encode_heartbeat(HeartbeatData(client_id, producers, members)))

    async def close(self) -> None:
        self.peer.close("the test is over")
        await self.peer.wait_closed()


def text(ext: dict[str, Any] | None) -> dict[str, str] | None:
    if ext is None:
        return None
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in ext.items()}


@asynccontextmanager
async def client(address: Address | None) -> AsyncIterator[Client]:
    assert address is not None
    found = Client()
    await Host.real().net.dial(lambda: found.peer, address)
    try:
        yield found
    finally:
        await found.close()


_LETTERS = {
    "producerGroup": "a",
    "topic": "b",
    "defaultTopic": "c",
    "defaultTopicQueueNums": "d",
    "queueId": "e",
    "sysFlag": "f",
    "bornTimestamp": "g",
    "flag": "h",
    "properties": "i",
    "reconsumeTimes": "j",
    "unitMode": "k",
    "maxReconsumeTimes": "l",
    "batch": "m",
}


def long_send_ext(topic: str, **changes: Any) -> dict[str, Any]:
    """The header of request 10."""
    ext: dict[str, Any] = {
        "producerGroup": "P",
        "topic": topic,
        "defaultTopic": "TBW102",
        "defaultTopicQueueNums": 4,
        "queueId": 0,
        "sysFlag": 0,
        "bornTimestamp": 1_700_000_000_000,
        "flag": 0,
        "properties": "",
        "reconsumeTimes": 0,
        "unitMode": False,
        "batch": False,
    }
    return ext | changes


def send_ext(topic: str, **changes: Any) -> dict[str, Any]:
    """The header of requests 310 and 320."""
    return {_LETTERS[name]: value for name, value in long_send_ext(topic, **changes).items()}


def pull_ext(topic: str, offset: int = 0, **changes: Any) -> dict[str, Any]:
    ext: dict[str, Any] = {
        "consumerGroup": "G",
        "topic": topic,
        "queueId": 0,
        "queueOffset": offset,
        "maxMsgNums": 32,
        "sysFlag": SUBSCRIPTION,
        "commitOffset": 0,
        "suspendTimeoutMillis": 15_000,
        "subscription": "*",
        "subVersion": 0,
        "expressionType": "TAG",
    }
    return ext | changes


def one_way(code: int, ext: dict[str, Any], body: bytes = b"") -> Command:
    return request(code, 1, text(ext), body, one_way=True)
