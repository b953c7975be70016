"""The store as the broker sees it: put messages, get them by queue offset, keep state; one log under all of it.

The walk of a message: `put` gives it the next offset of its queue and its place in the log, encodes the record and
appends it. Nothing suspends, so the loop is the lock. When the log has committed it, `on_commit` makes all that the
commit covered visible (the folds), then tells who waits for arrivals, then calls each put's `done`, in append order.
A crash before the commit leaves nothing of the message, or the whole of it unacknowledged.

State changes take the same way as records of their own. Checkpoints write the folds' state down now and then, so
that a start reads little of the log; they are never needed to be right, only to be fast.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from posthouse.codec.record import HEAD_BYTES_MAX, encode_record, peek_stored_at_ms, record_size, record_summary
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.host.disk import DiskBusy
from posthouse.model.limits import PULL_BYTES_MAX, PULL_SCAN_MAX, UNSYNCED_BYTES_MAX
from posthouse.model.message import Endpoint, NewMessage
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.store.checkpoint import Checkpoints, Tail, committed
from posthouse.store.consume_queue import ConsumeQueue, Entry, Stretch
from posthouse.store.group_offsets import GroupOffsets
from posthouse.store.group_table import GroupTable
from posthouse.store.log.engine import Log, LogConfig, LogDamaged, LogFailed, LogListener, Recovered, stamp
from posthouse.store.log.local import LocalLog
from posthouse.store.run import QueueKey
from posthouse.store.snapshot import Snapshot
from posthouse.store.state_record import (
    Kind,
    UnknownRecord,
    decode_state_record,
    encode_state_body,
    encode_state_record,
    state_record_size,
)
from posthouse.store.topic_table import Topic, TopicTable

log = logging.getLogger(__name__)

CHECKPOINT_BYTES = 32 * 1024 * 1024
"""Log between two checkpoints: about the most that a start replays."""
OFFSETS_PERIOD_S = 1.0
SPAN_BYTES_MAX = 1024 * 1024
"""The most that one read takes to have several records that lie apart."""


class StoreBroken(Exception):
    """The store cannot be opened; the text is one line for a person."""


class Put:
    """A message on its way to the disk, and the receipt for it. `done(put, error)` is called once, on the loop."""

    __slots__ = ("done", "log_offset", "queue", "queue_offset", "size", "tag_hash", "topic")

    def __init__(
        self,
        topic: Topic,
        queue: ConsumeQueue,
        queue_offset: QueueOffset,
        log_offset: LogOffset,
        size: int,
        tag_hash: int,
        done: Callable[[Put, LogFailed | None], None] | None,
    ) -> None:
        self.topic = topic
        self.queue = queue
        self.queue_offset = queue_offset
        self.log_offset = log_offset
        self.size = size
        self.tag_hash = tag_hash
        self.done = done


class Found(NamedTuple):
    """What a read gave: records as they are in the log, their bytes in all, how many, and where to read on."""

    buffers: list[bytes | memoryview]
    size: int
    messages: int
    next_offset: QueueOffset


class _Change:
    """A state record on its way to the disk."""

    __slots__ = ("body", "done", "kind", "log_offset")

    def __init__(self, kind: Kind, body: Any, log_offset: LogOffset, done: Callable[[LogFailed | None], None]) -> None:
        self.kind = kind
        self.body = body
        self.log_offset = log_offset
        self.done = done


class _Fold(Protocol):
    @property
    def kinds(self) -> tuple[Kind, ...]: ...

    def decide(self, kind: Kind, body: Any, log_offset: LogOffset) -> None: ...

    def apply(self, kind: Kind, body: Any, log_offset: LogOffset) -> None: ...


OnArrivals = Callable[[list[Put]], None]
LogMaker = Callable[[Host, LogListener], Log]


def local_log(config: LogConfig | None = None) -> LogMaker:
    return lambda host, listener: LocalLog(host, listener, config)


class MessageStore:
    """Composition of the log and its folds. Open it before use; close it in the end.

    `on_arrivals` is told of the puts that have just become visible, a whole commit at once. `on_broken` is told once
    when the log has failed: nothing more is acknowledged and the process should end.
    """

    def __init__(
        self,
        host: Host,
        *,
        make_log: LogMaker | None = None,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        on_arrivals: OnArrivals | None = None,
        on_broken: Callable[[LogFailed], None] | None = None,
    ) -> None:
        self._disk = host.disk
        self._clock = host.clock
        self._checkpoint_bytes = checkpoint_bytes
        self._on_arrivals = on_arrivals or (lambda puts: None)
        self._on_broken = on_broken or (lambda error: None)
        self.topics = TopicTable()
        self.groups = GroupTable()
        self.offsets = GroupOffsets()
        self._folds: dict[Kind, _Fold] = {}
        folds: tuple[_Fold, ...] = (self.topics, self.groups, self.offsets)
        for fold in folds:
            self._folds.update(dict.fromkeys(fold.kinds, fold))
        self.log: Log = (make_log or local_log())(host, self)
        self._stored_at_ms = EpochMs(0)
        self._earliest_stored_at_ms: EpochMs | None = None
        self._failure: LogFailed | None = None
        self._closing = False
        self._draining = False
        self._checkpoints = Checkpoints(host.disk)
        self._checkpoint_at = LogOffset(0)
        self._checkpointing: asyncio.Task[None] | None = None
        self._offsets_timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None
        self.recovered: Recovered | None = None

    # Opening and closing

    def open(self) -> Recovered:
        """Takes the folder, loads the newest snapshot, replays the log after it. Waits for the disk.

        Raises StoreBroken; `close` then lets the folder go.
        """
        try:
            self._disk.lock()
            snapshot = self._checkpoints.load()
            self._restore(snapshot)
            self.recovered = self.log.recover(snapshot.position, self._replay)
            self._earliest_stored_at_ms = self._find_earliest()
        except (DiskBusy, LogDamaged, UnknownRecord) as error:
            raise StoreBroken(str(error)) from error
        except OSError as error:
            raise StoreBroken(f"cannot use {self._disk.place}: {error.strerror or error}") from error
        self._checkpoint_at = snapshot.position.offset
        return self.recovered

    def _find_earliest(self) -> EpochMs | None:
        found: EpochMs | None = None
        for topic in self.topics.all():
            for queue in topic.queues.values():
                for entry in queue.read_wait(queue.min_offset, 1):
                    head = self.log.read_wait(entry.log_offset, min(entry.size, HEAD_BYTES_MAX))
                    stored_at_ms = peek_stored_at_ms(head)
                    found = stored_at_ms if found is None else min(found, stored_at_ms)
        return found

    def start(self) -> None:
        """Begins the periodic work; needs the running loop."""
        self._offsets_timer = asyncio.get_running_loop().call_later(OFFSETS_PERIOD_S, self._write_offsets)

    def _restore(self, snapshot: Snapshot) -> None:
        self._stored_at_ms = EpochMs(snapshot.stored_at_ms)
        self.topics.restore(msgspec.json.decode(snapshot.topics))
        self.groups.restore(msgspec.json.decode(snapshot.groups))
        self.offsets.restore(msgspec.json.decode(snapshot.offsets))
        stretches: dict[QueueKey, list[Stretch]] = {}
        for run in self._checkpoints.runs:
            for key, stretch in run.stretches.items():
                stretches.setdefault(key, []).append(stretch)
        for topic_id, queue_id, next_offset in snapshot.queues:
            topic = self.topics.by_id(topic_id)
            assert topic is not None, "a snapshot has queues of a topic that it does not have"
            queue = topic.queue(queue_id)
            for stretch in stretches.get(QueueKey(topic_id, queue_id), ()):
                queue.add_stretch(stretch)
            assert queue.max_offset == next_offset, "the runs of a queue do not end where the snapshot says"

    def _replay(self, data: bytes, at: int, size: int, log_offset: LogOffset) -> None:
        state = decode_state_record(data, at)
        if state is None:
            self._replay_message(data, at, log_offset)
            return
        self._stored_at_ms = max(self._stored_at_ms, state.stored_at_ms)
        self._decide(state.kind, state.body, log_offset)
        self._apply(state.kind, state.body, log_offset)
        if state.kind is Kind.OFFSETS:
            self.offsets.replay(state.kind, state.body, log_offset)

    def _replay_message(self, data: bytes, at: int, log_offset: LogOffset) -> None:
        summary = record_summary(data, at)
        self._stored_at_ms = max(self._stored_at_ms, summary.stored_at_ms)
        topic = self.topics.live.get(summary.topic)
        assert topic is not None, f"a message of topic {summary.topic!r} before the topic, at log offset {log_offset}"
        topic.queue(summary.queue_id).apply(summary.queue_offset, log_offset, summary.size, summary.tag_hash)

    async def drain(self) -> None:
        """Takes no more messages, and waits until all that was taken is committed or has failed."""
        self._draining = True
        await self._settled()

    async def close(self) -> None:
        """Writes what is due, makes a checkpoint, closes the log and lets the folder go."""
        if self._closing:
            return
        self._closing = self._draining = True
        if self._offsets_timer is not None:
            self._offsets_timer.cancel()
        if self._failure is None:
            self._append_offsets()
            await self._settled()
            await self.checkpoint()
        if self._checkpointing is not None:  # begun before the log failed
            await asyncio.shield(self._checkpointing)
        await self.log.close()
        self._checkpoints.close()
        self._disk.close()

    async def _settled(self) -> None:
        """Waits until all that was appended is committed or has failed."""
        if self.log.waiting_bytes and self._failure is None:
            if self._idle is None or self._idle.done():
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    @property
    def failure(self) -> LogFailed | None:
        """Why nothing can be written any more; None while all is well."""
        return self._failure

    @property
    def earliest_stored_at_ms(self) -> EpochMs | None:
        """About when the oldest message was stored; None when there is none."""
        return self._earliest_stored_at_ms

    # Messages

    def check_writable(self) -> None:
        """Raises Refused(NOT_WRITABLE) when the store takes no writes, Refused(BUSY) when the disk is behind."""
        if self._failure is not None:
            raise Refused(Reason.NOT_WRITABLE, f"the store takes no more writes: {self._failure}")
        if self._draining:
            raise Refused(Reason.NOT_WRITABLE, "the broker is stopping; send to another one or try again")
        if self.log.waiting_bytes > UNSYNCED_BYTES_MAX:
            raise Refused(
                Reason.BUSY,
                f"{self.log.waiting_bytes} bytes wait for the disk; the limit is {UNSYNCED_BYTES_MAX}; try again",
            )

    def put(
        self,
        topic: Topic,
        message: NewMessage,
        tag_hash: int,
        store_host: Endpoint,
        done: Callable[[Put, LogFailed | None], None] | None,
    ) -> Put:
        """Appends one message; `done` follows when it is committed. The caller has checked `check_writable`.

        `message.queue_id` is a queue of `topic`, which is live. Raises LogFailed.
        """
        assert self.topics.live.get(message.topic) is topic, "a message for a topic that is gone would poison the log"
        name, properties = message.topic.encode(), message.properties.encode()
        size = record_size(len(message.body), len(name), len(properties), message.born_host, store_host)
        at = self.log.room_for(size)
        return self._append(topic, message, name, properties, at, tag_hash, store_host, done)

    def put_many(
        self,
        topic: Topic,
        messages: list[tuple[NewMessage, int]],
        store_host: Endpoint,
        done: Callable[[Put, LogFailed | None], None],
    ) -> list[Put]:
        """Appends (message, tag hash) pairs that are committed together or not at all; `done` is of the last one."""
        encoded: list[tuple[NewMessage, int, bytes, bytes]] = []
        total = 0
        for message, tag_hash in messages:
            assert self.topics.live.get(message.topic) is topic, "see put"
            name, properties = message.topic.encode(), message.properties.encode()
            total += record_size(len(message.body), len(name), len(properties), message.born_host, store_host)
            encoded.append((message, tag_hash, name, properties))
        at = self.log.room_for(total)
        puts: list[Put] = []
        for message, tag_hash, name, properties in encoded:
            told = done if len(puts) + 1 == len(encoded) else None
            put = self._append(topic, message, name, properties, at, tag_hash, store_host, told)
            at = LogOffset(at + put.size)
            puts.append(put)
        return puts

    def _append(
        self,
        topic: Topic,
        message: NewMessage,
        topic_name: bytes,
        properties: bytes,
        log_offset: LogOffset,
        tag_hash: int,
        store_host: Endpoint,
        done: Callable[[Put, LogFailed | None], None] | None,
    ) -> Put:
        queue = topic.queue(message.queue_id)
        queue_offset = queue.next_offset
        now_ms = self._clock.now_ms()
        if now_ms > self._stored_at_ms:
            self._stored_at_ms = now_ms
        record = encode_record(
            message,
            topic=topic_name,
            properties=properties,
            queue_offset=queue_offset,
            log_offset=log_offset,
            stored_at_ms=self._stored_at_ms,
            store_host=store_host,
        )
        if self._earliest_stored_at_ms is None:
            self._earliest_stored_at_ms = self._stored_at_ms
        put = Put(topic, queue, queue_offset, log_offset, len(record), tag_hash, done)
        given = self.log.append(record, put)
        assert given == log_offset, "a record is not where room_for said"
        queue.next_offset = QueueOffset(queue_offset + 1)
        return put

    # State

    def record(
        self, kind: Kind, body: object, done: Callable[[LogFailed | None], None], sync: bool = True
    ) -> LogOffset:
        """Appends a change of state; the live view has it at once, `done` follows when it is committed."""
        data = encode_state_body(body)
        offset = self.log.room_for(state_record_size(data))
        self._stored_at_ms = stamp(self._clock.now_ms(), self._stored_at_ms)
        record = encode_state_record(kind, data, offset, self._stored_at_ms)
        self.log.append(record, _Change(kind, body, offset, done), sync)
        self._decide(kind, body, offset)
        return offset

    async def record_and_wait(self, kind: Kind, body: object) -> None:
        """The same, waiting for the commit. Raises Refused(NOT_WRITABLE) if the log fails."""
        self.check_writable()
        committed: asyncio.Future[LogFailed | None] = asyncio.get_running_loop().create_future()
        self.record(kind, body, lambda error: None if committed.done() else committed.set_result(error))
        error = await committed
        if error is not None:
            raise Refused(Reason.NOT_WRITABLE, str(error))

    def _decide(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        self._folds[kind].decide(kind, body, log_offset)
        if kind is Kind.TOPIC_DELETED:
            self.offsets.drop_live(topic=body["name"])
        elif kind is Kind.GROUP_DELETED and body.get("clean_offsets"):
            self.offsets.drop_live(group=body["name"])

    def _apply(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        self._folds[kind].apply(kind, body, log_offset)
        if kind is Kind.TOPIC_DELETED:
            self.offsets.drop_committed(topic=body["name"])
        elif kind is Kind.GROUP_DELETED and body.get("clean_offsets"):
            self.offsets.drop_committed(group=body["name"])

    def _write_offsets(self) -> None:
        self._offsets_timer = asyncio.get_running_loop().call_later(OFFSETS_PERIOD_S, self._write_offsets)
        self._append_offsets()

    def _append_offsets(self) -> None:
        if self._failure is None and (changes := self.offsets.take_changes()) is not None:
            self.record(Kind.OFFSETS, changes, _ignore, sync=False)

    # Commits

    def on_commit(self, receipts: list[object]) -> None:
        """The log's word that these are committed; see the module's text for the order."""
        if self._failure is not None:
            return
        try:
            self._make_visible(receipts)
        except Exception as error:  # our own mistake: the folds may be half applied, so nothing may follow
            log.critical("what was committed cannot be applied; the broker stops", exc_info=error)
            self._failure = LogFailed(f"what was committed cannot be applied: {error!r}")
            self._on_broken(self._failure)
        else:
            if self.log.committed_offset - self._checkpoint_at >= self._checkpoint_bytes and not self._closing:
                self._begin_checkpoint()
        if self._failure is not None or not self.log.waiting_bytes:
            self._tell_idle()

    def _make_visible(self, receipts: list[object]) -> None:
        puts: list[Put] = []
        changes: list[_Change] = []
        for receipt in receipts:
            if isinstance(receipt, Put):
                receipt.queue.apply(receipt.queue_offset, receipt.log_offset, receipt.size, receipt.tag_hash)
                puts.append(receipt)
            else:
                assert isinstance(receipt, _Change)
                self._apply(receipt.kind, receipt.body, receipt.log_offset)
                changes.append(receipt)
        if puts:
            self._on_arrivals(puts)
        for put in puts:
            if put.done is not None:
                put.done(put, None)
        for change in changes:
            change.done(None)

    def _tell_idle(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def on_failure(self, error: LogFailed, receipts: list[object]) -> None:
        """Nothing more will be acknowledged; who waits is told so."""
        told, self._failure = self._failure is not None, error
        log.critical("%s; no more writes are taken and the broker stops", error)
        for receipt in receipts:
            if isinstance(receipt, Put):
                if receipt.done is not None:
                    receipt.done(receipt, error)
            elif isinstance(receipt, _Change):
                receipt.done(error)
        if not told:
            self._on_broken(error)
        self._tell_idle()

    # Checkpoints

    def _begin_checkpoint(self) -> None:
        """Captures the committed views, which all stand at the committed position now, and writes them aside."""
        if self._checkpointing is not None or self._failure is not None:
            return
        position = self.log.committed_position
        self._checkpoint_at = position.offset
        tails = [
            Tail(QueueKey(topic.id, queue.queue_id), queue, *queue.tail())
            for topic in self.topics.all()
            for queue in topic.queues.values()
            if queue.max_offset > 0
        ]
        snapshot = Snapshot(
            offset=position.offset,
            checksum=position.checksum,
            epoch=position.epoch,
            stored_at_ms=self._stored_at_ms,
            queues=[(tail.key.topic_id, tail.key.queue_id, tail.queue.max_offset) for tail in tails],
            topics=msgspec.Raw(msgspec.json.encode(self.topics.snapshot())),
            groups=msgspec.Raw(msgspec.json.encode(self.groups.snapshot())),
            offsets=msgspec.Raw(msgspec.json.encode(self.offsets.snapshot())),
        )
        self._checkpointing = asyncio.get_running_loop().create_task(self._write_checkpoint(snapshot, tails))

    async def _write_checkpoint(self, snapshot: Snapshot, tails: list[Tail]) -> None:
        try:
            await committed(self.log.sync)
            await self._checkpoints.write(snapshot, tails)
        except OSError as error:
            log.error("a checkpoint in %s failed: %s; the next start replays more", self._disk.place, error)
        finally:
            self._checkpointing = None

    async def checkpoint(self) -> None:
        """Writes everything committed into a run and a snapshot, unless that is so already."""
        if self._checkpointing is not None:
            await asyncio.shield(self._checkpointing)
        if self.log.committed_offset > self._checkpoint_at:
            self._begin_checkpoint()
            if self._checkpointing is not None:
                await asyncio.shield(self._checkpointing)

    # Reading

    def get(
        self,
        queue: ConsumeQueue,
        queue_offset: QueueOffset,
        count_max: int,
        bytes_max: int,
        wants: Callable[[int], bool] | None = None,
    ) -> Found | None:
        """The records of a queue from `queue_offset` on whose tag hash `wants` takes, as slices of the log.

        At least one is given if one is wanted, whatever its size. `queue_offset` is below the queue's max offset.
        None when the device must be waited for: call `warm` and try again. Raises OSError.
        """
        entries = queue.read(queue_offset, count_max if wants is None else PULL_SCAN_MAX)
        if entries is None:
            return None
        chosen, total, scanned = _choose(entries, count_max, bytes_max, wants)
        buffers = self._slices(chosen, total)
        if buffers is None:
            return None
        return Found(buffers, total, len(chosen), QueueOffset(queue_offset + scanned))

    def _slices(self, entries: list[Entry], total: int) -> list[bytes | memoryview] | None:
        """Records as views: one read if they lie close together in one segment, else one each."""
        if not entries:
            return []
        span = self._span(entries, total)
        if span:
            start = entries[0].log_offset
            data = self.log.read(start, span)
            if data is None:
                return None
            if span == total:
                return [data]
            view = memoryview(data)
            return [view[e.log_offset - start : e.log_offset - start + e.size] for e in entries]
        slices: list[bytes | memoryview] = []
        for entry in entries:
            data = self.log.read(entry.log_offset, entry.size)
            if data is None:
                return None
            slices.append(data)
        return slices

    def _span(self, entries: list[Entry], total: int) -> int:
        """Bytes of the one read that takes all these records, 0 if each needs its own."""
        first, last = entries[0], entries[-1]
        span = last.log_offset + last.size - first.log_offset
        near = span <= SPAN_BYTES_MAX and span <= 8 * total
        return span if near and self.log.same_segment(first.log_offset, last.log_offset) else 0

    async def warm(
        self,
        queue: ConsumeQueue,
        queue_offset: QueueOffset,
        count_max: int,
        bytes_max: int = PULL_BYTES_MAX,
        wants: Callable[[int], bool] | None = None,
    ) -> None:
        """Waits until the device has given what a `get` of the same would read. Raises Refused(FAILED)."""
        entries = await self._entries(queue, queue_offset, count_max if wants is None else PULL_SCAN_MAX)
        chosen, total, _ = _choose(entries, count_max, bytes_max, wants)
        span = self._span(chosen, total) if chosen else 0
        if span:
            await self.read_record(chosen[0].log_offset, span)
        else:
            for entry in chosen:
                await self.read_record(entry.log_offset, entry.size)

    async def _entries(self, queue: ConsumeQueue, queue_offset: QueueOffset, count: int) -> list[Entry]:
        """Entries of a queue, waiting for the device if need be. Raises Refused(FAILED)."""
        found = queue.read(queue_offset, count)
        if found is not None:
            return found
        waiting: asyncio.Future[list[Entry] | OSError] = asyncio.get_running_loop().create_future()
        queue.read_later(queue_offset, count, lambda found: None if waiting.done() else waiting.set_result(found))
        outcome = await waiting
        if isinstance(outcome, OSError):
            raise Refused(Reason.FAILED, f"reading a queue at {queue_offset} failed: {outcome}")
        return outcome

    async def stored_at_ms(self, queue: ConsumeQueue, queue_offset: QueueOffset) -> EpochMs | None:
        """When the message at `queue_offset` was stored; None if there is none."""
        entries = await self._entries(queue, queue_offset, 1)
        if not entries:
            return None
        entry = entries[0]
        return peek_stored_at_ms(await self.read_record(entry.log_offset, min(entry.size, HEAD_BYTES_MAX)))

    async def read_record(self, log_offset: LogOffset, size: int) -> bytes:
        """`size` bytes of the log, waiting for the device if need be. Raises Refused(FAILED) when it cannot be read."""
        data = self.log.read(log_offset, size)
        if data is not None:
            return data
        waiting: asyncio.Future[bytes | OSError] = asyncio.get_running_loop().create_future()
        self.log.read_later(log_offset, size, lambda found: None if waiting.done() else waiting.set_result(found))
        outcome = await waiting
        if isinstance(outcome, OSError):
            raise Refused(Reason.FAILED, f"reading the log at {log_offset} failed: {outcome}")
        return outcome

    async def search(self, queue: ConsumeQueue, at_ms: EpochMs, upper: bool = False) -> QueueOffset:
        """The first message stored at or after `at_ms`, max offset if none.

        `upper`: the last one at or before it, min offset if none. Stored times never go back in a queue, so this is
        a binary search.
        """
        low, high = queue.min_offset, queue.max_offset
        while low < high:
            middle = QueueOffset((low + high) // 2)
            stored_at_ms = await self.stored_at_ms(queue, middle)
            assert stored_at_ms is not None
            if stored_at_ms < at_ms or (upper and stored_at_ms == at_ms):
                low = QueueOffset(middle + 1)
            else:
                high = middle
        return QueueOffset(max(queue.min_offset, low - 1)) if upper else low


def _choose(
    entries: list[Entry], count_max: int, bytes_max: int, wants: Callable[[int], bool] | None
) -> tuple[list[Entry], int, int]:
    """The entries to give, their bytes in all, and how many were looked at."""
    chosen: list[Entry] = []
    total, scanned = 0, 0
    for entry in entries:
        if wants is None or wants(entry.tag_hash):
            if chosen and (total + entry.size > bytes_max or len(chosen) >= count_max):
                break
            chosen.append(entry)
            total += entry.size
        scanned += 1
    return chosen, total, scanned


def _ignore(error: LogFailed | None) -> None:
    """For changes that nobody waits for."""
