"""Groups as an operator moves and changes them, while consumers are there and while they are not."""

from __future__ import annotations

import asyncio

import pytest

from posthouse import Message, Producer, PushConsumer
from posthouse.client.admin import Admin
from posthouse.client.errors import BrokerRefused
from posthouse.client.received import ReceivedMessage
from posthouse.codec.remoting.codes import ResponseCode
from posthouse.model.group import ConsumeFrom, GroupConfig, GroupRule, RequestMode
from tests.behaviour.conftest import Server, until, until_equal

pytestmark = pytest.mark.asyncio

FIRST = ConsumeFrom.CONSUME_FROM_FIRST_OFFSET


class Heard:
    """The bodies that a consumer was given, in order."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, message: ReceivedMessage) -> None:
        self.bodies.append(message.body)


async def filled(admin: Admin, server: Server, name: str, count: int = 5, queues: int = 2) -> list[bytes]:
    """A topic with messages; their bodies."""
    await admin.create_topic(name, queues=queues)
    bodies = [b"%d" % number for number in range(count)]
    async with Producer(server.nameserver) as producer:
        for body in bodies:
            await producer.send(Message(name, body))
    return bodies


async def offsets(admin: Admin, name: str) -> int:
    """How many messages the group has consumed, as the brokers know."""
    return sum(each.consumer_offset for each in (await admin.group_stats(name, name)).queues.values())


async def test_group_that_is_moved_back_gets_its_messages_again_while_it_consumes(server: Server, name: str) -> None:
    heard = Heard()
    async with Admin(server.nameserver) as admin:
        bodies = await filled(admin, server, name)
        async with PushConsumer(name, server.nameserver, subscribe=name, handler=heard, from_where=FIRST):
            await until(lambda: sorted(heard.bodies) == bodies)
            moved = await admin.reset_offsets(name, name, at_ms=0)
            assert sorted(moved.values()) == [0, 0]
            await until(lambda: sorted(heard.bodies) == sorted(bodies * 2), 60)
        await until_equal(lambda: offsets(admin, name), 5)


async def test_group_that_is_moved_while_it_is_away_goes_on_from_there(server: Server, name: str) -> None:
    heard, again = Heard(), Heard()
    async with Admin(server.nameserver) as admin:
        bodies = await filled(admin, server, name, queues=1)
        async with PushConsumer(name, server.nameserver, subscribe=name, handler=heard, from_where=FIRST):
            await until(lambda: heard.bodies == bodies)
        await until_equal(lambda: offsets(admin, name), 5)
        (queue,) = (await admin.group_stats(name, name)).queues
        assert await admin.reset_targets(name, name, queue=queue, offset=3) == {queue: 3}
        assert await admin.reset_offsets(name, name, queue=queue, offset=3) == {queue: 3}
        assert await offsets(admin, name) == 3
        async with PushConsumer(name, server.nameserver, subscribe=name, handler=again, from_where=FIRST):
            await until(lambda: again.bodies == bodies[3:])
            await asyncio.sleep(0.3)
        assert again.bodies == bodies[3:]


async def test_group_that_skips_all_gets_only_what_comes_after(server: Server, name: str) -> None:
    heard = Heard()
    async with Admin(server.nameserver) as admin:
        await filled(admin, server, name)
        await admin.create_group(GroupConfig(name))
        moved = await admin.reset_offsets(name, name)
        assert sum(moved.values()) == 5
        async with PushConsumer(name, server.nameserver, subscribe=name, handler=heard, from_where=FIRST):
            async with Producer(server.nameserver) as producer:
                await producer.send(Message(name, b"after"))
            await until(lambda: bool(heard.bodies))
            await asyncio.sleep(0.3)
        assert heard.bodies == [b"after"]


async def test_group_with_cloned_offsets_goes_on_where_the_other_is(server: Server, name: str) -> None:
    heard, clones = Heard(), Heard()
    target = f"{name}-2"
    async with Admin(server.nameserver) as admin:
        bodies = await filled(admin, server, name)
        async with PushConsumer(name, server.nameserver, subscribe=name, handler=heard, from_where=FIRST):
            await until(lambda: sorted(heard.bodies) == bodies)
        await until_equal(lambda: offsets(admin, name), 5)
        await admin.create_group(GroupConfig(target))
        await admin.clone_offsets(name, target, name, offline=True)
        async with PushConsumer(target, server.nameserver, subscribe=name, handler=clones, from_where=FIRST):
            async with Producer(server.nameserver) as producer:
                await producer.send(Message(name, b"after"))
            await until(lambda: bool(clones.bodies))
            await asyncio.sleep(0.3)
        assert clones.bodies == [b"after"]


async def test_lag_counts_what_is_not_consumed_and_how_long_it_waits(server: Server, name: str) -> None:
    heard = Heard()
    async with Admin(server.nameserver) as admin:
        bodies = await filled(admin, server, name, queues=1)
        async with PushConsumer(name, server.nameserver, subscribe=name, handler=heard, from_where=FIRST):
            await until(lambda: heard.bodies == bodies)
        await until_equal(lambda: offsets(admin, name), 5)
        (lag,) = (await admin.group_lag(name, name)).values()
        assert (lag.messages, lag.lag_ms) == (0, 0)
        async with Producer(server.nameserver) as producer:
            await producer.send(Message(name, b"waits"))
        await asyncio.sleep(0.1)
        (lag,) = (await admin.group_lag(name, name)).values()
        assert lag.messages == 1
        assert lag.lag_ms is not None
        assert 50 <= lag.lag_ms < 30_000


async def test_deleted_group_begins_anew(server: Server, name: str) -> None:
    heard, again = Heard(), Heard()
    async with Admin(server.nameserver) as admin:
        bodies = await filled(admin, server, name)
        async with PushConsumer(name, server.nameserver, subscribe=name, handler=heard, from_where=FIRST):
            await until(lambda: sorted(heard.bodies) == bodies)
        await until_equal(lambda: offsets(admin, name), 5)
        assert name in await admin.group_configs()
        assert f"%RETRY%{name}" in await admin.delete_group(name)
        assert name not in await admin.group_configs()
        async with PushConsumer(name, server.nameserver, subscribe=name, handler=again, from_where=FIRST):
            await until(lambda: sorted(again.bodies) == bodies)


async def test_group_that_is_switched_off_gets_nothing_until_it_is_on_again(server: Server, name: str) -> None:
    heard = Heard()
    async with Admin(server.nameserver) as admin:
        bodies = await filled(admin, server, name)
        await admin.create_group(GroupConfig(name, consume_enable=False))
        async with PushConsumer(name, server.nameserver, subscribe=name, handler=heard, from_where=FIRST):
            await asyncio.sleep(1.0)
            assert heard.bodies == []
            await admin.create_group(GroupConfig(name))
            await until(lambda: sorted(heard.bodies) == bodies, 60)


async def test_request_mode_is_set_and_shown(server: Server, name: str) -> None:
    async with Admin(server.nameserver) as admin:
        await admin.create_topic(name)
        await admin.create_group(GroupConfig(name))
        await admin.set_request_mode(name, name, RequestMode.POP, 1)
        assert await admin.request_modes(name) == (GroupRule(name, name, RequestMode.POP, 1),)
        with pytest.raises(BrokerRefused) as refused:
            await admin.set_request_mode(name, f"%RETRY%{name}", RequestMode.POP)
        assert refused.value.code == ResponseCode.NO_PERMISSION


async def test_topic_that_is_forbidden_to_a_group_is_not_read(server: Server, name: str) -> None:
    if server.kind == "apache":
        pytest.skip("Apache asks for that only with pulls that bring no expression of their own; ours do")
    heard = Heard()
    async with Admin(server.nameserver) as admin:
        bodies = await filled(admin, server, name)
        await admin.create_group(GroupConfig(name))
        await admin.set_readable(name, name, False)
        assert not await admin.is_readable(name, name)
        async with PushConsumer(name, server.nameserver, subscribe=name, handler=heard, from_where=FIRST):
            await asyncio.sleep(1.0)
            assert heard.bodies == []
            await admin.set_readable(name, name, True)
            await until(lambda: sorted(heard.bodies) == bodies, 60)
