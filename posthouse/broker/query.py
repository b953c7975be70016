"""Finding single messages: by a key, by their unique key, by their place in the log.

The key index names candidates; each one's record is read and compared, so that what is found has the key, is in the
topic as it is now (not in one of that name that was deleted) and was stored in the time asked for. A place that a
client names may be anywhere: what is there must be a record that its queue knows, not bytes that look like one.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from posthouse.broker.topics import Topics
from posthouse.codec.record import (
    MAGIC_V1,
    MAGIC_V2,
    RECORD_BYTES_MIN,
    RecordError,
    RecordSummary,
    peek_magic,
    peek_size,
    record_summary,
)
from posthouse.host.clock import EpochMs
from posthouse.model.limits import (
    MESSAGE_BYTES_MAX,
    PROPERTIES_BYTES_MAX,
    QUERY_BYTES_MAX,
    QUERY_MESSAGES_MAX,
    UNIQUE_QUERY_MESSAGES,
)
from posthouse.model.offsets import LogOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.store.key_index import key_hash
from posthouse.store.message_store import MessageStore

log = logging.getLogger(__name__)

_PEEK_BYTES = 8
_RECORD_BYTES_MAX = MESSAGE_BYTES_MAX + PROPERTIES_BYTES_MAX + 1024
"""What a record that begins at a place that a client made up may make us read."""


class FoundByKey(NamedTuple):
    """Records as they are in the log, newest first; and how far the index was, in log and time."""

    records: list[bytes]
    indexed_at_ms: EpochMs
    indexed_offset: LogOffset


class _Wanted(NamedTuple):
    topic: str
    key: str
    unique: bool
    begin_ms: int
    end_ms: int

    def is_met_by(self, found: RecordSummary) -> bool:
        if found.topic != self.topic or not self.begin_ms <= found.stored_at_ms <= self.end_ms:
            return False
        return self.key == found.unique_id or (not self.unique and self.key in (found.keys or "").split(" "))


class QueryService:
    def __init__(self, store: MessageStore, topics: Topics) -> None:
        self._store = store
        self._topics = topics

    async def by_key(
        self, topic: str, key: str, count_max: int, begin_ms: int, end_ms: int, *, unique: bool = False
    ) -> FoundByKey:
        """Messages of the topic with that key, newest first, stored between the two times, both included.

        With `unique` the key is the message's unique key, else that or one of its KEYS. At most QUERY_MESSAGES_MAX and
        QUERY_BYTES_MAX. Raises Refused: NOT_FOUND, FAILED when something cannot be read.
        """
        count_max = UNIQUE_QUERY_MESSAGES if unique else max(0, min(count_max, QUERY_MESSAGES_MAX))
        keys = self._store.keys
        indexed = keys.applied_at_ms, keys.applied_offset
        wanted = _Wanted(topic, key, unique, begin_ms, end_ms)
        records: list[bytes] = []
        size = 0
        try:
            async with aclosing(self._matches(wanted)) as matches:
                while len(records) < count_max and (record := await anext(matches, None)) is not None:
                    size += len(record)
                    if records and size > QUERY_BYTES_MAX:
                        break
                    records.append(record)
        except OSError as error:
            raise Refused(Reason.FAILED, f"looking for a key failed: {error}") from error
        if not records:
            raise Refused(Reason.NOT_FOUND, f"topic {topic[:255]!r} has no message with key {key[:255]!r} of that time")
        return FoundByKey(records, *indexed)

    async def _matches(self, wanted: _Wanted) -> AsyncGenerator[bytes, None]:
        """Records, newest first. Raises OSError, Refused."""
        topic = self._topics.find(wanted.topic)
        if topic is None or not wanted.key:
            return
        first_offset = max(LogOffset(topic.id), self._store.log.first_offset)
        hashed = key_hash(wanted.topic, wanted.key)
        places = self._store.keys.find(hashed, first_offset, wanted.begin_ms, wanted.end_ms)
        async with aclosing(places):
            async for log_offset in places:
                record = await self._record(log_offset)
                if self._topics.find(wanted.topic) is not topic:
                    return  # deleted meanwhile
                if record is None:
                    log.error("the key index names log offset %d, where no record can be read", log_offset)
                elif wanted.is_met_by(record[1]) and self._is_kept(record[1]):
                    yield record[0]

    async def by_log_offset(self, log_offset: LogOffset) -> bytes:
        """The record that begins at that log offset. Raises Refused(FAILED) when there is none, or it is gone."""
        try:
            record = await self._record(log_offset)
            is_there = record is not None and await self._is_visible(*record)
        except OSError as error:
            raise Refused(Reason.FAILED, f"reading the log at {log_offset} failed: {error}") from error
        if record is None or not is_there:
            raise Refused(Reason.FAILED, f"no message begins at log offset {log_offset}")
        return record[0]

    async def _record(self, log_offset: LogOffset) -> tuple[bytes, RecordSummary] | None:
        """The record that begins there, and says so; None if there is none. Raises OSError, Refused(FAILED)."""
        store = self._store
        if not store.log.first_offset <= log_offset <= store.log.committed_offset - RECORD_BYTES_MIN:
            return None
        if not store.log.same_segment(log_offset, LogOffset(log_offset + _PEEK_BYTES - 1)):
            return None
        head = await store.reader.read_record(log_offset, _PEEK_BYTES)
        if len(head) < _PEEK_BYTES or peek_magic(head) not in (MAGIC_V1, MAGIC_V2):
            return None
        size = peek_size(head)
        end = LogOffset(log_offset + size)
        if not RECORD_BYTES_MIN <= size <= _RECORD_BYTES_MAX or end > store.log.committed_offset:
            return None
        if not store.log.same_segment(log_offset, LogOffset(end - 1)):
            return None
        data = await store.reader.read_record(log_offset, size)
        try:
            summary = record_summary(data)
        except RecordError:
            return None
        return (data, summary) if summary.log_offset == log_offset and summary.size == len(data) else None

    def _is_kept(self, summary: RecordSummary) -> bool:
        """Whether a consumer could read it: the topic's own retention may be shorter than the log's."""
        topic = self._topics.find(summary.topic)
        queue = None if topic is None else topic.queues.get(summary.queue_id)
        return queue is not None and queue.min_offset <= summary.queue_offset < queue.max_offset

    async def _is_visible(self, record: bytes, summary: RecordSummary) -> bool:
        """Whether its queue has this very record, log offset and all."""
        if not self._is_kept(summary):
            return False
        queue = self._topics.require(summary.topic).queues[summary.queue_id]
        while (found := self._store.get(queue, summary.queue_offset, 1, 0)) is None:
            await self._store.warm(queue, summary.queue_offset, 1, 0)
        return [bytes(buffer) for buffer in found.buffers] == [record]
