"""The benchmark program: the same load on Posthouse and on Apache RocketMQ, in turn, in one run; one table at the end.

    python -m bench.run                     both servers, three rounds
    python -m bench.run --smoke             one tiny round of Posthouse, a few seconds
    python -m bench.run --only apache --messages 50000 --rounds 1
    python -m bench.run --before ../earlier     Posthouse of this checkout and of another one

A round of one server: start on an empty folder, clocked to the first answers; idle, memory; then for each scenario a
warm-up that is not measured and the measured load; memory again; stop. What was sent is pulled back and counted.

The figure that counts is the server's CPU time per message. Load generator and server share the machine, so
throughput and latency also show what the load generator takes (its own CPU time is in the table).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from bench import machine, usage
from bench.load import LoadResult
from bench.servers import CHECKOUT, ApacheServer, PosthouseServer, Server, ServerFailed, start_clocked

TOPIC: Final = "bench"  # holds what the measured sends sent, and nothing else
WARM_TOPIC: Final = "bench-warm"
LOAD_TIMEOUT_S: Final = 900.0

# Connections and requests in flight on each. `pull` is not here: it is one connection, one pull per queue.
SENDS: Final[Mapping[str, tuple[int, int]]] = {"send-64x1": (64, 1), "send-4x64": (4, 64)}
SCENARIOS: Final = (*SENDS, "pull")


class Settings(msgspec.Struct):
    """What one run does. `messages` and `warmup` are per scenario; a round's idle and settling times are in seconds."""

    servers: list[str]
    scenarios: list[str]
    rounds: int
    messages: int
    warmup: int
    body_bytes: int
    idle_s: float
    settle_s: float
    apache_flush: str
    apache_heap_mib: int
    before: str = ""


class ScenarioFigures(msgspec.Struct):
    """One measured load. CPU seconds are per million messages; `all_cpu_s` has the NameServer's process as well.

    `other_cores` is how many cores everything else on the machine kept busy: the kernel's disk work, and neighbours.
    """

    cpu_s: float
    all_cpu_s: float
    other_cores: float
    load: LoadResult


class RoundFigures(msgspec.Struct):
    """One server, one round. Start times as in servers.StartTimes; memory is that of the broker's process."""

    server: str
    start_broker_s: float
    start_whole_s: float
    idle_rss_mib: float
    idle_anonymous_mib: float
    loaded_rss_mib: float
    loaded_anonymous_mib: float
    peak_rss_mib: float
    scenarios: dict[str, ScenarioFigures]


class Report(msgspec.Struct):
    machine: machine.Machine
    settings: Settings
    servers: dict[str, str]
    rounds: list[RoundFigures]


class LoadFailed(Exception):
    """The load generator ended with an error; the text is what it said."""


