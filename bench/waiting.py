"""What it costs to have many consumers that wait, and how long a message takes to wake one of them.

    python -m bench.waiting                          # Posthouse: 1,000 consumers, some three minutes
    python -m bench.waiting --servers posthouse apache
    python -m bench.waiting --whole                  # everything that an idle Java push consumer sends, not only pulls
    python -m bench.waiting --smoke                  # a few seconds; the figures mean nothing

Every consumer has a connection of its own, is a member of a group (20 members each), sends a heartbeat every 30 s, and
holds one pull on one queue that is all its own: sysFlag 3, 15 s, the subscription in the heartbeat, as Java's push
consumer does. With `--whole` it also does what else that client does in the background: the list of members every
20 s and its offset every 5 s.

First nobody sends anything: CPU time of the broker's process per second, with and without the consumers. Then one
producer sends one message at a time, each to the queue of another consumer: the time from the answer to the send until
the message is at the consumer is what the wake-up adds (below 0: it was there before the answer); the whole way, from
the send, is printed beside it. The same with a tag and with a SQL92 expression as the filter, every other message not
wanted; Apache serves SQL92 only with a setting that it does not ship, so that is left out there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final, cast

import msgspec
import uvloop

from bench import frames, machine, usage
from bench.frames import Answer, FrameReader, WrongAnswer
from bench.load import percentile
from bench.servers import ApacheServer, PosthouseServer, Server, ServerFailed, start_clocked

TOPIC: Final = "bench-waiting"
MEMBERS_PER_GROUP: Final = 20
SUSPEND_S: Final = 15.0
HEARTBEAT_S: Final = 30.0
MEMBERS_S: Final = 20.0
PERSIST_S: Final = 5.0
CALL_TIMEOUT_S: Final = 20.0
WAKE_TIMEOUT_S: Final = 10.0

_UPDATE_OFFSET: Final = 15
_MEMBERS: Final = 38
_COMMIT_AND_SUSPEND: Final = 3
_PULL_ID: Final = 2
_FILTERS: Final = {"everything": ("*", "TAG"), "a tag": ("TagA", "TAG"), "SQL92": ("price > 100", "SQL92")}
_WANTED: Final = {"TAGS": "TagA", "price": "500"}
_NOT_WANTED: Final = {"TAGS": "TagB", "price": "5"}


@dataclass
class Figures:
    """CPU in hundredths of a core; times in ms."""

    server: str
    idle_percent: float = 0.0
    waiting_percent: float = 0.0
    requests_per_s: float = 0.0
    added_ms: dict[str, list[float]] = field(default_factory=dict)
    whole_ms: dict[str, list[float]] = field(default_factory=dict)


class Wire(asyncio.Protocol):
    """One connection: calls that wait for their answer, and answers that nobody waits for."""

    def __init__(self) -> None:
        self.reader = FrameReader()
        self.calls: dict[int, asyncio.Future[Answer]] = {}
        self.transport: asyncio.Transport | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True

    def data_received(self, data: bytes) -> None:
        for header, body in self.reader.frames(data):
            answer = msgspec.json.decode(header, type=Answer)
            if not answer.flag & 1:
                continue  # a request of the broker's own: the group's members changed
            call = self.calls.pop(answer.opaque, None)
            if call is not None and not call.done():
                call.set_result(answer)
            else:
                self.answered(answer, body)

    def answered(self, answer: Answer, body: memoryview) -> None: ...

    def write(self, frame: bytes) -> None:
        if self.lost or self.transport is None:
            raise WrongAnswer("the server closed a connection")
        self.transport.write(frame)

    async def call(self, request_id: int, frame: bytes) -> Answer:
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.calls[request_id] = waiting
        self.write(frame)
        answer = await asyncio.wait_for(waiting, CALL_TIMEOUT_S)
        if answer.code != frames.SUCCESS:
            raise WrongAnswer(f"code {answer.code}: {answer.remark}")
        return answer


class Consumer(Wire):
    """Waits on its queue for ever. `requests` counts what it sends."""

    def __init__(self, number: int, whole: bool) -> None:
        super().__init__()
        self.number = number
        self.group = f"bench_group_{number // MEMBERS_PER_GROUP}"
        self.whole = whole
        self.next_offset = 0
        self.requests = 0
        self.got: asyncio.Future[float] | None = None
        self.version = 1
        self.subscription = _FILTERS["everything"]
        self._id = 10
        self._beat: asyncio.Task[None] | None = None
        self.failure: str = ""

    def answered(self, answer: Answer, body: memoryview) -> None:
        if answer.opaque != _PULL_ID:
            return
        fields = answer.ext_fields or {}
        if answer.code not in (frames.SUCCESS, frames.PULL_NOT_FOUND, frames.PULL_RETRY_IMMEDIATELY):
            self.failure = f"pull of queue {self.number}: code {answer.code}, {answer.remark}"
            return
        self.next_offset = int(fields["nextBeginOffset"])
        if answer.code == frames.SUCCESS and self.got is not None and not self.got.done():
            self.got.set_result(time.perf_counter())
        self.pull()

    def pull(self) -> None:
        self.requests += 1
        self.write(
            frames.request(
                frames.PULL_MESSAGE,
                _PULL_ID,
                {
                    "consumerGroup": self.group,
                    "topic": TOPIC,
                    "queueId": str(self.number),
                    "queueOffset": str(self.next_offset),
                    "maxMsgNums": "32",
                    "sysFlag": str(_COMMIT_AND_SUSPEND),
                    "commitOffset": str(self.next_offset),
                    "suspendTimeoutMillis": str(int(SUSPEND_S * 1000)),
                    "subVersion": str(self.version),
                    "expressionType": self.subscription[1],
                },
            )
        )

    async def heartbeat(self) -> None:
        expression, kind = self.subscription
        tags = [expression] if kind == "TAG" and expression != "*" else []
        subscription = {
            "topic": TOPIC,
            "subString": expression,
            "tagsSet": tags,
            "codeSet": [_java_hash(tag) for tag in tags],
            "subVersion": self.version,
            "classFilterMode": False,
            "expressionType": kind,
        }
        consumer = {
            "groupName": self.group,
            "consumeType": "CONSUME_PASSIVELY",
            "messageModel": "CLUSTERING",
            "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET",
            "subscriptionDataSet": [subscription],
            "unitMode": False,
        }
        body = {"clientID": f"127.0.0.1@{self.number}", "consumerDataSet": [consumer], "producerDataSet": []}
        self._id += 1
        self.requests += 1
        await self.call(self._id, frames.request(frames.HEART_BEAT, self._id, {}, json.dumps(body).encode()))

    def keep_on(self) -> None:
        """The background work, each kind at a moment of its own."""
        self._every(HEARTBEAT_S, self._begin_beat)
        if self.whole:
            self._every(MEMBERS_S, lambda: self._say(_MEMBERS, {"consumerGroup": self.group}))
            self._every(PERSIST_S, self._persist)

    def _begin_beat(self) -> None:
        self._beat = asyncio.ensure_future(self.heartbeat())

    def stop(self) -> None:
        self.lost = True
        if self._beat is not None:
            self._beat.cancel()
        if self.transport is not None:
            self.transport.abort()

    def _persist(self) -> None:
        fields = {"consumerGroup": self.group, "topic": TOPIC, "queueId": str(self.number)}
        self._say(_UPDATE_OFFSET, fields | {"commitOffset": str(self.next_offset)})

    def _say(self, code: int, fields: dict[str, str]) -> None:
        self._id += 1
        self.requests += 1
        self.write(frames.request(code, self._id, fields))

    def _every(self, seconds: float, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            if not self.lost:
                work()
                loop.call_later(seconds, again)

        loop.call_later(random.uniform(0, seconds), again)


def _java_hash(text: str) -> int:
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return int(struct.unpack(">i", struct.pack(">I", value))[0])


class Scene:
    """One server with its consumers."""

    def __init__(self, server: Server, consumers: int, seconds: float, wakes: int, whole: bool) -> None:
        self.server = server
        self.count = consumers
        self.seconds = seconds
        self.wakes = wakes
        self.whole = whole
        self.figures = Figures(server.name)
        self.consumers: list[Consumer] = []

    async def play(self) -> Figures:
        """Raises: WrongAnswer."""
        producer = Wire()
        await self._connect(producer)
        await producer.call(1, frames.create_topic(1, TOPIC, self.count))
        self.figures.idle_percent = await self._cpu_percent(min(self.seconds, 10.0))
        await self._begin()
        before = sum(each.requests for each in self.consumers)
        self.figures.waiting_percent = await self._cpu_percent(self.seconds)
        self.figures.requests_per_s = (sum(each.requests for each in self.consumers) - before) / self.seconds
        self._check()
        for name, subscription in _FILTERS.items():
            if subscription[1] == "TAG" or self.server.name != "apache":
                await self._wake_some(producer, name)
        for consumer in self.consumers:
            consumer.stop()
        return self.figures

    async def _connect(self, wire: Wire) -> None:
        host, _, port = self.server.broker_address.rpartition(":")
        await asyncio.get_running_loop().create_connection(lambda: wire, host, int(port))

    async def _begin(self) -> None:
        """All consumers, their pulls spread over the time for which one is held."""
        loop = asyncio.get_running_loop()
        for number in range(self.count):
            consumer = Consumer(number, self.whole)
            self.consumers.append(consumer)
            await self._connect(consumer)
            await consumer.heartbeat()
            consumer.keep_on()
            loop.call_later(random.uniform(0, min(self.seconds, SUSPEND_S)), consumer.pull)
        await asyncio.sleep(min(self.seconds, SUSPEND_S) + 1)

    async def _cpu_percent(self, seconds: float) -> float:
        pids = [self.server.broker_pid]
        before, began = usage.cpu_s(pids), time.monotonic()
        await asyncio.sleep(seconds)
        return (usage.cpu_s(pids) - before) / (time.monotonic() - began) * 100

    def _check(self) -> None:
        for consumer in self.consumers:
            if consumer.failure or consumer.lost:
                raise WrongAnswer(consumer.failure or f"consumer {consumer.number} was cut off")

    async def _wake_some(self, producer: Wire, name: str) -> None:
        """One message at a time, to one consumer after the other; the first ends the pull with the filter before."""
        chosen = random.sample(self.consumers, min(50, self.count))
        groups = {each.group for each in chosen}
        for consumer in [each for each in self.consumers if each.group in groups]:
            consumer.subscription, consumer.version = _FILTERS[name], consumer.version + 1
            await consumer.heartbeat()
        added, whole = self.figures.added_ms.setdefault(name, []), self.figures.whole_ms.setdefault(name, [])
        for index in range(-len(chosen), self.wakes):
            consumer = chosen[index % len(chosen)]
            if index >= 0 and index % 2 and name != "everything":
                await producer.call(3, _send(consumer.number, _NOT_WANTED))
            consumer.got = asyncio.get_running_loop().create_future()
            sent_at = time.perf_counter()
            await producer.call(3, _send(consumer.number, _WANTED))
            answered_at = time.perf_counter()
            got_at = await asyncio.wait_for(consumer.got, WAKE_TIMEOUT_S)
            if index >= 0:
                added.append((got_at - answered_at) * 1000)
                whole.append((got_at - sent_at) * 1000)
            await asyncio.sleep(0.005)
        self._check()


def _send(queue_id: int, properties: dict[str, str]) -> bytes:
    text = "".join(f"{name}\x01{value}\x02" for name, value in properties.items())
    fields = {
        "a": "bench_producer",
        "b": TOPIC,
        "c": "TBW102",
        "d": "4",
        "e": str(queue_id),
        "f": "0",
        "g": str(time.time_ns() // 1_000_000),
        "h": "0",
        "i": f"UNIQ_KEY\x01{random.getrandbits(128):032X}\x02WAIT\x01true\x02{text}",
        "j": "0",
        "k": "false",
        "m": "false",
        "n": "broker-a",
    }
    return frames.request(frames.SEND_MESSAGE_V2, 3, fields, b"x" * 1024)


def report(found: Sequence[Figures], consumers: int) -> str:
    names = [each.server for each in found]
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]

    def row(title: str, cells: list[str]) -> None:
        lines.append(f"| {title} | " + " | ".join(cells) + " |")

    row("broker's CPU, % of a core, nobody connected", [f"{each.idle_percent:.2f}" for each in found])
    row(f"{consumers:,} consumers wait", [f"{each.waiting_percent:.2f}" for each in found])
    row("requests/s of theirs", [f"{each.requests_per_s:.0f}" for each in found])
    for title, times in (("after the send's answer", "added_ms"), ("after the send", "whole_ms")):
        for name in _FILTERS:
            row(
                f"at the consumer {title}, filter: {name}; p50 (p99), ms", [_times(each, times, name) for each in found]
            )
    return "\n".join(lines)


def _times(figures: Figures, times: str, name: str) -> str:
    values = sorted(getattr(figures, times).get(name, ()))
    return f"{median(values):.2f} ({percentile(values, 0.99):.2f})" if values else "-"


def _server(name: str) -> Server:
    return PosthouseServer() if name == "posthouse" else ApacheServer("sync", 512)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.waiting", description="Consumers that wait.")
    parser.add_argument("--servers", nargs="+", choices=("posthouse", "apache"), default=["posthouse"])
    parser.add_argument("--consumers", type=int, default=1000, help="each with a queue and a connection; at most 1,024")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long nobody sends")
    parser.add_argument("--wakes", type=int, default=500, help="messages for each filter")
    parser.add_argument("--whole", action="store_true", help="member lists and offsets too, as Java's push consumer")
    parser.add_argument("--smoke", action="store_true", help="20 consumers, a few seconds")
    parser.add_argument("--dir", type=Path, help="folder on a real disk (default: the temporary folder)")
    options = parser.parse_args()
    if options.smoke:
        options.consumers, options.seconds, options.wakes = 20, 0.5, 10
    found: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="waiting-", dir=options.dir) as folder:
        on = machine.describe(Path(folder))
        for name in options.servers:
            server = _server(name)
            with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=folder) as data:
                try:
                    start_clocked(server, Path(data))
                    scene = Scene(server, options.consumers, options.seconds, options.wakes, options.whole)
                    found.append(uvloop.run(scene.play()))
                except (ServerFailed, WrongAnswer, TimeoutError) as error:
                    sys.exit(f"bench.waiting: {name}: {error or 'no answer in time'}")
                finally:
                    server.stop()
    print(
        f"{on.date}, commit {on.commit}; {on.cores} cores of {on.cpu}; {on.filesystem}, fdatasync {on.fdatasync_ms} ms"
    )
    print(
        f"{options.seconds:g} s; {'pulls, heartbeats, lists, offsets' if options.whole else 'pulls and heartbeats'}\n"
    )
    print(report(found, options.consumers))


if __name__ == "__main__":
    main()
