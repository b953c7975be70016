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
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from posthouse.codec.record import due_of, encode_record, record_size
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.host.disk import DiskBusy
from posthouse.model import filter as filters
from posthouse.model.limits import UNSYNCED_BYTES_MAX
from posthouse.model.message import Endpoint, NewMessage
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.properties import TAGS, find_property
from posthouse.model.refusal import Reason, Refused
from posthouse.store.carrying import carry_forward
from posthouse.store.checkpoint import Checkpoints, Tail, committed
from posthouse.store.config import StoreConfig
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.folds import Folds
from posthouse.store.key_index import OpenBlock, property_hashes
from posthouse.store.log.engine import (
    Log,
    LogConfig,
    LogDamaged,
    LogFailed,
    LogFull,
    LogListener,
    Recovered,
    stamp,
)
from posthouse.store.log.local import LocalLog
from posthouse.store.opening import next_offsets, read_opening
from posthouse.store.reading import Reader
from posthouse.store.run import QueueKey
from posthouse.store.snapshot import Snapshot
from posthouse.store.state_record import Kind, UnknownRecord, encode_state_body, encode_state_record, state_record_size
from posthouse.store.topic_table import Topic

log = logging.getLogger(__name__)

TICK_S = 1.0
"""Committed offsets are written down this often, and what was committed without a sync is synced."""


class StoreBroken(Exception):
    """The store cannot be opened; the text is one line for a person."""


_NOTHING = LogOffset(0)

LogError = LogFailed | LogFull
"""Why a record is not known to be stored."""

OnChanged = Callable[[LogError | None], None]


def _ignore(error: LogError | None) -> None:
    """For changes that nobody waits for."""


class Put:
    """A message on its way to the disk, and the receipt for it. `done(put, error)` is called once, on the loop."""

    __slots__ = (
        "done", "key_hashes", "log_offset", "properties", "queue", "queue_offset", "size", "stored_at_ms", "synced",
        "tag_hash", "topic",
    )  # fmt: skip

    def __init__(
        self,
        topic: Topic,
        queue: ConsumeQueue,
        queue_offset: QueueOffset,
        log_offset: LogOffset,
        size: int,
        stored_at_ms: EpochMs,
        tag_hash: int,
        key_hashes: tuple[int, ...],
        done: Callable[[Put, LogError | None], None] | None,
        properties: bytes = b"",
    ) -> None:
        self.topic = topic
        self.queue = queue
        self.queue_offset = queue_offset
        self.log_offset = log_offset
        self.size = size
        self.stored_at_ms = stored_at_ms
        self.tag_hash = tag_hash
        self.key_hashes = key_hashes
        self.done = done
        self.properties = properties  # for who waits for messages with certain properties
        self.synced = False
        """Whether it reached the disk; False until it is committed."""


class LinkedPut(Put):
    """A message that is more than new: it is due later, or replaces another record. See `timers`."""

    __slots__ = ("due_ms", "replaces")

    due_ms: int
    replaces: LogOffset


