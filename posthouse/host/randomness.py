"""Randomness: choosing queues and naming client instances. Never secrets."""

from __future__ import annotations

from typing import Protocol


class Randomness(Protocol):
    def below(self, limit: int) -> int:
        """A whole number in [0, limit); `limit` is at least 1."""

    def token_bytes(self, size: int) -> bytes:
        """`size` random bytes, for names that must not collide."""
