"""Known bugs, to be planted into the product: the simulator must find each of them.

Each is a context manager that replaces one method for as long as its block lasts. They sit at names that are likely to
stay: the seams and the steps that the design names. A bug here is one that somebody has made in some system before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final
from unittest.mock import patch

from posthouse.broker.locks import Locks
from posthouse.broker.retries import Retries
from posthouse.broker.send import SendService
from posthouse.client.inbox import QueueInbox
from posthouse.store.checkpoint import Checkpoints
from posthouse.store.consume_queue import ENTRY_BYTES, ConsumeQueue
from posthouse.store.group_offsets import GroupOffsets
from posthouse.store.in_flight import Popped, View
from posthouse.store.log.local import LocalLog
from posthouse.store.message_store import MessageStore, Put
from posthouse.store.timers import Timers
from posthouse.testing.sim.process_disk import ProcessDisk, SimFile


@contextmanager
def answer_before_sync() -> Iterator[None]:
    """The log counts as committed what the operating system has."""
    right = LocalLog.append

    def wrong(self: LocalLog, record: Any, receipt: object, sync: bool = True) -> Any:
        return right(self, record, receipt, False)

    with patch.object(LocalLog, "append", wrong):
        yield


@contextmanager
def sync_answers_latecomers() -> Iterator[None]:
    """When a sync ends, those are answered too who appended while it ran."""
    right_append, right_commit = LocalLog.append, MessageStore.on_commit

    def append(self: LocalLog, record: Any, receipt: object, sync: bool = True) -> Any:
        pending = self.__dict__.setdefault("pending", {})
        pending[id(receipt)] = receipt
        return right_append(self, record, receipt, sync)

    def on_commit(self: MessageStore, receipts: list[object], *more: Any) -> None:
        right_commit(self, receipts, *more)
        pending = self.log.__dict__.get("pending", {})
        for receipt in receipts:
            pending.pop(id(receipt), None)
        for receipt in pending.values():
            if isinstance(receipt, Put) and receipt.done is not None:
                done, receipt.done = receipt.done, None
                done(receipt, None)

    with patch.object(LocalLog, "append", append), patch.object(MessageStore, "on_commit", on_commit):
        yield


@contextmanager
def replay_skips_a_record() -> Iterator[None]:
    """A start does not replay the last record of the log."""
    right = LocalLog.recover

    def wrong(self: LocalLog, after: Any, on_record: Callable[..., None], *more: Any) -> Any:
        held: list[tuple[Any, ...]] = []

        def on_record_but_the_last(*record: Any) -> None:
            if held:
                on_record(*held.pop())
            held.append(record)

        return right(self, after, on_record_but_the_last, *more)

    with patch.object(LocalLog, "recover", wrong):
        yield


@contextmanager
def fold_applied_twice() -> Iterator[None]:
    """A start applies the last message of the log twice, to a queue that does not notice."""
    right_recover, right_apply = LocalLog.recover, ConsumeQueue.apply

    def recover(self: LocalLog, *arguments: Any) -> Any:
        last: list[tuple[ConsumeQueue, tuple[Any, ...]]] = []

        def apply(queue: ConsumeQueue, queue_offset: Any, *entry: Any) -> bool:
            last[:] = [(queue, entry)]
            return right_apply(queue, queue_offset, *entry)

        with patch.object(ConsumeQueue, "apply", apply):
            recovered = right_recover(self, *arguments)
        for queue, entry in last:
            right_apply(queue, queue.max_offset, *entry)
        return recovered

    with patch.object(LocalLog, "recover", recover):
        yield


@contextmanager
def lock_forgotten() -> Iterator[None]:
    """Nobody asks whether the folder is in use."""

    def wrong(self: ProcessDisk) -> None:
        self.check_alive()
        self._closed = False

    with patch.object(ProcessDisk, "lock", wrong):
        yield


@contextmanager
def offset_passes_what_is_not_handled() -> Iterator[None]:
    """A consumer commits what it has pulled, not what it has handled."""
    with patch.object(QueueInbox, "commit_offset", property(lambda self: self.next_offset)):
        yield


@contextmanager
def checkpoint_loses_an_entry() -> Iterator[None]:
    """A checkpoint leaves out the last entry of a queue, and says consistently that it was never there."""
    right = Checkpoints.write

    async def wrong(self: Checkpoints, snapshot: Any, tails: list[Any], *more: Any) -> None:
        for at, tail in enumerate(tails):
            if len(tail.data) > ENTRY_BYTES:
                tails[at] = tail._replace(data=tail.data[:-ENTRY_BYTES])
                row = list(snapshot.queues[at])
                row[-1] -= 1
                snapshot.queues[at] = tuple(row)
                break
        await right(self, snapshot, tails, *more)

    with patch.object(Checkpoints, "write", wrong):
        yield


@contextmanager
def batch_in_pieces() -> Iterator[None]:
    """The messages of one request are put one by one, so that a crash may leave some of them."""

    def wrong(self: MessageStore, topic: Any, messages: list[Any], store_host: Any, done: Any, *more: Any) -> list[Any]:
        last = len(messages) - 1
        return [
            self.put(topic, message, rest[0], store_host, done if at == last else None, *rest[1:], *more)
            for at, (message, *rest) in enumerate(messages)
        ]

    with patch.object(MessageStore, "put_many", wrong):
        yield


@contextmanager
def good_tail_is_cut() -> Iterator[None]:
    """Recovery takes the last byte of the last file for another one, and so a good batch for a torn one."""
    right_recover, right_read = LocalLog.recover, SimFile.read_wait

    def recover(self: LocalLog, *arguments: Any) -> Any:
        with patch.object(SimFile, "read_wait", read_wait):
            return right_recover(self, *arguments)

    def read_wait(self: SimFile, offset: int, size: int) -> bytes:
        found = right_read(self, offset, size)
        is_end = found[:4] == b"PHB1" and offset + len(found) == self.size_bytes()
        return found[:-1] + bytes((found[-1] ^ 1,)) if is_end else found

    with patch.object(LocalLog, "recover", recover):
        yield


@contextmanager
def failed_sync_is_tried_again() -> Iterator[None]:
    """A sync that failed is tried once more, and the second time it goes well."""
    right = SimFile.commit

    def wrong(self: SimFile, offset: int, buffers: Any, sync: bool, done: Any) -> None:
        def again(error: OSError | None) -> None:
            if error is None or not sync:
                done(error)
            else:
                right(self, 0, (), True, done)

        right(self, offset, buffers, sync, again)

    with patch.object(SimFile, "commit", wrong):
        yield


@contextmanager
def offsets_are_not_written() -> Iterator[None]:
    """What groups have committed is answered and never brought to the log."""
    with patch.object(GroupOffsets, "take_changes", lambda self: None):
        yield


@contextmanager
def queue_lock_forgotten() -> Iterator[None]:
    """The broker gives the lock of a queue to whoever asks."""
    with patch.object(Locks, "lock", lambda self, group, client_id, queues: list(queues)):
        yield


@contextmanager
def retry_is_dropped() -> Iterator[None]:
    """A message that a consumer gives back is answered as taken, and is not stored."""
    with patch.object(Retries, "_retry", lambda self, group, again, level, done: done(None, None)):
        yield


@contextmanager
def attempts_are_not_counted() -> Iterator[None]:
    """A message that is tried again says that it never was."""
    right = SendService.forward_later

    def wrong(self: SendService, message: Any, *more: Any, **named: Any) -> Any:
        return right(self, message._replace(reconsume_times=0), *more, **named)

    with patch.object(SendService, "forward_later", wrong):
        yield


@contextmanager
def timer_fires_twice() -> Iterator[None]:
    """A delayed message that is delivered is not taken off the list of what waits."""
    with patch.object(Timers, "_remove", lambda self, due_ms, log_offset: self._taken.pop(log_offset, None)):
        yield


@contextmanager
def pops_are_forgotten() -> Iterator[None]:
    """A start does not read who has popped what."""
    right = LocalLog.recover

    def wrong(self: LocalLog, *arguments: Any) -> Any:
        with patch.object(View, "put", lambda self, queue, offset, popped: None):
            return right(self, *arguments)

    with patch.object(LocalLog, "recover", wrong):
        yield


@contextmanager
def popped_comes_too_early() -> Iterator[None]:
    """Half of the time that was asked for is taken for the whole."""
    with patch.object(Popped, "due_ms", property(lambda self: self.at_ms + self.invisible_ms // 2)):
        yield


BUGS: Final[dict[str, Callable[[], AbstractContextManager[None]]]] = {
    each.__name__: each
    for each in (
        answer_before_sync,
        sync_answers_latecomers,
        replay_skips_a_record,
        fold_applied_twice,
        lock_forgotten,
        queue_lock_forgotten,
        retry_is_dropped,
        attempts_are_not_counted,
        timer_fires_twice,
        pops_are_forgotten,
        popped_comes_too_early,
        offset_passes_what_is_not_handled,
        checkpoint_loses_an_entry,
        batch_in_pieces,
        good_tail_is_cut,
        failed_sync_is_tried_again,
        offsets_are_not_written,
    )
}
