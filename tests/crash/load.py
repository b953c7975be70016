"""What clients do until the server is dead: send, consume and commit, change topics and groups. All of it is noted."""

from __future__ import annotations

import random

from posthouse.codec.record import decode_records
from posthouse.codec.remoting.batch import BatchEntry, encode_batch
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.model.ids import parse_offset_message_id
from tests.crash.ledger import Ledger, Named, Queue, Sent, Setting, make_body
from tests.crash.wire import (
    Wire,
    commit_ext,
    create_topic_ext,
    delete_group_ext,
    delete_topic_ext,
    group_body,
    pull_ext,
    send_ext,
)

GROUP = "kill-loop"
QUEUES = [Queue(f"topic-{name}", number) for name in "abc" for number in range(4)]
NAMES = [Named(kind, f"changing-{kind}-{number}") for kind in ("topic", "group") for number in range(4)]
IN_FLIGHT = 24


class Actor:
    """Something on a connection. `refused` is what it was told and did not expect."""

    def __init__(self, ledger: Ledger, rng: random.Random, wire: Wire) -> None:
        self.ledger, self.rng, self.wire = ledger, rng, wire
        self.refused: list[tuple[int, str | None]] = []

    def begin(self) -> None:
        raise NotImplementedError

    @property
    def has_ended(self) -> bool:
        return self.wire.transport.is_closing()


class Sender(Actor):
    """Keeps IN_FLIGHT requests under way until the connection is lost."""

    def __init__(self, ledger: Ledger, rng: random.Random, wire: Wire, cycle: int, connection: int) -> None:
        super().__init__(ledger, rng, wire)
        self._keys = ((cycle, connection, number) for number in range(1 << 30))

    def begin(self) -> None:
        for _ in range(IN_FLIGHT):
            self._send()

    def _send(self) -> None:
        if self.has_ended:
            return
        queue = self.rng.choice(QUEUES)
        is_batch = self.rng.random() < 0.05
        keys = [next(self._keys) for _ in range(self.rng.randint(2, 6) if is_batch else 1)]
        sent = self.ledger.add(keys, queue)
        bodies = [make_body(key, self.rng) for key in keys]
        body = encode_batch(BatchEntry(each, "") for each in bodies) if is_batch else bodies[0]
        code = RequestCode.SEND_BATCH_MESSAGE if is_batch else RequestCode.SEND_MESSAGE_V2
        ext = send_ext(queue.topic, queue.queue_id, batch=is_batch)
        self.wire.give(code, ext, body, lambda answer: self._answered(sent, answer))

    def _answered(self, sent: list[Sent], answer: Command) -> None:
        if answer.code == ResponseCode.SUCCESS:
            ext = answer.ext_map()
            first = int(ext["queueOffset"])
            for number, (each, message_id) in enumerate(zip(sent, ext["msgId"].split(","), strict=True)):
                self.ledger.acknowledge(each, (first + number, parse_offset_message_id(message_id)[1]))
        else:
            self.refused.append((answer.code, answer.remark))
        self._send()


class Reader(Actor):
    """Follows its queues from where the last check ended, and commits what it has got."""

    def __init__(self, ledger: Ledger, rng: random.Random, wire: Wire, queues: list[Queue]) -> None:
        super().__init__(ledger, rng, wire)
        self._queues = queues

    def begin(self) -> None:
        for queue in self._queues:
            self._pull(queue, self.ledger.checked.get(queue, 0))

    def _pull(self, queue: Queue, offset: int) -> None:
        if not self.has_ended:
            ext = pull_ext(GROUP, *queue, offset, suspend_ms=5000)
            self.wire.give(RequestCode.PULL_MESSAGE, ext, b"", lambda answer: self._pulled(queue, offset, answer))

    def _pulled(self, queue: Queue, offset: int, answer: Command) -> None:
        if answer.code == ResponseCode.TOPIC_NOT_EXIST:
            return  # nobody has sent to it yet
        ext = answer.ext_map()
        if answer.code == ResponseCode.SUCCESS:
            for message in decode_records(answer.body):
                self.ledger.show(queue, message)
            offset = int(ext["nextBeginOffset"])
            if self.rng.random() < 0.3:
                self._commit(queue, offset)
        elif answer.code in (ResponseCode.PULL_OFFSET_MOVED, ResponseCode.PULL_NOT_FOUND):
            offset = int(ext["nextBeginOffset"])
        else:
            self.refused.append((answer.code, answer.remark))
        self._pull(queue, offset)

    def _commit(self, queue: Queue, offset: int) -> None:
        self.ledger.commit(queue, offset)  # it may be stored even if the answer is lost
        done = (lambda answer: None) if self.rng.random() < 0.5 else None  # clients send it one-way, mostly
        ext = commit_ext(GROUP, queue.topic, queue.queue_id, offset)
        self.wire.give(RequestCode.UPDATE_CONSUMER_OFFSET, ext, b"", done)


class Changer(Actor):
    """Creates, changes and deletes topics and groups, and sends to the topics: one change for each name at a time."""

    def begin(self) -> None:
        for named in NAMES:
            self._change(named)

    def _change(self, named: Named) -> None:
        if self.has_ended:
            return
        is_topic = named.kind == "topic"
        setting: Setting = None
        body = b""
        ext: dict[str, str] | None
        if self.rng.random() < 0.25:
            code = RequestCode.DELETE_TOPIC_IN_BROKER if is_topic else RequestCode.DELETE_SUBSCRIPTIONGROUP
            ext = delete_topic_ext(named.name) if is_topic else delete_group_ext(named.name)
        else:
            number = self.rng.randint(1, 9)
            setting = (number,)
            code = RequestCode.UPDATE_AND_CREATE_TOPIC if is_topic else RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP
            ext = create_topic_ext(named.name, number) if is_topic else None
            body = b"" if is_topic else group_body(named.name, number)
        self.ledger.change(named, setting)
        self.wire.give(code, ext, body, lambda answer: self._changed(named, setting, answer))

    def _changed(self, named: Named, setting: Setting, answer: Command) -> None:
        if answer.code != ResponseCode.SUCCESS:
            self.refused.append((answer.code, answer.remark))
            return
        self.ledger.changed(named)
        if named.kind == "topic" and setting is not None:
            for number in range(8):
                ext = send_ext(named.name, number % setting[0])
                self.wire.give(RequestCode.SEND_MESSAGE_V2, ext, self.rng.randbytes(100), None)
        self._change(named)
