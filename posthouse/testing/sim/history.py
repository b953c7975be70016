"""What happened in a simulated world, as plain data: the only thing that the checkers and the story may look at.

Actors, brokers and the nemesis write events here in the order in which they happen in virtual time. An event never
holds an object of the product: what it says must be readable long after the world is gone, and by another process.

The digest is a hash over every event. Two runs of a seed that have the same digest did the same things at the same
times: this is what "same seed, same trace" means.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import msgspec


class Event(NamedTuple):
    """One thing that happened.

    `outcome` is one of "invoke" (begun), "ok" (done for sure), "fail" (surely not done), "unknown" (perhaps done) and
    "note" (something seen or injected, without an answer). An end names the index of its beginning as `of`.
    """

    at_s: float
    who: str
    what: str
    outcome: str
    details: dict[str, Any]


class History:
    """The events of one run, oldest first."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, at_s: float, who: str, what: str, outcome: str, **details: Any) -> int:
        """Writes one event down; its index."""
        self.events.append(Event(at_s, who, what, outcome, details))
        return len(self.events) - 1

    def digest(self) -> str:
        """A hash over all events (64 hex digits): equal only if everything happened alike."""
        hashed = hashlib.sha256()
        encode = msgspec.json.Encoder().encode
        for event in self.events:
            hashed.update(encode(event))
            hashed.update(b"\n")
        return hashed.hexdigest()
