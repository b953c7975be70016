"""Reads tests/golden: bytes as hex that a person can read, and the origin of each in its first line."""

from __future__ import annotations

from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def golden(name: str) -> bytes:
    """The bytes of one file. Lines that begin with # are comments, blanks separate fields."""
    lines = (GOLDEN / f"{name}.hex").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# origin: "), f"{name}.hex does not say where it is from"
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))
