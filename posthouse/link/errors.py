"""What can go wrong with a connection or with one request on it. Each text says what to do next."""

from __future__ import annotations


class LinkError(Exception):
    """A request got no answer. Whether the other side acted on it is unknown, unless a subclass says so."""


class RequestTimeout(LinkError):
    """No answer in time; the other side may still act on the request."""

    def __init__(self, peer: str, code: int, timeout_s: float) -> None:
        super().__init__(
            f"no answer from {peer} to request {code} after {timeout_s:g} s; "
            "it may still be carried out: look whether the server is overloaded, or allow more time"
        )
        self.timeout_s = timeout_s


class ConnectionLost(LinkError):
    """The connection ended before the answer came; the other side may have acted on the request."""

    def __init__(self, peer: str, why: str) -> None:
        super().__init__(f"the connection to {peer} ended ({why}) before the answer came; try again")
        self.why = why


class TooManyInFlight(LinkError):
    """The request was not sent: too many wait for an answer on this connection."""

    def __init__(self, peer: str, limit: int) -> None:
        super().__init__(f"{limit} requests wait for an answer from {peer} already; nothing was sent: wait for some")


class CannotConnect(LinkError):
    """There is no connection, so nothing was sent. `retry_after_s` is when the next try makes sense."""

    def __init__(self, peer: str, why: str, retry_after_s: float = 0.0) -> None:
        later = f"; the next try is in {retry_after_s:.1f} s" if retry_after_s > 0 else ""
        super().__init__(f"cannot connect to {peer}: {why}{later}; is the server running, and is the address right?")
        self.retry_after_s = retry_after_s
