"""Dead letters for tests: a handler that refuses every message that it gets."""

from __future__ import annotations

import asyncio
import time

from posthouse import Message, Producer, PushConsumer
from posthouse.client.admin import Admin
from posthouse.client.receipt import SendReceipt
from posthouse.client.retries import DEAD, RetryLater
from posthouse.model.group import ConsumeFrom
from tests.cli.server import RunningServer


def bury(
    server: RunningServer, topic: str, group: str, messages: list[Message], *, trace: bool = False
) -> list[SendReceipt]:
    """Sends messages, and has the group give them up, in this order."""
    return asyncio.run(_bury(server.nameserver, topic, group, messages, trace))


async def _bury(nameserver: str, topic: str, group: str, messages: list[Message], trace: bool) -> list[SendReceipt]:
    def refuse(message: object) -> None:
        raise RetryLater(DEAD)

    async with (
        Admin(nameserver) as admin,
        Producer(nameserver, group="shop", trace=trace) as producer,
        PushConsumer(
            group, nameserver, subscribe=topic, handler=refuse, trace=trace, concurrency=1,
            from_where=ConsumeFrom.CONSUME_FROM_FIRST_OFFSET,
        ),
    ):  # fmt: skip
        receipts = []
        for number, message in enumerate(messages, 1):
            receipts.append(await producer.send(message))
            deadline = time.monotonic() + 20
            while not any(each.group == group and each.letters == number for each in await admin.dead_letters.groups()):
                assert time.monotonic() < deadline, "the message has not become a dead letter"
                await asyncio.sleep(0.02)
    return receipts
