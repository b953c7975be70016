from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from posthouse.host import Host
from posthouse.host.net import Address, Listener
from posthouse.link.errors import CannotConnect
from posthouse.link.peer import RemotingPeer
from posthouse.link.pool import Pool
from tests.link.conftest import Ends, Recorder, until

pytestmark = pytest.mark.asyncio


class CountingNet:
    """The real net, counting dials; `stuck` makes a dial hang."""

    def __init__(self, host: Host) -> None:
        self._net = host.net
        self.dials = 0
        self.stuck = False

    async def serve(self, factory: Callable[[], asyncio.Protocol], address: Address) -> Listener:
        return await self._net.serve(factory, address)

    async def dial(self, factory: Callable[[], asyncio.Protocol], address: Address) -> asyncio.Protocol:
        self.dials += 1
        if self.stuck:
            await asyncio.sleep(60)
        return await self._net.dial(factory, address)

    def local_ip(self) -> str:
        return "127.0.0.1"

    def process_id(self) -> int:
        return 1


async def dead_address(ends: Ends) -> Address:
    """An address on which nobody listens."""
    listener = await ends.host.net.serve(lambda: RemotingPeer(Recorder()), Address("127.0.0.1", 0))
    listener.close()
    return listener.address


async def test_callers_at_once_share_one_dial(ends: Ends) -> None:
    net = CountingNet(ends.host)
    pool = Pool(net, Recorder())
    assert pool.peer_if_open(ends.address) is None
    peers = await asyncio.gather(*(pool.peer(ends.address) for _ in range(20)))
    assert len({id(peer) for peer in peers}) == 1
    assert net.dials == 1
    assert pool.peer_if_open(ends.address) is peers[0]
    assert pool.open_peers() == [peers[0]]
    await pool.close()


async def test_a_lost_connection_is_dialled_again(ends: Ends) -> None:
    pool = Pool(ends.host.net, Recorder())
    first = await pool.peer(ends.address)
    await first.ask(1)
    ends.server.peers[0].close("bye")
    await until(lambda: first.closed)
    assert pool.peer_if_open(ends.address) is None
    second = await pool.peer(ends.address)
    assert second is not first
    assert (await second.ask(1)).code == 0
    await pool.close()


CLOCK_STEP_S = 0.001  # a loop's clock may stand still for a millisecond


async def test_a_dead_address_rests_between_dials(ends: Ends) -> None:
    net = CountingNet(ends.host)
    pool = Pool(net, Recorder())
    address = await dead_address(ends)
    with pytest.raises(CannotConnect, match=str(address)):
        await pool.peer(address)
    with pytest.raises(CannotConnect) as refused:  # at once, without a dial
        await pool.peer(address)
    assert 0 < refused.value.retry_after_s <= 0.1 + CLOCK_STEP_S
    assert net.dials == 1
    with pytest.raises(CannotConnect):  # patient: waits for the end of the rest, then dials
        await pool.peer(address, patience_s=1.0)
    assert net.dials == 2
    with pytest.raises(CannotConnect) as longer:
        await pool.peer(address, patience_s=0.01)
    assert 0.1 < longer.value.retry_after_s <= 0.2 + CLOCK_STEP_S
    await pool.close()


async def test_a_dial_that_hangs_is_given_up(ends: Ends) -> None:
    net = CountingNet(ends.host)
    net.stuck = True
    pool = Pool(net, Recorder(), connect_timeout_s=0.1)
    with pytest.raises(CannotConnect, match=r"no connection within 0.1 s"):
        await pool.peer(ends.address)
    await pool.close()


async def test_a_cancelled_caller_leaves_the_dial_to_the_others(ends: Ends) -> None:
    pool = Pool(ends.host.net, Recorder())
    first, second = asyncio.create_task(pool.peer(ends.address)), asyncio.create_task(pool.peer(ends.address))
    await asyncio.sleep(0)
    first.cancel()
    assert not (await second).closed
    await pool.close()


async def test_close_ends_connections_and_dials_and_refuses_new_ones(ends: Ends) -> None:
    net = CountingNet(ends.host)
    pool = Pool(net, Recorder())
    peer = await pool.peer(ends.address)
    net.stuck = True
    dialling = asyncio.create_task(pool.peer(Address("127.0.0.1", 1)))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(2):
        await pool.close()
        await pool.close()
    assert peer.closed
    with pytest.raises(CannotConnect):
        await dialling
    with pytest.raises(CannotConnect, match="closed"):
        await pool.peer(ends.address)
