"""Chance that comes from a seed: streams with names, each a generator of its own.

A stream's numbers depend on the seed and the stream's name only. So a draw that is added in one place does not change
what happens in all others, and a seed that failed yesterday still tells most of the same story today.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

Stream = random.Random
"""A source of chance; all its methods may be used but `seed`."""


class Streams:
    """All chance of one world."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, Stream] = {}

    def stream(self, name: str) -> Stream:
        """The stream of that name: the same one each time."""
        found = self._streams.get(name)
        if found is None:
            found = self._streams[name] = Stream(f"{self.seed}/{name}")  # a text is hashed with SHA-512, always alike
        return found


class SimRandomness:
    """The randomness seam of one process."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def below(self, limit: int) -> int:
        return self._stream.randrange(limit)

    def token_bytes(self, size: int) -> bytes:
        return self._stream.randbytes(size)


def weighted(stream: Stream, weights: Sequence[tuple[str, float]]) -> str:
    """One of the names, each as likely as its weight says."""
    return stream.choices([name for name, _ in weights], [weight for _, weight in weights])[0]
