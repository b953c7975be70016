"""Checks a stopped store from its first byte to its last: `posthouse check`, and the end of every test of the store.

The whole log is read as a survey sees it: frames, records, bodies, queue offsets, times. From it alone the folds are
made again, and compared with everything else that says the same: openings and snapshots at their place, the entries
of every run, and what a start has in the end. That start is a real one, over a disk that only pretends to change.
Nothing is changed. Memory stays bounded: entries are compared in portions and let go of.
"""

from __future__ import annotations

import dataclasses

import msgspec

from posthouse.codec.record import RecordError, RecordSummary, body_is_whole
from posthouse.host import Host
from posthouse.model.offsets import LogOffset
from posthouse.store import snapshot as snapshots
from posthouse.store.comparison import Comparison
from posthouse.store.finding import Progress, Report, Severity
from posthouse.store.folds import Folds
from posthouse.store.log.batch import FrameKind
from posthouse.store.log.engine import LogDamaged
from posthouse.store.log.format import check_format
from posthouse.store.log.scan import Frame, records_of
from posthouse.store.message_store import MessageStore, StoreBroken
from posthouse.store.opening import decode_part
from posthouse.store.overlay import OverlayDisk
from posthouse.store.salvage import in_words, messages_by_topic
from posthouse.store.snapshot import Snapshot
from posthouse.store.state_record import STATE_MAGIC, Kind, UnknownRecord, decode_state_record
from posthouse.store.strays import report_strays
from posthouse.store.survey import Excess, Foreign, Gone, Kept, NextMissing, Piece, Survey, Tail, Unused

SNAPSHOTS_KEPT = 2
PORTION_MESSAGES = 500_000
"""Messages whose entries are held until they are compared: about 10 MB."""

_OPENING = Kind.OPENING.to_bytes(2, "big")
_UNAPPLICABLE = (
    AssertionError, LookupError, RecursionError, TypeError, ValueError, RecordError, UnknownRecord,
    msgspec.MsgspecError,
)  # fmt: skip
"""What a record that is not as it should be may raise."""


def check_store(host: Host, *, progress: Progress | None = None) -> Report:
    """Looks at everything in `host.disk` and changes nothing. Waits for the disk; raises OSError.

    The caller holds the lock, or knows that nobody has the folder.
    """
    return _Check(host, progress).run()