class _Round:
    """One server under load, from start to stop."""

    def __init__(self, server: Server, settings: Settings) -> None:
        self.server = server
        self.settings = settings
        self.stored = 0  # messages in TOPIC
        self.warm_stored = 0  # messages in WARM_TOPIC

    def measure(self, data: Path) -> RoundFigures:
        """Raises: ServerFailed, LoadFailed."""
        server, settings = self.server, self.settings
        try:
            started = start_clocked(server, data)
            time.sleep(settings.idle_s)
            idle = usage.memory([server.broker_pid])
            scenarios = {name: self._scenario(name) for name in settings.scenarios}
            loaded = usage.memory([server.broker_pid])
        finally:
            server.stop()
        return RoundFigures(
            server=server.name,
            start_broker_s=started.broker_s,
            start_whole_s=started.whole_s,
            idle_rss_mib=idle.rss_mib,
            idle_anonymous_mib=idle.anonymous_mib,
            loaded_rss_mib=loaded.rss_mib,
            loaded_anonymous_mib=loaded.anonymous_mib,
            peak_rss_mib=loaded.peak_rss_mib,
            scenarios=scenarios,
        )

    def _scenario(self, name: str) -> ScenarioFigures:
        if name == "pull":
            return self._pull()
        connections, window = SENDS[name]
        self._send(WARM_TOPIC, self.settings.warmup, connections, window)
        return self._measured(lambda: self._send(TOPIC, self.settings.messages, connections, window))

    def _pull(self) -> ScenarioFigures:
        """Everything back. Warm-up reads the warm-up topic, which is filled first when no scenario has sent."""
        if not self.warm_stored:
            self._send(WARM_TOPIC, self.settings.warmup, *SENDS["send-4x64"])
        if not self.stored:
            self._send(TOPIC, self.settings.messages, *SENDS["send-4x64"])
        pulled = 0
        while pulled < self.settings.warmup:
            pulled += self._load("pull", WARM_TOPIC, self.warm_stored).messages
        return self._measured(lambda: self._load("pull", TOPIC, self.stored))

    def _send(self, topic: str, messages: int, connections: int, window: int) -> LoadResult:
        options = ["--connections", str(connections), "--window", str(window)]
        if topic == TOPIC:
            self.stored += messages
        else:
            self.warm_stored += messages
            options.append("--repeat-busy")  # a JVM that is still cold may refuse what has waited for 200 ms
        return self._load("send", topic, messages, *options)

    def _load(self, mode: str, topic: str, messages: int, *options: str) -> LoadResult:
        command = [sys.executable, "-m", "bench.load", mode, "--address", self.server.broker_address]
        command += ["--topic", topic, "--messages", str(messages), "--body-bytes", str(self.settings.body_bytes)]
        try:
            done = subprocess.run(
                [*command, *options], capture_output=True, cwd=CHECKOUT, timeout=LOAD_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise LoadFailed(
                f"{self.server.name}, {mode} {topic}: not done in {LOAD_TIMEOUT_S:.0f} s; give fewer --messages"
            ) from None
        if done.returncode != 0:
            said = "\n".join(done.stderr.decode(errors="replace").splitlines()[-5:])
            raise LoadFailed(f"{self.server.name}, {mode} {topic}: {said}")
        return msgspec.json.decode(done.stdout, type=LoadResult)

    def _measured(self, load: Callable[[], LoadResult]) -> ScenarioFigures:
        """The load with the CPU time that the server spent on it, work that it does after its last answer included."""
        brokers, everyone = [self.server.broker_pid], {self.server.broker_pid, self.server.nameserver_pid}
        time.sleep(self.settings.settle_s)
        before_s, all_before_s = usage.cpu_s(brokers), usage.cpu_s(everyone)
        not_ours_before_s, started_at = self._not_ours_s(everyone), time.monotonic()
        result = load()
        not_ours_s, seconds = self._not_ours_s(everyone) - not_ours_before_s, time.monotonic() - started_at
        time.sleep(self.settings.settle_s)
        millions = result.messages / 1_000_000
        return ScenarioFigures(
            cpu_s=(usage.cpu_s(brokers) - before_s) / millions,
            all_cpu_s=(usage.cpu_s(everyone) - all_before_s) / millions,
            other_cores=not_ours_s / seconds,
            load=result,
        )

    @staticmethod
    def _not_ours_s(server_pids: Iterable[int]) -> float:
        """CPU time of the machine that went neither to the server nor to load generators that have ended."""
        loads = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.machine_cpu_s() - usage.cpu_s(server_pids) - loads.ru_utime - loads.ru_stime


def run(settings: Settings, folder: Path) -> Report:
    """All rounds, the servers in turn, each round in the other order. Raises: ServerFailed, LoadFailed."""
    report = Report(machine=machine.describe(folder), settings=settings, servers={}, rounds=[])
    for number in range(1, settings.rounds + 1):
        for name in settings.servers[:: 1 if number % 2 else -1]:
            server = _server(name, settings)
            report.servers[name] = server.describe()
            print(f"round {number} of {settings.rounds}: {server.describe()}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=folder) as data:
                report.rounds.append(_Round(server, settings).measure(Path(data)))
    return report


def _server(name: str, settings: Settings) -> Server:
    if name == "posthouse":
        return PosthouseServer()
    if name == "before":
        return PosthouseServer(Path(settings.before), name)
    return ApacheServer("sync" if settings.apache_flush == "sync" else "async", settings.apache_heap_mib)


# --- The table


def rows(scenarios: Sequence[str]) -> list[tuple[str, Callable[[RoundFigures], float]]]:
    """Each row's title and how it is read from a round. The ratio of a row is posthouse / apache."""
    titled: list[tuple[str, Callable[[RoundFigures], float]]] = [
        ("start to first answer, broker, s", lambda figures: figures.start_broker_s),
        ("start to first answers, NameServer and broker, s", lambda figures: figures.start_whole_s),
        ("idle RSS, MiB", lambda figures: figures.idle_rss_mib),
        ("idle anonymous memory, MiB", lambda figures: figures.idle_anonymous_mib),
    ]
    for name in scenarios:
        titled += [(f"{name}: {title}", _in_scenario(name, read)) for title, read in _SCENARIO_ROWS]
    return [
        *titled,
        ("RSS after the messages, MiB", lambda figures: figures.loaded_rss_mib),
        ("anonymous memory after the messages, MiB", lambda figures: figures.loaded_anonymous_mib),
        ("peak RSS, MiB", lambda figures: figures.peak_rss_mib),
    ]


_SCENARIO_ROWS: Final[Sequence[tuple[str, Callable[[ScenarioFigures], float]]]] = (
    ("server CPU s per million messages", lambda figures: figures.cpu_s),
    ("messages/s", lambda figures: figures.load.messages_per_s),
    ("p50, ms", lambda figures: figures.load.p50_ms),
    ("p99, ms", lambda figures: figures.load.p99_ms),
    ("load generator CPU s per million", lambda figures: figures.load.load_cpu_s / figures.load.messages * 1e6),
    ("cores busy with anything else", lambda figures: figures.other_cores),
)


def _in_scenario(name: str, read: Callable[[ScenarioFigures], float]) -> Callable[[RoundFigures], float]:
    return lambda figures: read(figures.scenarios[name])


def table(report: Report) -> str:
    """The medians as a Markdown table, the lowest and highest round in brackets; the ratio is of the medians."""
    names = report.settings.servers
    lines = ["| | " + " | ".join(names) + " | ratio |", "|---|" + "---:|" * (len(names) + 1)]
    for title, read in rows(report.settings.scenarios):
        values = {name: [read(each) for each in report.rounds if each.server == name] for name in names}
        medians = [median(values[name]) for name in names]
        ratio = f"{medians[0] / medians[1]:.3f}" if len(names) == 2 and medians[1] else ""
        cells = [_cell(values[name]) for name in names]
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    text = _number(median(values))
    return text if len(values) == 1 else f"{text} ({_number(min(values))} to {_number(max(values))})"


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _remarks(report: Report) -> list[str]:
    """The lines above the table: machine, settings, and answers that were not plain successes."""
    on, settings = report.machine, report.settings
    lines = [
        f"{on.date}, commit {on.commit}; {on.cores} cores of {on.cpu}, {on.memory_gib} GiB, Linux {on.kernel}; "
        f"{on.filesystem}, fdatasync of 4 KiB {on.fdatasync_ms} ms",
        *report.servers.values(),
        f"rounds: {settings.rounds}; {settings.messages:,} messages of {settings.body_bytes:,} bytes per send scenario "
        f"and all pulled back; warm-up {settings.warmup:,}; medians (lowest to highest round)",
    ]
    for figures in report.rounds:
        for name, scenario in figures.scenarios.items():
            late = {code: count for code, count in scenario.load.codes.items() if code in (10, 11, 12)}
            if late:
                lines.append(f"{figures.server}, {name}: stored, but answered with {late} (code: times)")
    return lines


# --- The command line


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.run", description="Posthouse and Apache RocketMQ, side by side."
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=200_000, help="per scenario (200,000)")
    parser.add_argument("--warmup", type=int, default=200_000, help="unmeasured, before each scenario (200,000)")
    parser.add_argument("--body-bytes", type=int, default=1024)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help=f"of {','.join(SCENARIOS)}, comma between")
    parser.add_argument("--only", choices=("posthouse", "apache"))
    parser.add_argument("--before", type=Path, help="compare with Posthouse of this other checkout, not with Apache")
    parser.add_argument(
        "--smoke", action="store_true", help="one tiny round, of posthouse unless --only says otherwise"
    )
    parser.add_argument("--dir", type=Path, help="folder on a real disk for the data (default: the temporary folder)")
    parser.add_argument("--json", type=Path, help="also write every figure of every round to this file")
    parser.add_argument("--apache-flush", choices=("sync", "async"), default="sync")
    parser.add_argument("--apache-heap-mib", type=int, default=512)
    options = parser.parse_args()
    options.scenarios = options.scenarios.split(",")
    unknown = set(options.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"unknown scenarios {sorted(unknown)}; there are {', '.join(SCENARIOS)}")
    return options


