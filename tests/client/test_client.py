from __future__ import annotations

import pytest

from posthouse.client.client import Client
from posthouse.client.errors import ClientClosed
from posthouse.client.session import Session
from tests.client.conftest import FakeCluster

pytestmark = pytest.mark.asyncio


async def test_a_client_opens_once_and_closes_as_often_as_you_like(cluster: FakeCluster) -> None:
    session = Session(cluster.address, host=None, kind="test client")
    client = Client(session)
    assert client.client_id == session.client_id
    async with client as opened:
        assert opened is client
        session.check_open()
        with pytest.raises(ClientClosed, match="the test client cannot be opened twice"):
            await client.start()
    with pytest.raises(ClientClosed, match="is closed"):
        session.check_open()
    await client.close()
    with pytest.raises(ClientClosed, match="cannot be opened twice"):
        await client.start()
