"""What a reader must know of the machine to weigh the figures: cores, kernel, file system, what a sync costs."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

IN_MEMORY = frozenset({"tmpfs", "ramfs"})


class Machine(msgspec.Struct):
    date: str
    commit: str
    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    filesystem: str
    fdatasync_ms: float


def describe(folder: Path) -> Machine:
    """This machine, and the disk under `folder`."""
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        filesystem=filesystem_of(folder),
        fdatasync_ms=round(_fdatasync_ms(folder), 3),
    )


def filesystem_of(folder: Path) -> str:
    """The type of the file system that holds `folder`, such as ext4 or tmpfs."""
    path, best, found = str(folder.resolve()), "", "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, kind, *_ = line.split()
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):  # of two mounts on one folder the later one is seen
            best, found = mount, kind
    return found


def _fdatasync_ms(folder: Path) -> float:
    """Median of 100 appends of 4 KiB, each with its own fdatasync."""
    path, times = folder / "fdatasync", []
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(100):
            os.write(fd, b"x" * 4096)
            before = time.perf_counter()
            os.fdatasync(fd)
            times.append(time.perf_counter() - before)
    finally:
        os.close(fd)
        path.unlink()
    return sorted(times)[50] * 1000


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _commit() -> str:
    """The checkout's commit, with `+` if files differ from it; `unknown` outside a repository."""
    here = Path(__file__).parent
    git = ("git", "-C", str(here), "--no-optional-locks")
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode != 0:
        return "unknown"
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
