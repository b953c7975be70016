"""The life of a server process: its loop, its signals, its end."""

from __future__ import annotations

import asyncio
import builtins
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.cli.failure import Failure
from posthouse.cli.run import choose_loop, stop_on_signals
from tests.cli.server import STOP_TIMEOUT_S, free_ports, running


@pytest.fixture
def signals_put_back() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture
def without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: Any, **more: Any) -> Any:
        if name == "uvloop":
            raise ImportError(name)
        return real_import(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.usefixtures("without_uvloop")
def test_without_uvloop_auto_is_asyncio_and_asking_for_it_is_a_failure() -> None:
    assert choose_loop("auto") == (asyncio.new_event_loop, "asyncio")
    with pytest.raises(Failure, match="uvloop is not installed"):
        choose_loop("uvloop")


def test_with_uvloop_auto_takes_it_and_asyncio_may_be_asked_for() -> None:
    uvloop = pytest.importorskip("uvloop")
    assert choose_loop("auto") == choose_loop("uvloop") == (uvloop.new_event_loop, "uvloop")
    assert choose_loop("asyncio") == (asyncio.new_event_loop, "asyncio")


@pytest.mark.usefixtures("signals_put_back")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_first_signal_is_a_wish_and_the_second_has_its_own_effect(number: signal.Signals, loop: str) -> None:
    async def wait() -> None:
        stop = stop_on_signals(asyncio.get_running_loop())
        asyncio.get_running_loop().call_later(0.01, signal.raise_signal, number)
        await asyncio.wait_for(stop, 5)

    with asyncio.Runner(loop_factory=choose_loop(loop)[0]) as runner:
        runner.run(wait())
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_store_that_fails_ends_the_process_with_one_clear_line(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash to limit the size of files")
    limited = (bash, "-c", 'ulimit -f 256 && exec "$@"', "-")
    with running(tmp_path / "data", *free_ports(), launcher=limited) as server:
        done = server.run("send", "hello", "x" * 4000, "--count", "200", "--timeout", "2")
        assert done.returncode != 0
        _, errors = server.process.communicate(timeout=STOP_TIMEOUT_S)
        assert server.process.returncode == 1
    last = errors.splitlines()[-1]
    assert re.fullmatch(r"Error: .*takes no more writes.*What was acknowledged is on disk\.", last), errors
    acknowledged = len(done.stdout.splitlines())
    with running(tmp_path / "data", *free_ports()) as server:
        kept = server.run("tail", "hello", "--from", "start", "--no-follow", "--json").stdout.splitlines()
        assert len(kept) >= acknowledged
