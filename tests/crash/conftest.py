"""The option `--cycles`, and what the kill loop measured, shown at the end."""

from __future__ import annotations

import pytest

CYCLES = 50
MEASURED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cycles", type=int, default=CYCLES, help="how often the kill loop kills the server (default: %(default)s)"
    )


@pytest.fixture
def cycles(request: pytest.FixtureRequest) -> int:
    """From the option; its default also when pytest was started further up and has not read this file in time."""
    found = request.config.getoption("--cycles", CYCLES)
    assert isinstance(found, int)
    return found


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> list[str]:
    """Lines for the terminal's summary."""
    return request.config.stash.setdefault(MEASURED, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(MEASURED, []):
        terminalreporter.write_line(line)
