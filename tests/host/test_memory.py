from __future__ import annotations

import pytest

from posthouse.host.disk import Disk
from posthouse.host.memory import MemoryDisk
from tests.host.disk_suite import DiskSuite


class TestMemoryDisk(DiskSuite):
    @pytest.fixture(autouse=True)
    def _one(self) -> None:
        self._disk = MemoryDisk()

    def make_disk(self) -> Disk:
        return self._disk

    def test_usage_is_what_the_files_hold(self, disk: Disk) -> None:
        disk.open("log/a", create=True).truncate(5000)
        assert disk.usage()[0] == 5000
