from __future__ import annotations

import asyncio

import pytest

from posthouse.testing.sim.loop import NotSimulated, SimLoop, WaitsForEver, run_simulated


def test_waiting_costs_nothing_and_moves_the_clock() -> None:
    async def sleep_a_year() -> float:
        await asyncio.sleep(365 * 86400)
        return asyncio.get_running_loop().time()

    assert run_simulated(sleep_a_year()) == 365 * 86400


def test_timers_come_in_the_order_of_their_times_and_of_one_time_in_the_order_they_were_set() -> None:
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(2.0, seen.append, "late")
        for name in ("first", "second", "third", "fourth", "fifth"):
            loop.call_at(1.0, seen.append, name)
        await asyncio.sleep(3.0)

    run_simulated(main())
    assert seen == ["first", "second", "third", "fourth", "fifth", "late"]


def test_a_world_that_waits_for_ever_says_what_waits() -> None:
    async def forgotten() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        await asyncio.create_task(forgotten(), name="the forgotten one")

    with pytest.raises(WaitsForEver, match="the forgotten one at forgotten line"):
        run_simulated(main())


def test_a_cancelled_timer_does_not_move_the_clock() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        for _ in range(1000):
            loop.call_later(50.0, print).cancel()
        await asyncio.sleep(1.0)
        return loop.time()

    assert run_simulated(main()) == 1.0


def test_threads_sockets_and_signals_are_refused() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(NotSimulated, match="thread"):
            loop.run_in_executor(None, print)
        with pytest.raises(NotSimulated, match=r"host\.net"):
            await loop.create_connection(asyncio.Protocol, "127.0.0.1", 80)
        with pytest.raises(NotSimulated, match=r"host\.net"):
            await loop.create_server(asyncio.Protocol, "127.0.0.1", 80)

    run_simulated(main())


def test_an_error_in_a_callback_ends_the_run_when_nobody_listens() -> None:
    def fail() -> None:
        raise ValueError("planted")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(1.0)

    with pytest.raises(ValueError, match="planted"):
        run_simulated(main())


def test_an_error_in_a_callback_is_told_to_who_listens_and_the_world_goes_on() -> None:
    heard: list[tuple[str, str]] = []

    def fail() -> None:
        raise ValueError("planted")

    async def main() -> str:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(1.0)
        return "went on"

    loop = SimLoop()
    loop.on_error = lambda who, error: heard.append((who, str(error)))
    assert loop.run_until_complete(main()) == "went on"
    loop.close()
    assert heard == [("", "planted")]


def test_what_is_left_at_the_end_is_closed_even_if_it_waits_once_more(capsys: pytest.CaptureFixture[str]) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            try:
                await asyncio.sleep(1.0)
            finally:
                await asyncio.sleep(1.0)

    async def main() -> None:
        asyncio.get_running_loop().create_task(stubborn())
        await asyncio.sleep(1.0)

    loop = SimLoop()
    loop.run_until_complete(main())
    loop.close()
    assert asyncio.all_tasks(loop) == set() or all(task.get_coro().cr_frame is None for task in asyncio.all_tasks(loop))  # type: ignore[union-attr]
    assert capsys.readouterr().err == ""
    assert loop.never_retrieved == []


def test_time_outs_of_asyncio_work_on_the_virtual_clock() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600.0):
                await asyncio.get_running_loop().create_future()
        return asyncio.get_running_loop().time()

    assert run_simulated(main()) == 3600.0
