"""Histories made by hand, for tests of what judges them: a cluster of one broker in which all goes well, and more."""

from __future__ import annotations

from typing import Any

from posthouse.testing.sim.checkers import CHECKERS
from posthouse.testing.sim.facts import gather
from posthouse.testing.sim.history import History

BROKER = "broker-a"


class Tale:
    """Writes a history, a tenth of a second between two events."""

    def __init__(self) -> None:
        self.history = History()

    def add(self, who: str, what: str, outcome: str, **details: Any) -> int:
        return self.history.add(len(self.history.events) / 10, who, what, outcome, **details)

    def send(self, *ids: str, topic: str = "letters", tag: str = "", tries: int = 1) -> int:
        """The beginning of a send; more than one id is a batch."""
        return self.add("producer-1", "send", "invoke", ids=list(ids), topic=topic, tag=tag, tries=tries)

    def sent(self, of: int, offset: int, topic: str = "letters", queue: int = 0) -> int:
        """Acknowledged, at offsets from `offset` on."""
        ids = self.history.events[of].details["ids"]
        messages = [[message_id, offset + at] for at, message_id in enumerate(ids)]
        return self.add("producer-1", "send", "ok", of=of, topic=topic, broker=BROKER, queue=queue, messages=messages)

    def not_sent(self, of: int, outcome: str = "fail") -> int:
        return self.add("producer-1", "send", outcome, of=of, ids=self.history.events[of].details["ids"], error="no")

    def poll(self, asked: int, *ids: str, end: int | None = None, since: int | None = None, **changed: Any) -> int:
        """A pull that gave these messages from `asked` on, of a queue that ends at `end`."""
        details: dict[str, Any] = {
            "since": len(self.history.events) if since is None else since,
            "topic": "letters",
            "broker": BROKER,
            "queue": 0,
            "asked": asked,
            "next": asked + len(ids),
            "min": 0,
            "max": asked + len(ids) if end is None else end,
            "moved": False,
            "messages": [[asked + at, message_id] for at, message_id in enumerate(ids)],
        }
        return self.add("keeper-1", "poll", "ok", **{**details, **changed})

    def group(self, name: str = "readers", expression: str = "*", **kind: Any) -> None:
        self.add("workload", "group", "note", group=name, subscribe={"letters": expression}, **kind)

    def handle(self, offset: int, message_id: str, group: str = "readers") -> int:
        return self.add(
            "readers-1", "handle", "ok", group=group, topic="letters", broker=BROKER, queue=0, offset=offset,
            id=message_id, tag="",
        )  # fmt: skip

    def work(
        self, outcome: str, offset: int, message_id: str, *, who: str = "in-order-1", times: int = 0, queue: int = 0
    ) -> int:
        """A handling in the group in-order: its beginning, or how it ended."""
        return self.add(
            who, "handle", outcome, group="in-order", topic="letters", broker=BROKER, queue=queue, offset=offset,
            id=message_id, tag="", times=times,
        )  # fmt: skip

    def pop(self, message_id: str, popped_ms: int, due_ms: int, *, what: str = "pop", who: str = "poppers-1") -> int:
        return self.add(
            who, what, "ok", group="poppers", topic="letters", broker=BROKER, queue=0, offset=0, id=message_id, tag="",
            popped_ms=popped_ms, due_ms=due_ms,
        )  # fmt: skip

    def fault(self, what: str, **details: Any) -> int:
        return self.add("nemesis", what, "note", target=BROKER, **details)

    def order(
        self, kind: str, name: str, value: int | None, outcome: str = "ok", brokers: tuple[str, ...] = (BROKER,)
    ) -> int:
        """An order to set a topic or group, and its end."""
        of = self.add("governor", f"set {kind}", "invoke", name=name, value=value)
        if outcome != "none":
            self.add("governor", f"set {kind}", outcome, of=of, name=name, value=value, brokers=list(brokers))
        return of

    def commit(self, offset: int, outcome: str = "ok") -> int:
        place = {"group": "keepers", "topic": "letters", "broker": BROKER, "queue": 0, "offset": offset}
        of = self.add("keeper-1", "commit", "invoke", **place)
        return self.add("keeper-1", "commit", outcome, of=of, **place)

    def committed(self, offset: int | None) -> int:
        since = len(self.history.events)
        return self.add(
            "keeper-1", "committed", "ok", since=since, group="keepers", topic="letters", broker=BROKER, queue=0,
            offset=offset,
        )  # fmt: skip

    def end(self, *ids: str, first: int = 0, offsets: dict[str, int] | None = None, **changed: Any) -> int:
        """What the broker has at the end: its topics, offsets of groups, and one queue with these messages."""
        self.add(BROKER, "final topic", "note", name="letters", value=1)
        for group, offset in (offsets or {}).items():
            self.add(BROKER, "final offset", "note", group=group, topic="letters", queue=0, offset=offset)
        messages = [[first + at, message_id, 100 * (first + at), 0, 0] for at, message_id in enumerate(ids)]
        details = {"topic": "letters", "queue": 0, "min": first, "max": first + len(ids), "messages": messages}
        return self.add(BROKER, "final queue", "note", **{**details, **changed})

    def copies(self, topic: str, *messages: tuple[str, int], **changed: Any) -> int:
        """A queue at the end in which these (id, tries before) are."""
        rows = [[at, message_id, 5000 + 100 * at, times, 0] for at, (message_id, times) in enumerate(messages)]
        details = {"topic": topic, "queue": 0, "min": 0, "max": len(rows), "messages": rows}
        return self.add(BROKER, "final queue", "note", **{**details, **changed})

    def found(self) -> list[str]:
        """The checkers that find something, once each."""
        facts = gather(self.history)
        return [name for name, checker in CHECKERS.items() if next(checker(facts), None) is not None]
