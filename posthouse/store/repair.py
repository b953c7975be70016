"""Repairs a stopped store: `posthouse repair`. What cannot be saved is moved into the folder `lost`, never deleted.

A plan is made first, and can be shown and rehearsed before anything is touched. What it may do
- damage inside the log becomes a gap: the bytes go into `lost/<first>-<end>.lost`, and a gap frame takes their place,
  so that everything good behind it keeps its offsets. A segment that is missing becomes one that holds only a gap;
- a bad tail goes into a .lost file and is cut;
- runs and snapshots that are damaged, or that know of what is lost, are moved: the next start makes them again;
- files that belong to nobody are moved.

What must stay true: what is moved or overwritten is durable in `lost` before; each step is durable before the next
begins; snapshots go before the log changes, so that none of them ever says more than the log. A repair that was
killed is simply begun again: the new plan has what is left.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from posthouse.host import Host
from posthouse.host.disk import Buffer, Disk, File
from posthouse.model.offsets import LogOffset
from posthouse.store import run as runs
from posthouse.store import snapshot as snapshots
from posthouse.store.check import check_store
from posthouse.store.checkpoint import committed
from posthouse.store.finding import Finding, Progress, Report, Severity
from posthouse.store.log.batch import GAP_BYTES_MAX, HEADER_BYTES, FrameHeader, encode_gap
from posthouse.store.log.engine import START
from posthouse.store.log.format import FORMAT
from posthouse.store.log.format import NAME as FORMAT_FILE
from posthouse.store.log.segments import FOLDER as LOG_FOLDER
from posthouse.store.log.segments import LOST_SUFFIX, Segment, segment_name
from posthouse.store.overlay import OverlayDisk
from posthouse.store.salvage import messages_by_topic
from posthouse.store.snapshot import Snapshot
from posthouse.store.strays import LOST, snapshot_files, strays
from posthouse.store.survey import Excess, Foreign, Gone, Kept, NextMissing, Survey, Tail

_COPIED_AT_ONCE = 8 * 1024 * 1024
_GAP_PIECE_BYTES = 1024 * 1024 * 1024
"""Of a gap that is too large for one frame."""
assert _GAP_PIECE_BYTES + HEADER_BYTES <= GAP_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Step:
    """One change. `acknowledged`: what it moves may hold messages that were acknowledged; `topics` those recognised."""

    what: str
    file: str
    lost_bytes: int = 0
    acknowledged: bool = False
    topics: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class MoveFile(Step):
    pass


@dataclass(frozen=True, slots=True)
class Cut(Step):
    """Bytes from log offset `first` to the end of the file of `base` are moved."""

    base: LogOffset = START.offset
    first: LogOffset = START.offset


@dataclass(frozen=True, slots=True)
class FillGap(Step):
    """Bytes [first, end) become gaps, in the file of `base`; of them the file has those below `there`."""

    base: LogOffset = START.offset
    first: LogOffset = START.offset
    end: LogOffset = START.offset
    there: LogOffset = START.offset
    previous: int = 0
    next_previous: int = 0
    epoch: int = 0
    stored_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class BeginSegment(Step):
    """The empty segment that an end mark promises."""


@dataclass(frozen=True, slots=True)
class WriteFormat(Step):
    pass


@dataclass(slots=True)
class Plan:
    """Steps in the order in which they are done; `beyond` is damage that a repair cannot mend."""

    place: str
    steps: list[Step] = field(default_factory=list)
    beyond: list[Finding] = field(default_factory=list)
    missing_bytes: int = 0
    """Of the end of the log: a snapshot knows of them, and they are nowhere."""

    @property
    def topics(self) -> Counter[str]:
        """Acknowledged messages that can be recognised in what is lost."""
        found: Counter[str] = Counter()
        for step in self.steps:
            if step.acknowledged:
                found += step.topics
        return found

    @property
    def lost_bytes(self) -> int:
        """Of the log, that had been on disk."""
        return self.missing_bytes + sum(step.lost_bytes for step in self.steps if step.acknowledged)


def plan_repair(host: Host, *, progress: Progress | None = None) -> Plan:
    """Looks at everything and changes nothing. Waits for the disk; raises OSError."""
    return _Planner(host.disk, check_store(host, progress=progress)).plan()


async def rehearse(host: Host, plan: Plan) -> Report:
    """What a check would say after the repair. Changes nothing."""
    overlay = OverlayDisk(host.disk)
    try:
        await carry_out(overlay, plan)
        return check_store(dataclasses.replace(host, disk=overlay))
    finally:
        overlay.close()


class _Planner:
    def __init__(self, disk: Disk, report: Report) -> None:
        self._disk = disk
        self._report = report
        self._steps: list[Step] = []
        self._gaps: list[FillGap] = []  # what no good frame follows yet
        self._before: FrameHeader | None = None
        self._lost_from: LogOffset | None = None  # the first byte that was on disk and is lost
        self._segments: list[Segment] = []

    def plan(self) -> Plan:
        damaged = [each for each in self._report.findings if each.severity is Severity.DAMAGE]
        newest = max((each.offset for each in self._valid_snapshots()), default=0)
        survey = Survey(self._disk, LogOffset(newest))
        self._segments = survey.segments
        try:
            for piece in survey:
                self._take(piece)
            if self._gaps:
                self._nothing_follows()
        finally:
            survey.close()
        log_steps, self._steps = self._steps, []
        plan = Plan(self._disk.place)
        plan.missing_bytes = max(0, newest - max((each.end for each in self._segments), default=START.offset))
        if any(each.file == FORMAT_FILE for each in damaged):
            self._mend_format(plan, damaged)
        self._move_derived(damaged, log_end=survey.position.offset)
        plan.steps += [*self._steps, *log_steps]
        mended = {step.file for step in plan.steps}
        plan.beyond += [
            each
            for each in damaged
            if each.file and each.file != FORMAT_FILE and each.file not in mended and not self._is_mended(each, plan)
        ]
        return plan

    def _is_mended(self, finding: Finding, plan: Plan) -> bool:
        at = finding.log_offset
        return at is not None and any(isinstance(step, FillGap) and step.first <= at < step.end for step in plan.steps)

    def _mend_format(self, plan: Plan, damaged: list[Finding]) -> None:
        finding = next(each for each in damaged if each.file == FORMAT_FILE)
        ours = f"holds format {FORMAT};" in finding.what
        if "holds format" in finding.what and not ours and _is_there(self._disk, FORMAT_FILE):
            plan.beyond.append(finding)  # another version wrote it: not ours to change
        else:
            self._steps.append(WriteFormat(f"write {FORMAT_FILE} again", FORMAT_FILE))

    # The log

    def _take(self, piece: object) -> None:
        if isinstance(piece, Kept):
            self._kept(piece)
        elif isinstance(piece, Gone):
            self._gone(piece)
        elif isinstance(piece, Tail):
            self._cut_from(piece.segment, piece.first, "the rest of an interrupted write", acknowledged=False)
        elif isinstance(piece, Excess):
            size = piece.end - piece.first
            what = f"move {size} bytes behind its end from {piece.segment.file.name}"
            self._steps.append(Cut(what, piece.segment.file.name, size, base=piece.segment.base, first=piece.first))
        elif isinstance(piece, Foreign):
            self._steps.append(MoveFile(f"move {piece.segment.file.name}: {piece.why}", piece.segment.file.name))
        elif isinstance(piece, NextMissing):
            self._lose(piece.base)
            name = segment_name(piece.base)
            what = f"begin {name} empty: what was written last is lost, how much is not known"
            self._steps.append(BeginSegment(what, name, acknowledged=True))

    def _kept(self, piece: Kept) -> None:
        header = piece.frame.header
        for number, gap in enumerate(self._gaps):
            before = self._before
            if before is not None and gap.end - gap.first < HEADER_BYTES:  # no room: the frame before goes, too
                gap = dataclasses.replace(gap, first=before.offset, previous=before.previous)
            last = number + 1 == len(self._gaps)
            self._steps.append(dataclasses.replace(gap, next_previous=header.previous if last else 0))
        self._gaps.clear()
        self._before = header

    def _gone(self, piece: Gone) -> None:
        self._lose(piece.first)
        before = self._before
        first, there = piece.first, piece.there
        chain = before.chain if before is not None and not self._gaps else 0
        topics: Counter[str] = Counter()
        if there > first:
            topics = messages_by_topic(piece.segment, first, there)
        if self._gaps and self._gaps[-1].base == piece.base:  # the rest of a file, then what the file has not
            last = self._gaps.pop()
            first, chain, topics = last.first, last.previous, last.topics + topics
            there = max(last.there, there) if last.there == last.end else last.there
        size = piece.end - first
        name = segment_name(piece.base)
        what = f"put a gap of {size} bytes in the place of what is damaged in {name} at log offset {first}"
        if there == first:
            what = f"put a gap of {size} bytes in the place of what is missing from log offset {first} on, in {name}"
        self._gaps.append(
            FillGap(
                what, name, size, True, topics, piece.base, first, piece.end, there, chain,
                epoch=before.epoch if before is not None else 0,
                stored_at_ms=before.stored_at_ms if before is not None else 0,
            )
        )  # fmt: skip

    def _nothing_follows(self) -> None:
        """The newest part of the log is bad although it had been on disk: it is cut."""
        first, self._gaps = self._gaps[0], []
        for segment in self._segments:
            if segment.base == first.base:
                self._cut_from(segment, first.first, "what is damaged", acknowledged=True)
                return
        self._cut_from(None, first.first, "what is damaged", acknowledged=True)

    def _cut_from(self, segment: Segment | None, first: LogOffset, why: str, *, acknowledged: bool) -> None:
        """Moves everything from `first` on: files behind `segment` whole, the newest first."""
        if acknowledged:
            self._lose(first)
        for later in reversed(self._segments):
            if later.base > first and later.end > later.base:
                topics = messages_by_topic(later, later.base, later.end)
                size = later.end - later.base
                self._steps.append(
                    MoveFile(f"move {later.file.name}: {why}", later.file.name, size, acknowledged, topics)
                )
        if segment is not None and segment.end > first:
            size = segment.end - first
            topics = messages_by_topic(segment, first, segment.end)
            what = f"move the last {size} bytes of {segment.file.name}: {why}"
            self._steps.append(Cut(what, segment.file.name, size, acknowledged, topics, segment.base, first))

    def _lose(self, first: LogOffset) -> None:
        if self._lost_from is None or first < self._lost_from:
            self._lost_from = first

    # What is made from the log

    def _valid_snapshots(self) -> Iterator[Snapshot]:
        for name in snapshot_files(self._disk):
            found = snapshots.decode_snapshot(self._disk.read_file(f"{snapshots.FOLDER}/{name}"))
            if found is not None and snapshots.snapshot_name(found.offset) == f"{snapshots.FOLDER}/{name}":
                yield found

    def _move_derived(self, damaged: list[Finding], log_end: LogOffset) -> None:
        """Snapshots first, then the runs that no snapshot needs any more."""
        lost_from = log_end if self._lost_from is None else self._lost_from
        suspect = {each.file for each in damaged}
        all_suspect = any(not each.file and not self._report.refusal for each in damaged)
        valid = {snapshots.snapshot_name(each.offset): each for each in self._valid_snapshots()}
        kept: list[Snapshot] = []
        for name in (f"{snapshots.FOLDER}/{each}" for each in snapshot_files(self._disk)):
            snapshot = valid.get(name)
            if snapshot is None:
                self._steps.append(MoveFile(f"move {name}: it is damaged", name))
            elif all_suspect or name in suspect:
                self._steps.append(MoveFile(f"move {name}: it does not fit the log", name))
            elif snapshot.offset > lost_from:
                self._steps.append(MoveFile(f"move {name}: it knows of what is lost", name))
            elif any(f"{runs.FOLDER}/{run}" in suspect for run in snapshot.runs):
                self._steps.append(MoveFile(f"move {name}: a run that it names is damaged", name))
            else:
                kept.append(snapshot)
        named = {run for snapshot in kept for run in snapshot.runs}
        leftover = {
            stray.name for stray in strays(self._disk, {r for s in valid.values() for r in s.runs}) if stray.leftover
        }
        for name in (f"{runs.FOLDER}/{each}" for each in runs.run_files(self._disk)):
            if name.removeprefix(f"{runs.FOLDER}/") not in named and name not in leftover:
                why = (
                    "it is damaged"
                    if name in suspect
                    else "no snapshot that is kept names it; the next start makes it again"
                )
                self._steps.append(MoveFile(f"move {name}: {why}", name))
        for stray in strays(self._disk, named):
            if not stray.leftover and "/" in stray.name:
                self._steps.append(MoveFile(f"move {stray.name}: it does not belong to the store", stray.name))


# Doing it


async def carry_out(disk: Disk, plan: Plan, *, told: Callable[[Step], None] | None = None) -> None:
    """Does the steps, each durable before the next; `told` hears of each when it is done. Raises OSError."""
    if plan.steps:
        disk.folder(LOST)
    for step in plan.steps:
        if isinstance(step, MoveFile):
            disk.move(step.file, _free_name(disk, step.file.removeprefix(f"{LOG_FOLDER}/").replace("/", "-")))
        elif isinstance(step, Cut):
            await _cut(disk, step)
        elif isinstance(step, FillGap):
            await _fill(disk, step)
        elif isinstance(step, BeginSegment):
            disk.folder(LOG_FOLDER)
            disk.open(step.file, create=True).close()
        else:
            assert isinstance(step, WriteFormat)
            if _is_there(disk, step.file):
                disk.move(step.file, _free_name(disk, step.file))
            disk.write_file(step.file, f"posthouse {FORMAT}\n".encode())
        if told is not None:
            told(step)


async def _cut(disk: Disk, step: Cut) -> None:
    file = disk.open(step.file)
    try:
        end = LogOffset(step.base + file.size_bytes())
        await _save(disk, file, step.base, step.first, end)
        file.truncate(step.first - step.base)
    finally:
        file.close()


async def _fill(disk: Disk, step: FillGap) -> None:
    file = disk.open(step.file, create=not _is_there(disk, step.file))
    try:
        if step.there > step.first:
            await _save(disk, file, step.base, step.first, step.there)
        size = file.size_bytes()
        if size < step.end - step.base:
            file.truncate(step.end - step.base)
        zeros = bytes(_COPIED_AT_ONCE)
        for at in range(step.first, step.there, _COPIED_AT_ONCE):
            await _write(file, at - step.base, [memoryview(zeros)[: step.there - at]])
        await _write(file, 0, [])
        for first, header in _gap_frames(step):
            await _write(file, first - step.base, [header])
    finally:
        file.close()


def _gap_frames(step: FillGap) -> Iterator[tuple[LogOffset, bytes]]:
    """The heads, the last first: what is there of them when the power fails is taken for damage again."""
    pieces = [step.first]
    while step.end - pieces[-1] > _GAP_PIECE_BYTES + HEADER_BYTES:
        pieces.append(LogOffset(pieces[-1] + _GAP_PIECE_BYTES))
    for number in reversed(range(len(pieces))):
        first = pieces[number]
        is_last = number + 1 == len(pieces)
        size = (step.end if is_last else pieces[number + 1]) - first
        previous = step.previous if number == 0 else 0
        chain = step.next_previous if is_last else 0
        yield first, encode_gap(first, size, step.epoch, previous, step.stored_at_ms, chain)


async def _save(disk: Disk, file: File, base: LogOffset, first: LogOffset, end: LogOffset) -> None:
    """Copies bytes [first, end) of the log into a .lost file. One that is there is of a repair that was killed."""
    name = f"{LOST}/{first:020d}-{end:020d}{LOST_SUFFIX}"
    if _holds(disk, name, end - first):
        return
    unfinished = f"{name}.new"
    disk.remove(unfinished)
    copy = disk.open(unfinished, create=True)
    try:
        for at in range(first, end, _COPIED_AT_ONCE):
            await _write(copy, at - first, [file.read_wait(at - base, min(_COPIED_AT_ONCE, end - at))])
        await _write(copy, 0, [])
    finally:
        copy.close()
    disk.move(unfinished, _free_name(disk, name.removeprefix(f"{LOST}/")))


def _is_there(disk: Disk, name: str) -> bool:
    try:
        disk.open(name).close()
    except FileNotFoundError:
        return False
    return True


def _holds(disk: Disk, name: str, size: int) -> bool:
    if not _is_there(disk, name):
        return False
    file = disk.open(name)
    try:
        return file.size_bytes() == size
    finally:
        file.close()


async def _write(file: File, position: int, buffers: Sequence[Buffer]) -> None:
    """Durable on return. Raises OSError."""
    await committed(lambda done: file.commit(position, buffers, True, done))


def _free_name(disk: Disk, name: str) -> str:
    """A name in `lost` that nobody has."""
    taken = set(disk.list(LOST))
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}.{number}"
    return f"{LOST}/{found}"
