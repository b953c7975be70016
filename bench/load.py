"""The load generator: a process of its own that speaks raw remoting frames and prints one JSON line of results.

    python -m bench.load send --address 127.0.0.1:10911 --topic T --messages 100000 --connections 64 --window 1
    python -m bench.load pull --address 127.0.0.1:10911 --topic T --messages 100000

`send` keeps `window` requests in flight on each connection: every answer frees a place for the next message. `pull`
behaves like a consumer: one connection, one pull in flight per queue, each following nextBeginOffset.

What must stay true: the run ends only when every message has exactly one answer whose code says "stored" (or has been
pulled exactly once, in order, with the right body size); anything else ends it with a message and exit status 1. The
clock starts when all connections are open and their heartbeats answered.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import msgspec
import uvloop

from bench import frames
from bench.frames import FIRST_REQUEST_ID, Answer, BriefAnswer, FrameReader, WrongAnswer

QUEUE_COUNT: Final = 4
PULL_MESSAGES_MAX: Final = 32
CALL_TIMEOUT_S: Final = 15.0
STALL_TIMEOUT_S: Final = 30.0
EMPTY_PULL_PAUSE_S: Final = 0.02


class LoadResult(msgspec.Struct):
    """What one load did. `codes` counts the answers by response code; latencies are those of one request."""

    messages: int
    seconds: float
    messages_per_s: float
    p50_ms: float
    p99_ms: float
    codes: dict[int, int]
    load_cpu_s: float


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Nearest rank; `ordered` is sorted and not empty."""
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


