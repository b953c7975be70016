"""A connection as the broker's services see it."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.codec.remoting.command import response
from posthouse.endpoint.house import House
from posthouse.endpoint.remoting.channel import PeerChannel
from posthouse.model.question import Question
from posthouse.model.refusal import Reason, Refused
from tests.broker.brokers import until
from tests.endpoint.clients import C, Client, client, house

pytestmark = pytest.mark.asyncio


async def channel_of(found: House, told: Client) -> PeerChannel:
    await told.quiet()
    assert found._broker_server is not None
    (peer,) = found._broker_server._peers
    return PeerChannel(peer)


async def test_channel_has_the_address_of_the_client_and_tells_it_things() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as told:
        channel = await channel_of(found, told)
        assert channel.client_address == str(told.peer.local)
        channel.group_changed("G")
        await until(lambda: len(told.told) == 1)
        (command,) = told.told
        assert (command.code, command.ext_map()) == (C.NOTIFY_CONSUMER_IDS_CHANGED, {"consumerGroup": "G"})
        assert command.is_one_way
        channel.close("enough")
        await until(lambda: told.is_gone)
        channel.group_changed("G")
        channel.close("twice is fine")


async def test_client_is_asked_over_its_own_connection() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as told:
        channel = await channel_of(found, told)
        asking = asyncio.create_task(channel.ask(Question.RUNNING_INFO, {"clientId": "c"}, b"body", timeout_s=5.0))
        await until(lambda: len(told.told) == 1)
        (command,) = told.told
        assert (command.code, command.ext_map(), command.body) == (307, {"clientId": "c"}, b"body")
        told.peer.answer(response(1, command.request_id, {"name": "value"}, b"answer", "no such group"))
        answer = await asking
        assert (answer.code, answer.remark, answer.fields, answer.body) == (
            1,
            "no such group",
            {"name": "value"},
            b"answer",
        )


async def test_silent_client_and_one_that_goes_are_two_refusals() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as told:
        channel = await channel_of(found, told)
        with pytest.raises(Refused, match=r"has not answered within 0\.05 s") as silent:
            await channel.ask(Question.RUNNING_INFO, {}, timeout_s=0.05)
        assert silent.value.reason is Reason.CLIENT_SILENT
        asking = asyncio.create_task(channel.ask(Question.RUNNING_INFO, {}, timeout_s=5.0))
        await until(lambda: len(told.told) == 2)
        await told.close()
        with pytest.raises(Refused, match="could not be asked") as gone:
            await asking
        assert gone.value.reason is Reason.FAILED
        channel.tell(Question.RESET_OFFSETS, {})  # to nobody


async def test_answer_that_cannot_be_read_is_a_refusal() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as told:
        channel = await channel_of(found, told)
        asking = asyncio.create_task(channel.ask(Question.REPLY, {}, timeout_s=5.0))
        await until(lambda: len(told.told) == 1)
        told.peer.write(_with_bad_ext(told.told[0].request_id))
        with pytest.raises(Refused, match="extFields") as refused:
            await asking
        assert refused.value.reason is Reason.FAILED


def _with_bad_ext(request_id: int) -> bytes:
    header = f'{{"code":0,"opaque":{request_id},"flag":1,"extFields":{{"a":[]}}}}'.encode()
    return (len(header) + 4).to_bytes(4, "big") + len(header).to_bytes(4, "big") + header


async def test_what_nobody_answers_is_told() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as told:
        channel = await channel_of(found, told)
        channel.tell(Question.RESET_OFFSETS, {"topic": "T"}, b"offsets")
        await until(lambda: len(told.told) == 1)
        (command,) = told.told
        assert (command.code, command.ext_map(), command.body) == (220, {"topic": "T"}, b"offsets")
        assert command.is_one_way
