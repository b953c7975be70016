"""How long a broker takes to be back with a large log: after a clean stop, and after kill -9.

    python -m bench.restart                       10 GiB of messages with 1 KiB bodies, five starts of each kind
    python -m bench.restart --gigabytes 1 --starts 3

The log is filled through the store itself, without waiting for syncs: only the starts are measured, from the fork of
the process to the first answer to a client. Before each kill some megabytes are sent, so that there is something to
replay. `--cold` drops the page cache before each start, which needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from bench import machine
from bench.servers import CHECKOUT, PosthouseServer, start_clocked
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.model.message import Endpoint, NewMessage
from posthouse.model.properties import encode_properties
from posthouse.model.topic import TopicConfig
from posthouse.store.message_store import MessageStore
from posthouse.store.state_record import Kind
from posthouse.store.topic_table import TopicTable

GIB: Final = 1 << 30
TOPICS: Final = 10
QUEUES: Final = 8
HERE: Final = Endpoint(bytes((127, 0, 0, 1)), 10911)
WAITING_BYTES_MAX: Final = 32 << 20
REPLAYED_BYTES: Final = 24 << 20
"""Sent before each kill: most of what may lie between two checkpoints."""


async def fill(folder: Path, size: int, body_bytes: int) -> int:
    """Appends messages until the log has `size` bytes more; how many."""
    store = MessageStore(Host.real(str(folder)))
    store.open()
    store.start()
    topics = []
    for number in range(TOPICS):
        name = f"topic-{number}"
        if name not in store.topics.live:
            store.record(Kind.TOPIC_SET, TopicTable.set_body(TopicConfig(name, QUEUES, QUEUES)), lambda error: None)
        topics.append(store.topics.live[name])
    body, sent, goal = os.urandom(body_bytes), 0, store.log.end_offset + size
    while store.log.end_offset < goal:
        for _ in range(200):
            topic = topics[sent % TOPICS]
            properties = encode_properties({"UNIQ_KEY": f"{sent:032X}", "KEYS": f"order-{sent}"})
            message = NewMessage(
                topic.config.name, sent // TOPICS % QUEUES, body, properties, 0, 0, EpochMs(sent), HERE
            )
            store.put(topic, message, 0, HERE, None, sync=False)
            sent += 1
        while store.log.waiting_bytes > WAITING_BYTES_MAX:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
    await store.close()
    return sent


def start_once(data: Path, cold: bool) -> tuple[float, PosthouseServer]:
    if cold:
        subprocess.run(["sync"], check=True)
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    server = PosthouseServer()
    return start_clocked(server, data).broker_s, server


def measure(data: Path, starts: int, body_bytes: int, cold: bool) -> dict[str, list[float]]:
    """Seconds from fork to first answer, by how the process before had ended."""
    found: dict[str, list[float]] = {"clean stop": [], "kill -9": []}
    for _ in range(starts):
        seconds, server = start_once(data, cold)
        found["clean stop"].append(seconds)
        load(server, body_bytes)
        os.kill(server.broker_pid, signal.SIGKILL)
        server.stop()
        seconds, server = start_once(data, cold)
        found["kill -9"].append(seconds)
        server.stop()
    return found


def load(server: PosthouseServer, body_bytes: int) -> None:
    messages = REPLAYED_BYTES // (body_bytes + 300)
    command = [sys.executable, "-m", "bench.load", "send", "--address", server.broker_address, "--topic", "topic-0"]
    command += ["--messages", str(messages), "--body-bytes", str(body_bytes), "--connections", "4", "--window", "64"]
    subprocess.run(command, check=True, capture_output=True, cwd=CHECKOUT, timeout=600)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.restart", description="Starts over a large log.")
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--body-bytes", type=int, default=1024)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="drop the page cache before each start (root)")
    parser.add_argument("--dir", type=Path, help="folder on a real disk (default: the temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="restart-", dir=options.dir) as folder:
        on = machine.describe(Path(folder))
        begin = time.monotonic()
        sent = asyncio.run(fill(Path(folder) / "store", int(options.gigabytes * GIB), options.body_bytes))
        print(f"filled with {sent:,} messages in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
        found = measure(Path(folder), options.starts, options.body_bytes, options.cold)
    print(
        f"{on.date}, commit {on.commit}; {on.cores} cores of {on.cpu}; {on.filesystem}, fdatasync {on.fdatasync_ms} ms"
    )
    cache = "page cache dropped" if options.cold else "page cache as it is"
    print(
        f"{options.gigabytes:g} GiB, {sent:,} messages of {options.body_bytes:,} bytes, {cache}; "
        f"fork to first answer, s"
    )
    for kind, seconds in found.items():
        print(f"| after {kind} | {median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} |")


if __name__ == "__main__":
    main()
