"""What actors and inspections need of a simulated world: small enough that a test can give them something else."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol

from posthouse.endpoint.house import House
from posthouse.host import Host
from posthouse.testing.sim.history import History
from posthouse.testing.sim.randomness import Stream


class Handle(Protocol):
    """A process that was spawned. One that was killed counts as done."""

    def done(self) -> bool: ...


class Files(Protocol):
    """A broker's disk, seen from outside."""

    def files(self) -> Mapping[str, bytes]:
        """Every file's bytes, as the operating system has them."""


class Node(Protocol):
    """A broker's machine and what runs on it."""

    @property
    def name(self) -> str: ...

    @property
    def house(self) -> House | None:
        """None while it is down."""

    @property
    def data(self) -> Files: ...


class Stage(Protocol):
    """A world in which actors act."""

    @property
    def history(self) -> History: ...

    @property
    def nameservers(self) -> str:
        """What clients are configured with."""

    @property
    def brokers(self) -> Sequence[Node]: ...

    def loop_time(self) -> float: ...

    def random(self, name: str) -> Stream:
        """The seed's stream of that name, new each time."""

    def client_host(self, name: str) -> Host: ...

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, None]) -> Handle: ...
