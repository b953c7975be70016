"""Errors of a simulated operating system: numbers and words as Linux has them, on every machine alike."""

from __future__ import annotations

import errno

_WORDS = {
    errno.EIO: "Input/output error",
    errno.EBADF: "Bad file descriptor",
    errno.EEXIST: "File exists",
    errno.ENOENT: "No such file or directory",
    errno.ENOSPC: "No space left on device",
    errno.EADDRINUSE: "Address already in use",
    errno.EADDRNOTAVAIL: "Cannot assign requested address",
    errno.ECONNREFUSED: "Connection refused",
    errno.ECONNRESET: "Connection reset by peer",
    errno.ETIMEDOUT: "Connection timed out",
}


def system_error(number: int, name: str | None = None) -> OSError:
    """The OSError, of the subclass that is the number's, that a system call would raise."""
    return OSError(number, _WORDS[number]) if name is None else OSError(number, _WORDS[number], name)


def words_of(number: int) -> str:
    return _WORDS[number]
