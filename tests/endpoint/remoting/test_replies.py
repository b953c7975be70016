"""Request and reply over the wire: 324, 325 from the one that replies, 326 to the one that asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.replies import PUSH_REPLY
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_REPLY
from posthouse.host import Host
from posthouse.link.peer import RemotingPeer
from posthouse.model.properties import decode_properties, encode_properties
from tests.endpoint.clients import C, Client, R, client, house, long_send_ext, send_ext

pytestmark = pytest.mark.asyncio

TOPIC = "DefaultCluster_REPLY_TOPIC"


class Asker(Client):
    """A client that says something to every reply that is pushed to it."""

    code = R.SUCCESS

    def request(self, peer: RemotingPeer, command: Command) -> None:
        super().request(peer, command)
        if command.code == C.PUSH_REPLY_MESSAGE_TO_CLIENT:
            peer.answer(response(self.code, command.request_id, remark=None if self.code == R.SUCCESS else "no"))


def properties(**more: str) -> str:
    return encode_properties({"CORRELATION_ID": "c-7", "REPLY_TO_CLIENT": "asker", "MSG_TYPE": "reply"} | more)


def reply_ext(code: int, **changes: Any) -> dict[str, Any]:
    make = long_send_ext if code == C.SEND_REPLY_MESSAGE else send_ext
    return make(TOPIC, properties=properties(), **changes)


async def dialled(address: Any, found: Asker) -> Asker:
    await Host.real().net.dial(lambda: found.peer, address)
    await found.beat(client_id="asker", producers=("askers",))
    return found


@pytest.mark.parametrize("code", [C.SEND_REPLY_MESSAGE, C.SEND_REPLY_MESSAGE_V2])
async def test_a_reply_reaches_the_client_that_asked_and_is_stored(code: int) -> None:
    async with house() as found, client(found.broker_address) as replier:
        asker = await dialled(found.broker_address, Asker())
        try:
            ext = reply_ext(code, queueId=-1, flag=5, bornTimestamp=1234, reconsumeTimes=0)
            answer = await replier.ok(code, ext, b"the answer")
            reply = SEND_MESSAGE_REPLY.decode(answer.ext)
            assert (reply.queue_id, reply.queue_offset, reply.region, reply.trace_on) == (0, 0, "DefaultRegion", True)
            (pushed,) = asker.told
            assert (pushed.code, pushed.is_one_way, pushed.body) == (326, False, b"the answer")
            header = PUSH_REPLY.decode(pushed.ext)
            assert (header.topic, header.producer_group, header.flag, header.born_at_ms) == (TOPIC, "P", 5, 1234)
            assert header.born_host == str(replier.peer.local)
            assert header.store_host == str(found.broker_address)
            said = decode_properties(header.properties or "")
            assert (said["CORRELATION_ID"], said["REPLY_TO_CLIENT"]) == ("c-7", "asker")
            assert int(said["PUSH_REPLY_TIME"]) == header.stored_at_ms
            (stored,) = await replier.messages(TOPIC)
            assert (stored.body, stored.properties["CORRELATION_ID"]) == (b"the answer", "c-7")
            assert (await replier.ok(C.VIEW_MESSAGE_BY_ID, {"offset": int(reply.msg_id[-16:], 16)})).body
        finally:
            await asker.close()


async def test_the_one_that_replies_is_told_that_nobody_has_it() -> None:
    async with house() as found, client(found.broker_address) as replier:
        code = C.SEND_REPLY_MESSAGE_V2
        unknown = await replier.ask(code, reply_ext(code), b"x")
        assert (unknown.code, "channel of <asker> not found" in (unknown.remark or "")) == (R.SYSTEM_ERROR, True)
        nameless = await replier.ask(code, send_ext(TOPIC, properties=""), b"x")
        assert (nameless.code, "REPLY_TO_CLIENT" in (nameless.remark or "")) == (R.SYSTEM_ERROR, True)
        asker = await dialled(found.broker_address, Asker())
        asker.code = R.SYSTEM_ERROR
        refused = await replier.ask(code, reply_ext(code), b"x")
        assert (refused.code, (refused.remark or "").startswith("push reply message to asker fail")) == (1, True)
        await asker.close()
        gone = await replier.ask(code, reply_ext(code), b"x")
        assert gone.code == R.SYSTEM_ERROR


async def test_a_client_that_goes_while_it_is_asked_ends_the_wait() -> None:
    class Leaver(Asker):
        def request(self, peer: RemotingPeer, command: Command) -> None:
            peer.close("it leaves")

    async with house() as found, client(found.broker_address) as replier:
        await dialled(found.broker_address, Leaver())
        code = C.SEND_REPLY_MESSAGE_V2
        async with asyncio.timeout(5):
            answer = await replier.ask(code, reply_ext(code), b"x")
        assert answer.code == R.SYSTEM_ERROR


async def test_a_wrong_reply_is_refused_as_a_send_is() -> None:
    async with house(auto_create_topics=False) as found, client(found.broker_address) as replier:
        code = C.SEND_REPLY_MESSAGE_V2
        for ext, wanted in (
            (send_ext("no-such-topic", properties=properties()), R.TOPIC_NOT_EXIST),
            (send_ext(TOPIC, properties=properties(), queueId=1), R.INVALID_PARAMETER),
            (send_ext("bad topic", properties=properties()), R.INVALID_PARAMETER),
        ):
            answer = await replier.ask(code, ext, b"x")
            assert answer.code == wanted, answer.remark


async def test_the_topics_of_replies_and_traces_have_a_route() -> None:
    async with house(auto_create_topics=False) as found, client(found.nameserver_address) as asking:
        for topic in (TOPIC, "RMQ_SYS_TRACE_TOPIC"):
            assert (await asking.ok(C.GET_ROUTEINFO_BY_TOPIC, {"topic": topic})).body
