"""Runs a house in this process: the event loop, the signals, the first lines on the screen, the end.

The first SIGINT or SIGTERM stops the house in order; the signals then have their own effect again, so a second
one ends the process at once, even if the loop no longer turns. What was acknowledged is on disk either way.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable
from types import FrameType

import click

from posthouse.cli.announcement import announcement
from posthouse.cli.failure import Failure
from posthouse.endpoint.house import House, HouseConfig, StartError
from posthouse.host import Host
from posthouse.store.log.engine import LogFailed

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_GC_THRESHOLDS = (10_000, 20, 50)
"""Objects made and not freed before the collector looks; Python's own is 700. A burst of sends makes that many."""

_STOPPING = (signal.SIGINT, signal.SIGTERM)


def run_house(config: HouseConfig, loop: str) -> None:
    """Returns after a stop by signal. Raises Failure when the house cannot start or the disk fails; a bug as it is."""
    if not __debug__:
        raise Failure("the server's checks are switched off by python -O; start it without -O (or PYTHONOPTIMIZE)")
    factory, name = choose_loop(loop)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_live(config, name))


def choose_loop(wanted: str) -> tuple[LoopFactory, str]:
    """The factory of an event loop, and its name. Raises Failure when uvloop is asked for and not installed."""
    if wanted != "asyncio":
        try:
            import uvloop
        except ImportError as error:
            if wanted == "uvloop":
                raise Failure("uvloop is not installed; `pip install uvloop`, or use --loop asyncio") from error
        else:
            return uvloop.new_event_loop, "uvloop"
    return asyncio.new_event_loop, "asyncio"


async def _live(config: HouseConfig, loop_name: str) -> None:
    stop = stop_on_signals(asyncio.get_running_loop())
    host = Host.real(config.data)
    house = House(host, config)
    try:
        starting = asyncio.ensure_future(house.start())
        await asyncio.wait((starting, stop), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return
        try:
            starting.result()
        except StartError as error:
            raise Failure(str(error)) from error
        _spare_the_collector()
        click.echo(announcement(config, house.nameserver_address, house.broker_address, loop_name, host.disk.place))
        await asyncio.wait((stop, house.failed), return_when=asyncio.FIRST_COMPLETED)
        if house.failed.done() and not stop.done():
            try:
                house.failed.result()
            except LogFailed as error:
                raise Failure(f"the store takes no more writes: {error}. What was acknowledged is on disk.") from error
        click.echo("Stopping; a second signal stops at once.", err=True)
    finally:
        await house.close()


def _spare_the_collector() -> None:
    """What lives until the end is not looked at again and again; hot paths make no cycles, so looking can be rare."""
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def stop_on_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """A future that is done after the first signal; by then the signals have their own effect again.

    Not `loop.add_signal_handler`: that one waits for a turn of the loop, this one for the next byte code.
    """
    stop: asyncio.Future[None] = loop.create_future()

    def finish() -> None:
        if not stop.done():
            stop.set_result(None)

    def on_signal(number: int, frame: FrameType | None) -> None:
        for each in _STOPPING:
            signal.signal(each, signal.SIG_DFL)
        loop.call_soon_threadsafe(finish)

    for each in _STOPPING:
        signal.signal(each, on_signal)
    return stop
