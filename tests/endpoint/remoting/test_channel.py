"""A connection as the broker's services see it."""

from __future__ import annotations

import pytest

from posthouse.endpoint.remoting.channel import PeerChannel
from tests.broker.brokers import until
from tests.endpoint.clients import C, client, house

pytestmark = pytest.mark.asyncio


async def test_channel_has_the_address_of_the_client_and_tells_it_things() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as told:
        await told.quiet()
        assert found._broker_server is not None
        (peer,) = found._broker_server._peers
        channel = PeerChannel(peer)
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
