"""What a server's processes have used, read from /proc: CPU seconds, resident memory, the instant of their start.

A server's children are counted with it, dead ones too once their parent has waited for them. Linux only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """`rss_mib` counts mapped files too (a JVM broker maps its log); `anonymous_mib` is what no file stands behind.

    `peak_rss_mib` is the highest RSS since the start, the sum over processes of each one's own peak.
    """

    rss_mib: float
    anonymous_mib: float
    peak_rss_mib: float


def now_s() -> float:
    """Seconds since boot: the clock in which the kernel gives a process's start."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def started_at_s(pid: int) -> float:
    """When the process was forked, in the clock of now_s, to 10 ms."""
    return int(_stat(pid)[19]) / _TICKS_PER_S


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time of these processes and all their descendants so far."""
    ticks = 0
    for pid in _with_descendants(pids):
        fields = _stat(pid)
        ticks += sum(int(field) for field in fields[11:15])  # utime, stime, and those of waited-for children
    return ticks / _TICKS_PER_S


def machine_cpu_s() -> float:
    """Time that all cores together have been busy since boot, for whomever; time stolen by other guests included."""
    with open("/proc/stat", encoding="ascii") as lines:
        user, nice, system, _idle, _iowait, *others = (int(field) for field in lines.readline().split()[1:9])
    return (user + nice + system + sum(others)) / _TICKS_PER_S


def memory(pids: Iterable[int]) -> Memory:
    rss_kib = anonymous_kib = peak_kib = 0
    for pid in _with_descendants(pids):
        rollup = _sizes_kib(Path(f"/proc/{pid}/smaps_rollup"))
        rss_kib += rollup["Rss"]
        anonymous_kib += rollup["Anonymous"]
        peak_kib += _sizes_kib(Path(f"/proc/{pid}/status"))["VmHWM"]
    return Memory(rss_kib / 1024, anonymous_kib / 1024, peak_kib / 1024)


def _sizes_kib(path: Path) -> dict[str, int]:
    """The lines `Name:   number kB` of a file under /proc."""
    words = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return {line[0].rstrip(":"): int(line[1]) for line in words if len(line) == 3 and line[2] == "kB"}


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; the second, the name, may hold spaces and brackets."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _with_descendants(pids: Iterable[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            children.setdefault(int(_stat(int(path.name))[1]), []).append(int(path.name))
        except OSError:
            pass  # ended since the folder was listed
    found, waiting = [], list(pids)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found