class _Change:
    """A state record on its way to the disk."""

    __slots__ = ("body", "done", "kind", "late", "log_offset")

    def __init__(self, kind: Kind, body: Any, log_offset: LogOffset, done: OnChanged, late: OnChanged) -> None:
        self.kind = kind
        self.body = body
        self.log_offset = log_offset
        self.done = done
        self.late = late  # instead of `done`, when that was told already that there was no room


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
        config: StoreConfig | None = None,
        *,
        make_log: LogMaker | None = None,
        on_arrivals: OnArrivals | None = None,
        on_broken: Callable[[LogFailed], None] | None = None,
    ) -> None:
        self._disk = host.disk
        self._clock = host.clock
        self.config = config = config or StoreConfig()
        self._on_arrivals = on_arrivals or (lambda puts: None)
        self._on_broken = on_broken or (lambda error: None)
        self.failed_puts = 0
        """Messages that were taken, and then not acknowledged."""
        self.folds = folds = Folds()
        self.topics, self.groups, self.offsets = folds.topics, folds.groups, folds.offsets
        self.rules = folds.rules
        self.in_flight, self.keys = folds.in_flight, folds.keys
        self.before_trim: list[Callable[[LogOffset], Awaitable[None]]] = []
        """Who saves something that is below the place where the log will begin."""
        self.log: Log = (make_log or local_log(LogConfig(config.segment_bytes)))(host, self)
        self.reader = reader = Reader(self.log)
        self.get, self.warm, self.search = reader.get, reader.warm, reader.search
        self.read_record, self.stored_at_ms = reader.read_record, reader.stored_at_ms
        self._failure: LogFailed | None = None
        self._full: LogFull | None = None
        self._closing = False
        self._draining = False
        self._checkpoints = Checkpoints(host.disk, folds.keys)
        self._checkpoint_at = LogOffset(0)
        self._checkpointing: asyncio.Task[None] | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._syncing = False
        self._progress: asyncio.Future[None] | None = None
        self.recovered: Recovered | None = None

    # Opening and closing

    def open(self) -> Recovered:
        """Takes the folder, loads the newest snapshot, replays the log after it. Waits for the disk.

        Raises StoreBroken; `close` then lets the folder go.
        """
        try:
            self._disk.lock()
            first = self.log.open()
            snapshot = self._checkpoints.load(first.offset)
            self.folds.restore(snapshot, self._checkpoints.stretches())
            after = snapshot.position if snapshot.offset > first.offset else first
            self.recovered = self.log.recover(after, self.folds.replay, self.folds.on_gap)
            self._trim_queues(self._opening_at_start(first.offset))
        except (DiskBusy, LogDamaged, UnknownRecord) as error:
            raise StoreBroken(str(error)) from error
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise StoreBroken(f"cannot use {self._disk.place}: {error.strerror or error}{where}") from error
        self._checkpoint_at = after.offset
        return self.recovered

    def _opening_at_start(self, base: LogOffset) -> dict[QueueKey, QueueOffset]:
        """Where each queue stood at the oldest byte that is kept. Waits."""
        if not base:
            return {}
        reads = read_opening(base)
        try:
            offset, size = next(reads)
            while True:
                offset, size = reads.send(self.log.read_wait(offset, size))
        except StopIteration as ended:
            return next_offsets(ended.value)

    def _trim_queues(self, kept: dict[QueueKey, QueueOffset]) -> None:
        """Queues begin where `kept` says; those that it does not have keep everything."""
        for key, offset in kept.items():
            topic = self.topics.by_id(key.topic_id)
            if topic is not None:
                topic.queue(key.queue_id).trim(offset)

    def start(self) -> None:
        """Begins the periodic work; needs the running loop."""
        self._tick_timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    async def drain(self) -> None:
        """Takes no more messages, and waits until all that was taken is committed or has failed."""
        self._draining = True
        await self._settled()

    async def close(self) -> None:
        """Writes what is due, makes a checkpoint, closes the log and lets the folder go."""
        if self._closing:
            return
        self._closing = self._draining = True
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        if self._failure is None and self._full is None:
            self._append_offsets()
            await self._settled()
            await self.checkpoint()
        if self._checkpointing is not None:  # begun before the log failed
            await asyncio.shield(self._checkpointing)
        await self.log.close()
        self._checkpoints.close()
        self._disk.close()

    async def _settled(self) -> None:
        """Waits until all that is appended by now is committed, or cannot be for now; others may go on appending."""
        end = self.log.end_offset
        while self.log.committed_offset < end and self._failure is None and self._full is None:
            if self._progress is None or self._progress.done():
                self._progress = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._progress)

    @property
    def failure(self) -> LogFailed | None:
        """Why nothing can be written any more; None while all is well."""
        return self._failure

    @property
    def earliest_stored_at_ms(self) -> EpochMs | None:
        """About when the oldest message was stored; None when there is none."""
        segments = self.log.segments
        return segments[0].begun_at_ms if segments else None

    # Messages

    def check_writable(self) -> None:
        """Raises Refused(NOT_WRITABLE) when the store takes no writes, Refused(BUSY) when the disk is behind."""
        if self._failure is not None or self._draining:
            self.check_recordable()
        if self._full is not None:
            raise Refused(Reason.NOT_WRITABLE, f"{self._full}; make room there, or send to another broker")
        if self.log.waiting_bytes > UNSYNCED_BYTES_MAX:
            raise Refused(
                Reason.BUSY,
                f"{self.log.waiting_bytes} bytes wait for the disk; the limit is {UNSYNCED_BYTES_MAX}; try again",
            )

    def check_recordable(self) -> None:
        """Raises Refused(NOT_WRITABLE) when the store takes no state either. For small state a full disk is no reason:
        it is held, and written when there is room.
        """
        if self._failure is not None:
            raise Refused(Reason.NOT_WRITABLE, f"the store takes no more writes: {self._failure}")
        if self._draining:
            raise Refused(Reason.NOT_WRITABLE, "the broker is stopping; send to another one or try again")

    def put(
        self,
        topic: Topic,
        message: NewMessage,
        tag_hash: int,
        store_host: Endpoint,
        done: Callable[[Put, LogError | None], None] | None,
        sync: bool = True,
        unique_id: str | None = None,
        properties: str | None = None,
    ) -> Put:
        """Appends one message; `done` follows when it is committed. The caller has checked `check_writable`.

        Without `sync` it is committed when the operating system has it. `message.queue_id` is a queue of `topic`,
        which is live. `properties`: what is stored in place of the message's own. `unique_id`: the one in them, if the
        caller knows it. Raises LogFailed.
        """
        assert self.topics.live.get(message.topic) is topic, "a message for a topic that is gone would poison the log"
        text = message.properties if properties is None else properties
        encoded = text.encode()
        size = record_size(len(message.body), len(topic.name_bytes), len(encoded), message.born_host, store_host)
        at = self.log.room_for(size)
        hashes = property_hashes(topic.key_seed, unique_id, text)
        return self._append(topic, message, encoded, at, tag_hash, hashes, store_host, done, sync)

    def put_many(
        self,
        topic: Topic,
        messages: list[tuple[NewMessage, int]],
        store_host: Endpoint,
        done: Callable[[Put, LogError | None], None],
        sync: bool = True,
    ) -> list[Put]:
        """Appends (message, tag hash) pairs that are committed together or not at all; `done` is of the last one."""
        encoded: list[tuple[NewMessage, int, bytes]] = []
        seed = topic.key_seed
        total = 0
        for message, tag_hash in messages:
            assert self.topics.live.get(message.topic) is topic, "see put"
            properties = message.properties.encode()
            total += record_size(
                len(message.body), len(topic.name_bytes), len(properties), message.born_host, store_host
            )
            encoded.append((message, tag_hash, properties))
        at = self.log.room_for(total)
        puts: list[Put] = []
        for message, tag_hash, properties in encoded:
            told = done if len(puts) + 1 == len(encoded) else None
            hashes = property_hashes(seed, None, message.properties)
            put = self._append(topic, message, properties, at, tag_hash, hashes, store_host, told, sync)
            at = LogOffset(at + put.size)
            puts.append(put)
        return puts

    def put_linked(
        self,
        topic: Topic,
        message: NewMessage,
        store_host: Endpoint,
        done: Callable[[Put, LogError | None], None] | None,
        *,
        sync: bool = True,
        replaces: LogOffset = _NOTHING,
        states: Sequence[tuple[Kind, object]] = (),
    ) -> LinkedPut:
        """Appends one message and changes of state that are committed together or not at all; the message is the last.

        `replaces`: the log offset of the record in whose place it is, see `timers`. Otherwise as `put`.
        """
        assert self.topics.live.get(message.topic) is topic, "see put"
        properties = message.properties.encode()
        size = record_size(len(message.body), len(topic.name_bytes), len(properties), message.born_host, store_host)
        if states:
            changes = [(kind, body, encode_state_body(body)) for kind, body in states]
            at = self.log.room_for(size + sum(state_record_size(data) for _, _, data in changes))
            for kind, body, data in changes:
                self._append_state(kind, body, data, at, _ignore, sync, _ignore)
                at = LogOffset(at + state_record_size(data))
        else:
            at = self.log.room_for(size)
        tag = find_property(message.properties, TAGS)
        hashed = filters.tag_hash(tag) if tag else 0
        hashes = property_hashes(topic.key_seed, None, message.properties)
        put = self._append(topic, message, properties, at, hashed, hashes, store_host, done, sync, LinkedPut, replaces)
        assert isinstance(put, LinkedPut)
        put.due_ms, put.replaces = due_of(message.properties), replaces
        return put

    def _append(
        self,
        topic: Topic,
        message: NewMessage,
        properties: bytes,
        log_offset: LogOffset,
        tag_hash: int,
        key_hashes: tuple[int, ...],
        store_host: Endpoint,
        done: Callable[[Put, LogError | None], None] | None,
        sync: bool,
        make: type[Put] = Put,
        replaces: LogOffset = _NOTHING,
    ) -> Put:
        queue = topic.queues.get(message.queue_id) or topic.queue(message.queue_id)
        queue_offset = queue.next_offset
        folds = self.folds
        stored_at_ms = self._clock.now_ms()
        if stored_at_ms > folds.stored_at_ms:
            folds.stored_at_ms = stored_at_ms
        else:
            stored_at_ms = folds.stored_at_ms
        record = encode_record(
            message, topic.name_bytes, properties, queue_offset, log_offset, stored_at_ms, store_host, replaces
        )
        put = make(
            topic, queue, queue_offset, log_offset, len(record), stored_at_ms, tag_hash, key_hashes, done, properties
        )
        given = self.log.append(record, put, sync)
        assert given == log_offset, "a record is not where room_for said"
        queue.next_offset = queue_offset + 1  # type: ignore[assignment]  # a NewType is a call
        return put

    # State

    def record(
        self, kind: Kind, body: object, done: OnChanged, sync: bool = True, late: OnChanged = _ignore
    ) -> LogOffset:
        """Appends a change of state; the live view has it at once, `done` follows when it is committed.

        `late` is called if it is committed after `done` was told that there is no room.
        """
        data = encode_state_body(body)
        offset = self.log.room_for(state_record_size(data))
        return self._append_state(kind, body, data, offset, done, sync, late)

    def _append_state(
        self, kind: Kind, body: object, data: bytes, offset: LogOffset, done: OnChanged, sync: bool, late: OnChanged
    ) -> LogOffset:
        self.folds.stored_at_ms = stamp(self._clock.now_ms(), self.folds.stored_at_ms)
        record = encode_state_record(kind, data, offset, self.folds.stored_at_ms)
        self.log.append(record, _Change(kind, body, offset, done, late), sync)
        self.folds.decide(kind, body, offset)
        return offset

    async def record_and_wait(self, kind: Kind, body: object, late: OnChanged = _ignore) -> None:
        """The same, waiting for the commit. Raises Refused(NOT_WRITABLE) if the log fails or has no room.

        `late` is called if it is committed after that was said.
        """
        self.check_writable()
        committed: asyncio.Future[LogError | None] = asyncio.get_running_loop().create_future()
        self.record(kind, body, lambda error: None if committed.done() else committed.set_result(error), late=late)
        error = await committed
        if error is not None:
            raise Refused(Reason.NOT_WRITABLE, str(error))

    async def settled(self) -> None:
        """Waits until all that is decided by now is committed: for who is told that what it asks for is so already.

        Raises Refused(NOT_WRITABLE).
        """
        await self._settled()
        self.check_recordable()
        if self._full is not None:
            raise Refused(Reason.NOT_WRITABLE, str(self._full))

    def on_segment(self, offset: LogOffset) -> None:
        """The log's word that its next record begins a segment: it opens with all the state that there is."""
        for body in self.folds.opening():
            self.record(Kind.OPENING, body, _ignore, sync=False)

    def _tick(self) -> None:
        self._tick_timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        if self._failure is not None:
            return
        if self.log.durable_offset < self.log.committed_offset and not self._syncing:
            self._syncing = True
            self.log.sync(self._synced)
        self._append_offsets()

    def _synced(self, error: OSError | None) -> None:
        self._syncing = False  # the log itself tells of an error

    def _append_offsets(self) -> None:
        if self._failure is not None or self._full is not None:
            return
        if (changes := self.offsets.take_changes()) is not None:
            self.record(Kind.OFFSETS, changes, _ignore, sync=False)
        if (rows := self.in_flight.take_changes()) is not None:
            self.record(Kind.POP_CHANGED, rows, _ignore, sync=False)

    # Commits

    def on_commit(self, receipts: list[object], synced: bool) -> None:
        """The log's word that these are committed; see the module's text for the order."""
        if self._failure is not None:
            return
        try:
            self._make_visible(receipts, synced)
        except Exception as error:  # our own mistake: the folds may be half applied, so nothing may follow
            log.critical("what was committed cannot be applied; the broker stops", exc_info=error)
            self._failure = LogFailed(f"what was committed cannot be applied: {error!r}")
            self._on_broken(self._failure)
        else:
            if self.log.committed_offset - self._checkpoint_at >= self.config.checkpoint_bytes and not self._closing:
                self._begin_checkpoint()
        self._tell_progress()

    def _make_visible(self, receipts: list[object], synced: bool) -> None:
        puts: list[Put] = []
        changes: list[_Change] = []
        for receipt in receipts:
            if type(receipt) is Put or isinstance(receipt, LinkedPut):
                receipt.queue.apply(receipt.queue_offset, receipt.log_offset, receipt.size, receipt.tag_hash)
                receipt.synced = synced
                puts.append(receipt)
                if type(receipt) is not Put:
                    self._apply_linked(receipt)
            else:
                assert isinstance(receipt, _Change)
                self.folds.apply(receipt.kind, receipt.body, receipt.log_offset)
                changes.append(receipt)
        self.keys.apply_all(puts)
        self.folds.applied_offset = self.log.committed_offset
        if puts:
            self._on_arrivals(puts)
        for put in puts:
            if put.done is not None:
                put.done(put, None)
        for change in changes:
            change.done(None)

    def _apply_linked(self, put: Put) -> None:
        assert isinstance(put, LinkedPut)
        if put.due_ms:
            self.folds.timers.apply_message(put.topic.config.name, put.log_offset, put.size, put.due_ms, put.replaces)

    def _tell_progress(self) -> None:
        """Who waits for a commit looks again."""
        if self._progress is not None and not self._progress.done():
            self._progress.set_result(None)

    def on_failure(self, error: LogFailed, receipts: list[object]) -> None:
        """Nothing more will be acknowledged; who waits is told so."""
        told, self._failure = self._failure is not None, error
        log.critical("%s; no more writes are taken and the broker stops", error)
        self.failed_puts += sum(isinstance(receipt, Put) for receipt in receipts)
        _tell(receipts, error)
        if not told:
            self._on_broken(error)
        self._tell_progress()

    def on_full(self, error: LogFull, receipts: list[object]) -> None:
        """There is no room for these. They are written when there is; who waits is told now that it is not known."""
        if self._full is None:
            log.error("%s; sends are refused until there is room", error)
        self._full = error
        self.failed_puts += sum(isinstance(receipt, Put) for receipt in receipts)
        _tell(receipts, error)
        self._tell_progress()

    def on_room(self) -> None:
        log.warning("there is room in %s again; sends are taken", self._disk.place)
        self._full = None

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
            stored_at_ms=self.folds.stored_at_ms,
            queues=[
                (tail.key.topic_id, tail.key.queue_id, tail.queue.min_offset, tail.queue.max_offset) for tail in tails
            ],
            topics=msgspec.Raw(msgspec.json.encode(self.topics.snapshot())),
            groups=msgspec.Raw(msgspec.json.encode(self.groups.snapshot())),
            offsets=msgspec.Raw(msgspec.json.encode(self.offsets.snapshot())),
            resets=msgspec.Raw(msgspec.json.encode(self.offsets.snapshot_resets())),
            rules=msgspec.Raw(msgspec.json.encode(self.rules.snapshot())),
            locks=msgspec.Raw(msgspec.json.encode(self.folds.locks.snapshot())),
            in_flight=msgspec.Raw(msgspec.json.encode(self.in_flight.snapshot())),
            timers=self.folds.timers.snapshot(),
        )
        work = self._write_checkpoint(snapshot, tails, self.keys.tail())
        self._checkpointing = asyncio.get_running_loop().create_task(work)

    async def _write_checkpoint(self, snapshot: Snapshot, tails: list[Tail], keys: tuple[OpenBlock, ...]) -> None:
        try:
            await committed(self.log.sync)
            await self._checkpoints.write(snapshot, tails, keys)
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

    # What is too old

    async def next_offsets_at(self, base: LogOffset) -> dict[QueueKey, QueueOffset]:
        """Where each queue stood when the segment at `base` was begun. Raises Refused(FAILED)."""
        if not base:
            return {}
        reads = read_opening(base)
        try:
            offset, size = next(reads)
            while True:
                offset, size = reads.send(await self.reader.read_record(offset, size))
        except StopIteration as ended:
            return next_offsets(ended.value)
        except LogDamaged as error:
            raise Refused(Reason.FAILED, f"{error}; stop the broker and run `posthouse check`") from error

    async def trim(self, before: LogOffset) -> None:
        """Lets go of the segments wholly below `before`: no message in them can be read any more.

        Raises Refused, OSError.

        What is in them and due later is carried forward first.
        Queues begin behind them first, so no reader is sent there. A crash on the way leaves some of the segments;
        the next start finds out where the queues begin from what it finds.
        """
        base = max((each.base for each in self.log.segments if each.base <= before), default=LogOffset(0))
        if base > self.log.first_offset:
            for save in self.before_trim:
                await save(base)
            await carry_forward(self, base)
            await committed(self.log.sync)  # what is in the place of something below may have been written without one
            self._trim_queues(await self.next_offsets_at(base))
            self.log.trim(base)
            self._checkpoints.drop_before(base)

    def trim_queue(self, queue: ConsumeQueue, min_offset: QueueOffset) -> None:
        """Messages of one queue below `min_offset` cannot be read any more, though their segments are there still."""
        queue.trim(min_offset)


def _tell(receipts: list[object], error: LogError) -> None:
    """Who waits for these hears of it, once."""
    for receipt in receipts:
        if isinstance(receipt, Put):
            done, receipt.done = receipt.done, None
            if done is not None:
                done(receipt, error)
        elif isinstance(receipt, _Change):
            told, receipt.done = receipt.done, receipt.late
            told(error)
