"""What our clients trace, read by Apache's own admin tool; against Posthouse, and Apache as the control."""

from __future__ import annotations

import asyncio
import pathlib
from uuid import uuid4

import pytest

from posthouse import Message, Producer, PushConsumer
from posthouse.client.admin import Admin
from posthouse.client.received import ReceivedMessage
from posthouse.model.group import ConsumeFrom
from posthouse.model.names import TRACE_TOPIC
from tests.compat.conftest import Server
from tests.compat.desk import Desk

pytestmark = [pytest.mark.compat, pytest.mark.timeout(300)]


async def traced(nameserver: str, topic: str, group: str) -> str:
    """Sends a message and has it handled, both traced; its id, when the trace can be found."""
    got: list[ReceivedMessage] = []
    async with (
        asyncio.timeout(60),
        Admin(nameserver) as admin,
        Producer(nameserver, group="traced-shop", trace=True) as producer,
        PushConsumer(
            group, nameserver, subscribe=topic, handler=got.append, trace=True,
            from_where=ConsumeFrom.CONSUME_FROM_FIRST_OFFSET,
        ),
    ):  # fmt: skip
        receipt = await producer.send(Message(topic, b"x", tag="paid", keys="k1 k2"))
        while not got:
            await asyncio.sleep(0.05)
        while True:
            try:
                found = await admin.query_by_key(TRACE_TOPIC, receipt.message_id)
            except Exception:  # the topic may not be there yet
                found = ()
            bodies = b"".join(each.body for each in found)
            if b"Pub" in bodies and b"SubAfter" in bodies:
                return receipt.message_id
            await asyncio.sleep(0.1)


def test_mqadmin_shows_what_our_clients_trace(server: Server, tmp_path: pathlib.Path) -> None:
    topic = f"traced-{uuid4().hex[:8]}"
    message_id = asyncio.run(traced(server.nameserver_address, topic, f"g-{topic}"))
    with Desk(tmp_path) as desk:
        shown = desk.run("queryMsgTraceById", "-n", server.nameserver_address, "-i", message_id)
    assert shown.err == ""
    rows = [line.split() for line in shown.out.splitlines() if line and not line.startswith("#")]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("Pub", "traced-shop", "success"),
        ("Sub", f"g-{topic}", "success"),
    ], server.explain("queryMsgTraceById", shown.out)
