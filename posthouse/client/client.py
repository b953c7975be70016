"""What all clients have in common for a program: `async with`, and who they are on the wire."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from posthouse.client.session import Session


class Client:
    """Open inside `async with`, or from `start` to `close`. Opens once."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def client_id(self) -> str:
        """Under which brokers know this client: `address@process#random`."""
        return self._session.client_id

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Begins its duties; nothing is asked yet. Raises ClientClosed when opened twice."""
        self._session.start()

    async def close(self) -> None:
        """Says goodbye and ends its connections. Twice is fine."""
        await self._session.close()
