"""Logging of this process: one line a record, to stderr. Nothing outside the command line sets up logging."""

from __future__ import annotations

import logging
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")

_LINE: Final = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"


class OneLine(logging.Formatter):
    """A record as one line; a traceback stays on it, with its line ends written as `\\n`."""

    def __init__(self) -> None:
        super().__init__(_LINE, datefmt="%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\\n")


def set_up_logging(level: str) -> None:
    """`level` is one of LEVELS."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level.upper(), handlers=[handler])
