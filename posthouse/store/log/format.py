"""The data folder's format: a file that says which version of the layout the folder holds.

It is written into a folder that has no log yet, before the first segment, so a segment without it is from before
there were formats. Nothing is read or changed in a folder of another format.
"""

from __future__ import annotations

from posthouse.host.disk import Disk
from posthouse.store.log.engine import LogDamaged
from posthouse.store.log.segments import segment_bases

FORMAT = 2
NAME = "format"
_WORD = "posthouse"
_CONTENT = f"{_WORD} {FORMAT}\n".encode()


def check_format(disk: Disk) -> None:
    """Writes the format into a folder without a log; refuses any other one. Waits. Raises LogDamaged, OSError."""
    try:
        content = disk.read_file(NAME)
    except FileNotFoundError:
        if segment_bases(disk):
            raise LogDamaged(
                f"{disk.place} holds format 1, of a development version; this version of Posthouse reads format "
                f"{FORMAT}: move the folder away and start empty"
            ) from None
        disk.write_file(NAME, _CONTENT)
        return
    if content == _CONTENT:
        return
    word, _, number = content.decode("ascii", "replace").strip().partition(" ")
    if word == _WORD and number.isdecimal():
        raise LogDamaged(
            f"{disk.place} holds format {number}; this version of Posthouse reads format {FORMAT}: "
            f"start the version that wrote it"
        )
    raise LogDamaged(
        f"{NAME} in {disk.place} is damaged: it holds {content[:40]!r}; in a folder of format {FORMAT} it holds "
        f"{_CONTENT!r} and nothing else"
    )
