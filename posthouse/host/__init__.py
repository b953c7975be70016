"""The one door to the outside world: clock, disk, network and randomness, given to constructors as a `Host`.

Nothing else in the package touches time, files, sockets or random; `tests/test_tidy.py` proves it. The same
NameServer, broker and client therefore run on a real machine or under a simulator. Timers are not here: they
are the event loop's own (`asyncio.sleep`, `loop.call_at`), and a simulator brings its own loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.host.clock import Clock
from posthouse.host.disk import Disk
from posthouse.host.net import Net
from posthouse.host.randomness import Randomness

__all__ = ["Host"]


@dataclass(frozen=True, slots=True)
class Host:
    """What one process may touch. `disk` is rooted at a folder; names given to it are relative to that root."""

    clock: Clock
    disk: Disk
    net: Net
    random: Randomness

    @staticmethod
    def real(data: str | None = None, read_only: bool = False) -> Host:
        """This machine. `data` is the folder for files; None gives a disk that keeps everything in memory.

        `read_only`: nothing there is created or changed, and the folder is not locked: for tools.
        """
        from posthouse.host.real import real_host

        return real_host(data, read_only)

    @staticmethod
    def state_folder() -> str:
        """Where programs of this user keep what should outlive them: `$XDG_STATE_HOME/posthouse`, by default in ~."""
        from posthouse.host.real import state_folder

        return state_folder()
