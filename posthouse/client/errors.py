"""Every error that the client raises on purpose. All are PosthouseError; each text says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from posthouse.codec.remoting.codes import ResponseCode
from posthouse.link.errors import CannotConnect, ConnectionLost, LinkError, RequestTimeout, TooManyInFlight
from posthouse.model.limits import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from posthouse.client.receipt import SendReceipt


class PosthouseError(Exception):
    """The base of all."""


class NoNameServer(PosthouseError):
    """No NameServer answered. `tried` says for each address why."""

    def __init__(self, tried: Sequence[tuple[str, str]]) -> None:
        reasons = "; ".join(f"{address}: {why}" for address, why in tried)
        super().__init__(f"no NameServer answers ({reasons}): is one running, and is `nameservers` right?")
        self.tried = tuple(tried)


class NoRoute(PosthouseError):
    """The NameServers know no broker for the topic."""

    def __init__(self, topic: str, why: str = "no broker knows it and auto-creation is off") -> None:
        remedy = "" if topic.startswith("%") else f"; create it with `posthouse topic create {topic}`"
        super().__init__(f"no route for topic {topic}: {why}{remedy}")
        self.topic = topic


class NoBroker(PosthouseError):
    """The route names no broker that can be asked."""


class MessageIllegal(PosthouseError, ValueError):
    """The message cannot be sent as it is; nothing was sent."""


class MessageTooLarge(MessageIllegal):
    def __init__(self, size_bytes: int, what: str = "the body") -> None:
        super().__init__(
            f"{what} has {size_bytes} bytes; the limit is {MESSAGE_BYTES_MAX}: "
            "split it, or store it elsewhere and send where it is"
        )
        self.size_bytes = size_bytes


class BrokerRefused(PosthouseError):
    """A server answered with an error. `code` is its number, `remark` its words."""

    def __init__(self, who: str, code: int, remark: str | None, doing: str = "") -> None:
        meaning, remedy = explain(code)
        to = f" to {doing}" if doing else ""
        said = f": {remark}" if remark else ""
        then = "" if "`posthouse topic create`" in said else f"; {remedy}"
        super().__init__(f"{who} refused{to} with {code} {meaning}{said}{then}")
        self.code = code
        self.remark = remark or ""


class SendFailed(PosthouseError):
    """The message was not acknowledged. `code` is the last answer's number, None if there was no answer.

    With `maybe_stored` a try got no answer: that message may be in its queue all the same.
    """

    def __init__(self, text: str, *, code: int | None = None, remark: str = "", maybe_stored: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.remark = remark
        self.maybe_stored = maybe_stored


class SendTimeout(SendFailed, TimeoutError):
    """The time budget of a send ran out."""


class TooManySends(SendFailed):
    """More sends wait than the producer may hold; this one was not begun."""


class BatchFailed(SendFailed):
    """Part of a batch failed. `outcomes` has a receipt or an error for each message, in order."""

    def __init__(self, outcomes: Sequence[SendReceipt | PosthouseError]) -> None:
        failed = [outcome for outcome in outcomes if isinstance(outcome, PosthouseError)]
        first = failed[0]
        super().__init__(
            f"{len(failed)} of {len(outcomes)} messages failed, the first with: {first}",
            code=first.code if isinstance(first, SendFailed) else None,
            maybe_stored=any(isinstance(error, SendFailed) and error.maybe_stored for error in failed),
        )
        self.outcomes = tuple(outcomes)


class OffsetsUnreadable(PosthouseError):
    """A broadcast consumer cannot use the file of its offsets."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(
            f"the offsets of a broadcast consumer in {place} cannot be used: {why}; give another `offsets_folder`, or "
            "remove the file to begin where `from_where` says"
        )


class Timeout(PosthouseError, TimeoutError):
    """A server did not answer in time."""


class ReplyTimeout(PosthouseError, TimeoutError):
    """A request was sent and no answer came. With `stored` it is in its topic, and may be handled all the same."""

    def __init__(self, topic: str, timeout_s: float, stored: bool) -> None:
        state = "the request is stored" if stored else "the request was not even acknowledged"
        super().__init__(
            f"no reply to a request in topic {topic} within {timeout_s:g} s; {state}: is a consumer of the topic "
            "running whose handler returns an answer?"
        )
        self.stored = stored


class Unreachable(PosthouseError, ConnectionError):
    """There is no connection to a server, or it was lost before the answer."""


class ClientClosed(PosthouseError):
    def __init__(self, what: str, why: str = "is closed") -> None:
        super().__init__(f"the {what} {why}; use it inside `async with`")


class BadAnswer(PosthouseError):
    """A server's answer cannot be read."""


def explain(code: int) -> tuple[str, str]:
    """What a response code means, and what a person can do about it."""
    try:
        name = ResponseCode(code).name
    except ValueError:
        return "(unknown code)", "look into the broker's log"
    return name, _REMEDIES.get(code, "look into the broker's log")


_REMEDIES: dict[int, str] = {
    ResponseCode.SYSTEM_ERROR: "look into the broker's log",
    ResponseCode.SYSTEM_BUSY: "the broker is overloaded: send slower, or add brokers",
    ResponseCode.REQUEST_CODE_NOT_SUPPORTED: "this server does not know that request: is it the right version?",
    ResponseCode.MESSAGE_ILLEGAL: "check size, properties and delay of the message",
    ResponseCode.SERVICE_NOT_AVAILABLE: "the broker takes no writes now: is its disk full, or is it stopping?",
    ResponseCode.NO_PERMISSION: "check the permission of topic and group, and the credentials",
    ResponseCode.TOPIC_NOT_EXIST: "create the topic with `posthouse topic create`",
    ResponseCode.SUBSCRIPTION_PARSE_FAILED: "write the subscription as `*` or `TagA || TagB`",
    ResponseCode.SUBSCRIPTION_NOT_EXIST: "all members of a group must subscribe to the same topics",
    ResponseCode.SUBSCRIPTION_NOT_LATEST: "all members of a group must subscribe to the same topics",
    ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST: "create the group, or let the broker make groups of its own accord",
    ResponseCode.INVALID_PARAMETER: "check what was asked for",
    ResponseCode.QUERY_NOT_FOUND: "there is nothing under that name",
    ResponseCode.NO_MESSAGE: "if it is not done it comes again, to any member",
    ResponseCode.CONSUMER_NOT_ONLINE: "start a consumer of that group first",
}


def from_link(error: LinkError, doing: str) -> PosthouseError:
    """The client's error for a link's."""
    if isinstance(error, RequestTimeout):
        return Timeout(f"{doing}: {error}")
    assert isinstance(error, CannotConnect | ConnectionLost | TooManyInFlight)
    return Unreachable(f"{doing}: {error}")