class _Check:
    def __init__(self, host: Host, progress: Progress | None) -> None:
        self._disk = host.disk
        self._host = host
        self._progress = progress or (lambda done, total: None)
        self._report = Report(host.disk.place)
        self._folds = Folds()
        self._snapshots: dict[int, Snapshot] = {}
        self._is_sure = True  # nothing of the log was lost so far, so what is written down elsewhere must agree
        self._first_file = ""
        self._comparison = Comparison(host.disk, self._report)
        self._stored_at_ms = 0
        self._unread = 0  # messages whose entries were not compared yet

    def run(self) -> Report:
        report, comparison = self._report, self._comparison
        self._check_format()
        valid = comparison.read_snapshots()
        self._snapshots = dict(valid)
        newest = LogOffset(max(valid, default=0))
        survey = Survey(self._disk, newest)
        overlay = OverlayDisk(self._disk)
        try:
            first = survey.segments[0].base if survey.segments else LogOffset(0)
            self._first_file = survey.segments[0].file.name if survey.segments else ""
            start = self._rehearse(overlay)
            counting = self._counting(valid)
            comparison.open_runs([run for each in counting for run in each.runs if each.offset >= first], first)
            total, done = survey.total_bytes, 0
            report.figures.segments, report.figures.log_bytes = len(survey.segments), total
            report.first = first
            for piece in survey:
                if isinstance(piece, Kept):
                    done += piece.frame.header.size
                    self._progress(done, total)
                self._take(piece, start)
            self._finish(survey.position.offset, newest, start)
        finally:
            survey.close()
            overlay.close()
            comparison.close()
        report_strays(self._disk, report, counting)
        return report

    def _counting(self, valid: dict[int, Snapshot]) -> list[Snapshot]:
        """The newest two, whose runs are kept. Older ones are there when a power cut undid their removal."""
        newest_first = sorted(valid.values(), key=lambda snapshot: -snapshot.offset)
        for each in newest_first[SNAPSHOTS_KEPT:]:
            what = "this snapshot is older than the two that are kept"
            name = snapshots.snapshot_name(each.offset)
            self._report.add(Severity.NOTE, name, None, what, "the next checkpoint removes it")
        return newest_first[:SNAPSHOTS_KEPT]

    def _damage(self, file: str, at: LogOffset | None, what: str, means: str, remedy: str | None = None) -> None:
        if remedy is None:
            remedy = f"restore the folder from a copy, or run `posthouse repair {self._disk.place}`"
        self._report.add(Severity.DAMAGE, file, at, what, means, remedy)

    def _check_format(self) -> None:
        try:
            check_format(OverlayDisk(self._disk))
        except LogDamaged as error:
            self._damage("format", None, str(error), "no start reads a folder of which it does not know the format")

    def _rehearse(self, overlay: OverlayDisk) -> Folds | None:
        """What a start has, over a disk that pretends. None if it refuses."""
        store = MessageStore(dataclasses.replace(self._host, disk=overlay))
        try:
            store.open()
        except StoreBroken as error:
            self._report.refusal = str(error)
        except _UNAPPLICABLE as error:
            self._report.refusal = f"the start fails with {error!r}"
        else:
            return store.folds
        return None

    # The pieces of the log

    def _take(self, piece: Piece, start: Folds | None) -> None:
        if isinstance(piece, Kept):
            self._kept(piece)
            if self._unread >= PORTION_MESSAGES:
                self._comparison.compare_entries(self._folds, start, piece.frame.header.end)
                self._unread = 0
        elif isinstance(piece, Gone):
            self._gone(piece)
        elif isinstance(piece, Tail):
            self._report.add(
                Severity.NOTE,
                piece.segment.file.name,
                piece.first,
                f"{piece.end - piece.first} bytes at the end are the rest of a write that was interrupted: {piece.why}",
                f"the next start cuts {piece.end - piece.first} bytes that were never acknowledged",
            )
        elif isinstance(piece, Excess):
            self._damage(
                piece.segment.file.name,
                piece.first,
                f"{piece.end - piece.first} bytes follow behind the place where the next segment begins",
                "the broker does not start",
            )
        elif isinstance(piece, Foreign):
            self._damage(piece.segment.file.name, None, piece.why, "the broker does not start with this file in place")
        elif isinstance(piece, NextMissing):
            what = f"it ends with an end mark, but the segment at log offset {piece.base} is not there"
            self._damage(piece.segment.file.name, piece.base, what, "what was written last is lost")
        else:
            assert isinstance(piece, Unused)
            what = "an empty segment: the broker ended when it was about to begin it"
            self._report.add(Severity.NOTE, piece.segment.file.name, None, what, "the next start takes care of it")

    def _gone(self, piece: Gone) -> None:
        size = piece.end - piece.first
        means = f"{size} bytes that had been on disk are not as they were written"
        if piece.there == piece.first:
            means = f"{size} bytes of the log are missing"
        elif topics := messages_by_topic(piece.segment, piece.first, piece.there):
            means += f"; {in_words(topics)} can still be recognised in there"
        self._damage(piece.segment.file.name, piece.first, piece.why, means)
        self._lose(piece.first, piece.end)

    def _kept(self, piece: Kept) -> None:
        frame, figures = piece.frame, self._report.figures
        header, file = frame.header, piece.segment.file.name
        figures.frames += 1
        if figures.frames == 1:
            self._check_beginning(frame, file)
        if frame.kind is FrameKind.GAP:
            figures.gaps += 1
            figures.gap_bytes += header.size
            what = f"a gap of {header.size} bytes: a repair could not save what was here"
            self._report.add(
                Severity.NOTE, file, header.offset, what, "the messages in there are lost; reads pass over"
            )
            self._folds.on_gap(header.offset, header.end)
        else:
            self._records(frame, file)
        snapshot = self._snapshots.pop(header.end, None)
        if snapshot is not None and self._is_sure:
            self._comparison.compare_snapshot(snapshot, header.chain, self._folds)

    def _check_beginning(self, frame: Frame, file: str) -> None:
        base = frame.header.offset
        if base:
            what = f"the log begins at {base}: retention took what was before, or it is missing"
            self._report.add(Severity.NOTE, file, base, what, "older messages are not there any more")
        if base and frame.kind not in (FrameKind.OPENING, FrameKind.GAP):
            what = "the oldest segment that is there does not begin with an opening"
            self._damage(file, base, what, "what the topics, groups and offsets were before it is lost")
            self._lose(LogOffset(0), base)

    def _records(self, frame: Frame, file: str) -> None:
        try:
            for at, size, log_offset in records_of(frame):
                self._report.figures.records += 1
                self._record(frame.data, at, size, log_offset, file)
        except LogDamaged as error:
            self._damage(file, frame.header.offset, str(error), "the records of this frame cannot be told apart")

    def _lose(self, first: LogOffset, end: LogOffset) -> None:
        """From here on the folds take what would otherwise be one mistake after another."""
        self._is_sure = False
        self._folds.on_gap(first, end)

    # Records

    def _record(self, data: bytes, at: int, size: int, log_offset: LogOffset, file: str) -> None:
        if int.from_bytes(data[at + 4 : at + 8], "big") == STATE_MAGIC:
            self._report.figures.state_records += 1
            self._check_opening(data, at, log_offset, file)
        else:
            self._report.figures.messages += 1
            self._unread += 1
        try:
            found = self._folds.replay(data, at, size, log_offset)
        except _UNAPPLICABLE as error:
            why = str(error) or type(error).__name__
            self._damage(file, log_offset, f"this record cannot be applied: {why}", "a start that reads it fails")
            self._lose(log_offset, log_offset)
            return
        if found.log_offset != log_offset:
            what = f"the record here says that it is at log offset {found.log_offset}"
            self._damage(file, log_offset, what, "it was not written here, and cannot be served")
        self._check_time(found.stored_at_ms, log_offset, file)
        if isinstance(found, RecordSummary) and not body_is_whole(data, at):
            where = f"message {found.queue_offset} of {found.topic}, queue {found.queue_id}"
            self._damage(file, log_offset, f"the body of {where} does not match its checksum", "consumers refuse it")

    def _check_time(self, stored_at_ms: int, log_offset: LogOffset, file: str) -> None:
        if stored_at_ms < self._stored_at_ms:
            what = f"stored at {stored_at_ms} ms, and a record before it at {self._stored_at_ms} ms"
            self._report.add(Severity.WARNING, file, log_offset, what, "finding messages by time may miss some")
        self._stored_at_ms = max(stored_at_ms, self._stored_at_ms)

    def _check_opening(self, data: bytes, at: int, log_offset: LogOffset, file: str) -> None:
        """Before it is applied: an opening must say what the folds have."""
        if self._folds.gaps or file == self._first_file or data[at + 8 : at + 10] != _OPENING:
            return
        try:
            state = decode_state_record(data, at)
            wrong = self._comparison.opening_differs(decode_part(state.body), self._folds) if state is not None else ""
        except _UNAPPLICABLE:
            return  # the replay says so
        if wrong:
            what = f"the opening of this segment is not what the log before it says: {wrong}"
            self._damage(file, log_offset, what, "when older segments are gone, a start would have it wrong")

    # The end

    def _finish(self, end: LogOffset, newest: LogOffset, start: Folds | None) -> None:
        report = self._report
        report.end = end
        self._comparison.compare_entries(self._folds, start, end)
        for offset in sorted(self._snapshots):
            if report.first < offset <= end and self._is_sure:
                what = "no frame of the log ends here"
                self._damage(snapshots.snapshot_name(offset), LogOffset(offset), what, "it is of another log")
        if newest > end and self._is_sure:
            what = f"it is newer than the log, which ends at {end}"
            means = f"{newest - end} bytes that had been on disk are missing"
            self._damage(snapshots.snapshot_name(newest), newest, what, means)
        if start is not None and self._is_sure:
            self._comparison.compare_start(self._folds, start)
        if report.refusal:
            self._damage("", None, f"the broker does not start: {report.refusal}", "nothing is served")
        figures = report.figures
        figures.topics = len(self._folds.topics.live)
        figures.groups = len(self._folds.groups.live)
        figures.queues = sum(len(topic.queues) for topic in self._folds.topics.all())
