"""A disk that takes no more: nothing is acknowledged from then on, the process ends, and the next start has it all."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from posthouse.host.net import Address
from posthouse.link.errors import LinkError
from tests.behaviour.conftest import free_port
from tests.endpoint.clients import C, R, client, send_ext

pytestmark = pytest.mark.asyncio

FILE_BYTES_MAX = 1_000_000
BODY = bytes(20_000)


def serve(data: Path, port: int, file_bytes_max: int | None) -> subprocess.Popen[str]:
    """A house whose files cannot grow beyond a size, as on a disk with a quota."""

    def limit() -> None:
        if file_bytes_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

    command = [sys.executable, "-m", "posthouse", "serve", "--data", str(data), "--broker-port", str(port)]
    command += ["--nameserver-port", str(free_port())]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=limit)


async def listening(port: int) -> Address:
    address = Address("127.0.0.1", port)
    for _ in range(500):
        try:
            async with client(address):
                return address
        except OSError:
            await asyncio.sleep(0.02)
    raise AssertionError("the server is not there after ten seconds")


async def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and all that it said."""
    said, _ = await asyncio.wait_for(asyncio.to_thread(process.communicate), 20)
    return process.returncode, said


async def test_full_disk_acknowledges_nothing_more_and_the_next_start_has_all_that_was(tmp_path: Path) -> None:
    port = free_port()
    process = serve(tmp_path / "data", port, FILE_BYTES_MAX)
    acknowledged: list[int] = []
    try:
        async with client(await listening(port)) as producer:
            codes: list[int] = []
            for number in range(2 * FILE_BYTES_MAX // len(BODY)):
                try:
                    answer = await producer.ask(C.SEND_MESSAGE_V2, send_ext("T"), b"%d " % number + BODY)
                except LinkError:
                    break  # the process has ended
                codes.append(answer.code)
                if answer.code == R.SUCCESS:
                    acknowledged.append(number)
        code, said = await end(process)
    finally:
        process.kill()
    assert 10 < len(acknowledged) < FILE_BYTES_MAX // len(BODY)
    assert codes[: len(acknowledged)] == [R.SUCCESS] * len(acknowledged), "an acknowledgement after a failure"
    assert set(codes[len(acknowledged) :]) <= {R.SERVICE_NOT_AVAILABLE}
    assert code != 0
    assert "takes no more writes" in said
    assert "Traceback" not in said

    process = serve(tmp_path / "data", port, None)
    try:
        async with client(await listening(port)) as both:
            offset, stored = 0, []
            while found := await both.messages("T", offset):
                stored += [int(each.body.split()[0]) for each in found]
                offset += len(found)
            assert stored[: len(acknowledged)] == acknowledged
            await both.send("T", b"on we go")
        process.send_signal(signal.SIGTERM)
        code, _ = await end(process)
        assert code == 0
    finally:
        process.kill()