def _settings(options: argparse.Namespace) -> Settings:
    servers = [options.only] if options.only else ["posthouse", "before" if options.before else "apache"]
    settings = Settings(
        servers=servers,
        scenarios=options.scenarios,
        rounds=options.rounds,
        messages=options.messages,
        warmup=options.warmup,
        body_bytes=options.body_bytes,
        idle_s=2.0,
        settle_s=1.0,
        apache_flush=options.apache_flush,
        apache_heap_mib=options.apache_heap_mib,
        before=str(options.before or ""),
    )
    if options.smoke:
        settings.servers = [options.only or "posthouse"]
        settings.rounds, settings.messages, settings.warmup = 1, 2_000, 200
        settings.idle_s = settings.settle_s = 0.1
    return settings


def main() -> None:
    options = _arguments()
    settings = _settings(options)
    with tempfile.TemporaryDirectory(prefix="posthouse-bench-", dir=options.dir) as folder:
        kind = machine.filesystem_of(Path(folder))
        if kind in machine.IN_MEMORY and not options.smoke:
            sys.exit(f"{folder} is on {kind}, where a sync costs nothing; give --dir a folder on a disk")
        try:
            report = run(settings, Path(folder))
        except (ServerFailed, LoadFailed) as error:
            sys.exit(f"bench.run: {error}")
    print("\n\n".join(["\n".join(_remarks(report)), table(report)]))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


if __name__ == "__main__":
    main()
