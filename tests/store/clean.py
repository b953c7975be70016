"""What every test of the store may end with: nothing on the disk is damaged."""

from __future__ import annotations

from posthouse.host import Host
from posthouse.host.disk import Disk
from posthouse.host.real import RealNet, RealRandomness
from posthouse.store.check import check_store
from posthouse.store.finding import Report, Severity
from tests.store.disks import ManualClock


def check(disk: Disk) -> Report:
    return check_store(Host(ManualClock(), disk, RealNet(), RealRandomness()))


def assert_clean(disk: Disk, *, warnings: bool = False) -> Report:
    """Checks the store on a disk that nobody writes to. Notes are fine, warnings only if they are expected."""
    report = check(disk)
    wrong = [
        each
        for each in report.findings
        if each.severity is Severity.DAMAGE or (each.severity is Severity.WARNING and not warnings)
    ]
    assert not wrong, "\n".join(f"{each.file} at {each.log_offset}: {each.what} ({each.means})" for each in wrong)
    return report