class _Run:
    """The end of a load, and its progress: what the protocols below report to."""

    def __init__(self) -> None:
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.codes: Counter[int] = Counter()
        self.progress = 0

    def fail(self, error: Exception) -> None:
        if not self.finished.done():
            self.finished.set_exception(error)

    def succeed(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

    async def wait(self, wanted: int) -> None:
        """Raises: WrongAnswer when nothing moves for STALL_TIMEOUT_S."""
        seen = -1
        while True:
            done, _ = await asyncio.wait([self.finished], timeout=STALL_TIMEOUT_S)
            if done:
                return self.finished.result()
            if self.progress == seen:
                raise WrongAnswer(
                    f"no answer for {STALL_TIMEOUT_S:.0f} s after {self.progress:,} of {wanted:,} messages; "
                    "look at the server's log"
                )
            seen = self.progress


class Connection(asyncio.Protocol):
    """One connection. Until a load takes it over it makes single calls, one at a time."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._call: asyncio.Future[tuple[Answer, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are none by inheritance

    def connection_lost(self, error: Exception | None) -> None:
        self.run.fail(WrongAnswer(f"the server closed a connection: {error or 'end of stream'}"))
        if self._call is not None and not self._call.done():
            self._call.set_exception(WrongAnswer("the server closed the connection instead of answering"))

    def data_received(self, data: bytes) -> None:
        try:
            self.frames_received(data)
        except (WrongAnswer, msgspec.MsgspecError) as error:
            self.run.fail(error)

    def frames_received(self, data: bytes) -> None:
        for header, body in self._reader.frames(data):
            answer = msgspec.json.decode(header, type=Answer)
            if self._call is not None and not self._call.done() and answer.flag & 1:
                self._call.set_result((answer, bytes(body)))

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    async def call(self, what: str, frame: bytes) -> Answer:
        """One request, one answer. Raises: WrongAnswer if the code is not 0 or nothing comes in time."""
        self._call = asyncio.get_running_loop().create_future()
        self.write(frame)
        try:
            answer, _ = await asyncio.wait_for(self._call, CALL_TIMEOUT_S)
        except TimeoutError:
            raise WrongAnswer(f"{what}: no answer in {CALL_TIMEOUT_S:.0f} s; is this a broker's port?") from None
        if answer.code != frames.SUCCESS:
            raise WrongAnswer(f"{what}: code {answer.code}, {answer.remark}")
        return answer


class SendRun(_Run):
    """The messages of one `send` load: which have left, when, and which are stored.

    With `repeat_busy` a message that the server refused as too busy is sent once more; without, it ends the run.
    """

    def __init__(self, send_frames: frames.SendFrames, messages: int, repeat_busy: bool) -> None:
        super().__init__()
        self.send_frames = send_frames
        self.messages = messages
        self.repeat_busy = repeat_busy
        self.next_index = 0
        self.refused: list[int] = []
        self.sent_at = array("d", bytes(8 * messages))
        self.latency_s = array("d", bytes(8 * messages))

    def take(self, count: int) -> bytes:
        """The frames of the next `count` messages, or of as many as are left."""
        again, self.refused = self.refused[:count], self.refused[count:]
        first = self.next_index
        self.next_index = end = min(first + count - len(again), self.messages)
        now = time.perf_counter()
        frame, sent_at, indices = self.send_frames.frame, self.sent_at, [*again, *range(first, end)]
        for index in indices:
            sent_at[index] = now
        return b"".join([frame(index) for index in indices])

    def answered(self, answer: BriefAnswer, now: float) -> None:
        index = answer.opaque - FIRST_REQUEST_ID
        if not 0 <= index < self.next_index or not self.sent_at[index]:
            raise WrongAnswer(f"an answer that no request waits for: opaque {answer.opaque}, code {answer.code}")
        if answer.code in frames.STORED_CODES:
            self.latency_s[index] = now - self.sent_at[index]
            self.progress += 1
        elif answer.code == frames.SYSTEM_BUSY and self.repeat_busy:
            self.refused.append(index)
        else:
            raise WrongAnswer(f"message {index:,} of {self.messages:,}: code {answer.code}, {answer.remark}")
        self.sent_at[index] = 0.0  # so that a second answer is noticed
        self.codes[answer.code] += 1


class SendConnection(Connection):
    """Keeps its window full: as many new messages as there were answers in what has just been received."""

    run: SendRun
    _loading = False

    def start(self, window: int) -> None:
        self._loading = True
        self.write(self.run.take(window))

    def frames_received(self, data: bytes) -> None:
        if not self._loading:
            return super().frames_received(data)
        run, decode, now, count = self.run, _decode_brief, time.perf_counter(), 0
        for header, _ in self._reader.frames(data):
            answer = decode(header)
            if answer.flag & 1:  # not a request of the broker's own, such as "consumer ids changed"
                run.answered(answer, now)
                count += 1
        if run.progress == run.messages:
            return run.succeed()
        following = run.take(count)
        if following:
            self.write(following)


_decode_brief = msgspec.json.Decoder(BriefAnswer).decode


@dataclass(slots=True)
class _QueueReading:
    """Where one queue's pulls have come to. `end_offset` is the queue's end as the last answer gave it."""

    next_offset: int = 0
    end_offset: int = 0
    asked_at: float = 0.0


class PullRun(_Run):
    """The messages of one `pull` load."""

    def __init__(self, topic: str, messages: int, body_bytes: int) -> None:
        super().__init__()
        self.topic = topic
        self.messages = messages
        self.body_bytes = body_bytes
        self.queues = [_QueueReading() for _ in range(QUEUE_COUNT)]
        self.latency_s: list[float] = []


class PullConnection(Connection):
    """One pull in flight per queue; the request id is FIRST_REQUEST_ID + queue."""

    run: PullRun
    _loading = False

    def start(self) -> None:
        self._loading = True
        for queue_id in range(QUEUE_COUNT):
            self._pull(queue_id)

    def _pull(self, queue_id: int) -> None:
        run, queue = self.run, self.run.queues[queue_id]
        if run.finished.done():
            return
        queue.asked_at = time.perf_counter()
        request_id = FIRST_REQUEST_ID + queue_id
        self.write(frames.pull(request_id, run.topic, queue_id, queue.next_offset, PULL_MESSAGES_MAX))

    def frames_received(self, data: bytes) -> None:
        if not self._loading:
            return super().frames_received(data)
        for header, body in self._reader.frames(data):
            answer = _decode_answer(header)
            if answer.flag & 1:
                self._pulled(answer, body)

    def _pulled(self, answer: Answer, body: memoryview) -> None:
        run, queue_id = self.run, answer.opaque - FIRST_REQUEST_ID
        if not 0 <= queue_id < QUEUE_COUNT:
            raise WrongAnswer(f"an answer that no pull waits for: opaque {answer.opaque}, code {answer.code}")
        queue = run.queues[queue_id]
        run.codes[answer.code] += 1
        if answer.code == frames.PULL_NOT_FOUND:
            # The server may still be filling its queues, or this queue is at its end and the others are not.
            asyncio.get_running_loop().call_later(EMPTY_PULL_PAUSE_S, self._pull, queue_id)
            return
        if answer.code not in (frames.SUCCESS, frames.PULL_RETRY_IMMEDIATELY) or answer.ext_fields is None:
            raise WrongAnswer(f"pull of queue {queue_id} at {queue.next_offset}: code {answer.code}, {answer.remark}")
        count = frames.check_records(body, queue.next_offset, run.body_bytes)
        next_offset = int(answer.ext_fields["nextBeginOffset"])
        if answer.code == frames.SUCCESS:
            run.latency_s.append(time.perf_counter() - queue.asked_at)
            if next_offset != queue.next_offset + count or not count:
                raise WrongAnswer(f"{count} records from {queue.next_offset}, but nextBeginOffset {next_offset}")
        queue.next_offset, queue.end_offset = next_offset, int(answer.ext_fields["maxOffset"])
        run.progress += count
        if run.progress < run.messages:
            return self._pull(queue_id)
        stored = sum(queue.end_offset for queue in run.queues)
        if run.progress == run.messages == stored:
            return run.succeed()
        raise WrongAnswer(f"{run.progress:,} messages pulled of {stored:,} stored where {run.messages:,} were sent")


_decode_answer = msgspec.json.Decoder(Answer).decode


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _result(run: _Run, messages: int, seconds: float, latency_s: Sequence[float], cpu_s: float) -> LoadResult:
    ordered = sorted(latency_s)
    return LoadResult(
        messages=messages,
        seconds=seconds,
        messages_per_s=messages / seconds,
        p50_ms=percentile(ordered, 0.50) * 1000,
        p99_ms=percentile(ordered, 0.99) * 1000,
        codes=dict(run.codes),
        load_cpu_s=cpu_s,
    )


async def send(
    host: str, port: int, topic: str, messages: int, body_bytes: int, connections: int, window: int, repeat_busy: bool
) -> LoadResult:
    """Creates the topic if it is missing and sends `messages` messages to its queues in turn."""
    run = SendRun(frames.SendFrames(topic, b"x" * body_bytes, QUEUE_COUNT), messages, repeat_busy)
    loop = asyncio.get_running_loop()
    opened = [(await loop.create_connection(lambda: SendConnection(run), host, port))[1] for _ in range(connections)]
    await opened[0].call(f"create topic {topic}", frames.create_topic(1, topic, QUEUE_COUNT))
    for number, connection in enumerate(opened):
        await connection.call("heartbeat", frames.producer_heartbeat(2, f"127.0.0.1@bench{number}"))
    cpu_before_s, started_at = _cpu_s(), time.perf_counter()
    for connection in opened:
        connection.start(window)
    await run.wait(messages)
    seconds, cpu_s = time.perf_counter() - started_at, _cpu_s() - cpu_before_s
    stored = sum(run.codes[code] for code in frames.STORED_CODES)
    if stored != messages:
        raise WrongAnswer(f"{stored:,} of {messages:,} messages were answered as stored")
    return _result(run, messages, seconds, run.latency_s, cpu_s)


async def pull(host: str, port: int, topic: str, messages: int, body_bytes: int) -> LoadResult:
    """Pulls the whole topic, which must hold exactly `messages` messages."""
    run = PullRun(topic, messages, body_bytes)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: PullConnection(run), host, port)
    cpu_before_s, started_at = _cpu_s(), time.perf_counter()
    connection.start()
    await run.wait(messages)
    seconds, cpu_s = time.perf_counter() - started_at, _cpu_s() - cpu_before_s
    return _result(run, messages, seconds, run.latency_s, cpu_s)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.load", description="Send or pull, and print what it took as JSON."
    )
    modes = parser.add_subparsers(dest="mode", required=True)
    for mode in ("send", "pull"):
        options = modes.add_parser(mode)
        options.add_argument("--address", required=True, help="the broker, ip:port")
        options.add_argument("--topic", required=True)
        options.add_argument("--messages", type=int, required=True)
        options.add_argument("--body-bytes", type=int, default=1024)
        if mode == "send":
            options.add_argument("--connections", type=int, default=4)
            options.add_argument("--window", type=int, default=64, help="requests in flight per connection")
            options.add_argument(
                "--repeat-busy", action="store_true", help="send again what is refused as too busy (2)"
            )
    return parser.parse_args()


def main() -> None:
    options = _arguments()
    host, _, port = options.address.rpartition(":")
    common = (host, int(port), options.topic, options.messages, options.body_bytes)
    if options.mode == "send":
        work = send(*common, options.connections, options.window, options.repeat_busy)
    else:
        work = pull(*common)
    try:
        result = uvloop.run(work)
    except (WrongAnswer, OSError) as error:
        sys.exit(f"bench.load {options.mode}: {error}")
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")


if __name__ == "__main__":
    main()
