"""A duty is a task that runs as long as its client. It has no reason to end, so an end is reported, not swallowed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

log = logging.getLogger(__name__)


def begin_duty(work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
    """Begins it; whoever owns it cancels it."""
    duty = asyncio.create_task(work, name=name)
    duty.add_done_callback(_report)
    return duty


def _report(duty: asyncio.Task[None]) -> None:
    if not duty.cancelled() and (error := duty.exception()) is not None:
        log.error("%s ended with an error, which is a mistake of ours", duty.get_name(), exc_info=error)
