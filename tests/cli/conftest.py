"""One running server for all tests of this folder that only need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.server import RunningServer, free_ports, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(tmp_path_factory.mktemp("posthouse") / "data", *free_ports()) as server:
        yield server


@pytest.fixture
def topic(request: pytest.FixtureRequest, server: RunningServer) -> str:
    """A fresh topic with two queues, named after the test."""
    name = "".join(each if each.isalnum() else "-" for each in request.node.name)[:100]
    created = server.run("topic", "create", name, "--queues", "2")
    assert created.returncode == 0, created.stderr
    return name
