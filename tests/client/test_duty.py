from __future__ import annotations

import asyncio
import logging

import pytest

from posthouse.client.duty import begin_duty

pytestmark = pytest.mark.asyncio


async def broken() -> None:
    raise RuntimeError("a bug")


async def test_a_duty_that_breaks_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    duty = begin_duty(broken(), "the heartbeat")
    await asyncio.wait((duty,))
    await asyncio.sleep(0)
    (line,) = caplog.records
    assert (line.levelno, line.getMessage()) == (
        logging.ERROR,
        "the heartbeat ended with an error, which is a mistake of ours",
    )
    assert line.exc_info is not None


async def test_a_duty_that_is_cancelled_is_not(caplog: pytest.LogCaptureFixture) -> None:
    duty = begin_duty(asyncio.sleep(60), "the heartbeat")
    await asyncio.sleep(0)
    duty.cancel()
    await asyncio.wait((duty,))
    await asyncio.sleep(0)
    assert not caplog.records
