"""Every way to say no to a peer, once. Endpoints turn a reason into the code of their protocol."""

from __future__ import annotations

from enum import Enum, auto


class Reason(Enum):
    """Why a request is refused. The remark that goes with it names the limit or the remedy."""

    FAILED = auto()  # something of ours went wrong; the request itself was fine
    BUSY = auto()  # a lane or a limit is full; try again
    NOT_SUPPORTED = auto()  # a known request that is not served here
    MESSAGE_ILLEGAL = auto()  # a size or a property of the message
    NOT_WRITABLE = auto()  # the store takes no writes (stopping, failed disk, full disk)
    NO_PERMISSION = auto()
    TOPIC_NOT_EXIST = auto()
    GROUP_NOT_EXIST = auto()
    INVALID_PARAMETER = auto()
    NOT_FOUND = auto()  # nothing under that key; no offset stored
    SUBSCRIPTION_ILLEGAL = auto()  # an expression that cannot be parsed
    SUBSCRIPTION_NOT_EXIST = auto()  # the group's heartbeat did not name this topic
    SUBSCRIPTION_NOT_LATEST = auto()
    CONSUMER_NOT_ONLINE = auto()
    NO_MESSAGE = auto()  # no such message there, or the receipt of it is not valid any more
    POLLING_FULL = auto()  # too many requests of the kind are held
    CLIENT_SILENT = auto()  # a client was asked and has not answered in time


class Refused(Exception):
    """A peer asked for what it may not have. `remark` is a sentence for the person behind the peer."""

    def __init__(self, reason: Reason, remark: str) -> None:
        super().__init__(remark)
        self.reason = reason
        self.remark = remark

    def __repr__(self) -> str:
        return f"Refused({self.reason.name}, {self.remark!r})"
