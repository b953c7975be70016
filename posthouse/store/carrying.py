"""Carries delayed messages forward, before the segment that they are in is deleted.

Each is appended once more, as it is, to the same timer topic; the copy replaces the first (see `timers`). So a delay
may be longer than messages are kept. The segment may go when all copies are on disk, and nothing in it is being
delivered.
A crash on the way leaves some copied and some not, and each of them once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from posthouse.codec.record import RecordError, record_again
from posthouse.model.offsets import LogOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.store.state_record import Kind
from posthouse.store.timers import Timers, Waiting

if TYPE_CHECKING:
    from posthouse.store.message_store import LogError, MessageStore

log = logging.getLogger(__name__)

LOOKED_AT_ONCE = 1000
"""Entries that are looked at in one turn of the loop: about half a millisecond."""
CARRIED_AT_ONCE = 50
"""Messages that are read and appended in one turn."""
WAITING_BYTES_MAX = 4 * 1024 * 1024
"""Copies that wait for the disk; then they are waited for."""
DELIVERIES_TIMEOUT_S = 10.0
_POLL_S = 0.01


async def carry_forward(store: MessageStore, before: LogOffset) -> None:
    """Nothing that waits is below `before` in the end. Raises Refused: then some may be, and are where they were."""
    timers = store.folds.timers
    if timers.is_empty:
        return
    is_over = False
    while not is_over:
        timers.watch_given_back()
        await _carry_below(store, before)
        await _deliveries_below(store, before)
        is_over = timers.given_back >= before  # what could not be delivered meanwhile waits again


async def _carry_below(store: MessageStore, before: LogOffset) -> None:
    carried = 0
    for found in store.folds.timers.take_below(before, LOOKED_AT_ONCE):
        carried += len(found)
        await _carry_all(store, found)
        await asyncio.sleep(0)
    if carried:
        log.info("%d delayed messages are carried forward: their segment is deleted before they are due", carried)
        await store.settled()


async def _deliveries_below(store: MessageStore, before: LogOffset) -> None:
    """Until nothing below is being delivered. Raises Refused(BUSY)."""
    deadline = asyncio.get_running_loop().time() + DELIVERIES_TIMEOUT_S
    while store.folds.timers.is_taken_below(before):
        if asyncio.get_running_loop().time() > deadline:
            raise Refused(Reason.BUSY, f"delayed messages below log offset {before} are being delivered; try again")
        await asyncio.sleep(_POLL_S)


async def _carry_all(store: MessageStore, found: list[Waiting]) -> None:
    left = found[::-1]
    try:
        while left:
            await _carry(store, left[-1])
            left.pop()
            if store.log.waiting_bytes > WAITING_BYTES_MAX:
                await store.settled()
            elif len(left) % CARRIED_AT_ONCE == 0:
                await asyncio.sleep(0)
    finally:
        for waiting in left:
            store.folds.timers.give_back(waiting)


async def _carry(store: MessageStore, waiting: Waiting) -> None:
    data = await store.reader.read_record(waiting.log_offset, waiting.size)
    store.check_writable()
    try:
        message, store_host = record_again(data)[:2]
        topic = store.topics.live[message.topic]
    except (RecordError, KeyError) as error:
        log.error("the delayed message at log offset %d cannot be read and is lost: %r", waiting.log_offset, error)
        store.record(Kind.TIMERS_ENDED, Timers.ended_body((waiting,)), _ignore)
        return
    store.put_linked(topic, message, store_host, None, replaces=waiting.log_offset)


def _ignore(error: LogError | None) -> None:
    """What failed is told to the store itself."""
