"""Opens data folders and files of them for commands that look at a store without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from posthouse.cli.failure import ExitCode, Failure

if TYPE_CHECKING:
    from posthouse.host import Host

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Unreadable(Failure):
    """The store cannot be looked at, so nothing can be said of it."""

    exit_code = ExitCode.USAGE


def data_argument(command: Decorated) -> Decorated:
    """`DIR`, given to the command as `data`."""
    return click.argument("data", metavar="DIR", type=click.Path(exists=True, file_okay=False))(command)


@contextmanager
def stopped_store(data: str, *, for_writing: bool) -> Iterator[Host]:
    """The folder of a store that nobody has open, locked as long as this lasts.

    From a read-only medium it is read without a lock, unless it is `for_writing`. Raises Unreadable.
    """
    from posthouse.host import Host
    from posthouse.host.disk import DiskBusy

    looked_at = Host.real(data, read_only=True)
    _require_store(looked_at, data)
    host = Host.real(data)
    try:
        try:
            host.disk.lock()
        except DiskBusy as error:
            raise Unreadable(
                f"{error}; stop the broker first. `posthouse dump {data}` also reads a live one."
            ) from None
        except OSError as error:
            if for_writing:
                raise Unreadable(f"{data} cannot be written to: {error.strerror or error}.") from None
            host = looked_at
        with readable(data):
            yield host
    finally:
        host.disk.close()


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turns errors of the operating system into Unreadable."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unreadable(f"cannot read {error.filename or what}: {error.strerror or error}.") from error


def open_for_reading(path: str) -> tuple[Host, str]:
    """A host over a data folder and "", or over the folder of a file and the file's name. Takes no lock."""
    from posthouse.host import Host

    host = Host.real(path, read_only=True)
    try:
        host.disk.list("")
    except NotADirectoryError:
        folder, _, name = path.rpartition("/")
        return Host.real(folder or ("/" if path.startswith("/") else "."), read_only=True), name
    _require_store(host, path)
    return host, ""


def _require_store(host: Host, path: str) -> None:
    with readable(path):
        names = host.disk.list("")
    if not {"log", "format", "snapshots", "queues"} & set(names):
        hint = " Name the folder above it." if any(name.endswith(".log") for name in names) else ""
        raise Unreadable(f"{path} is not the data folder of a broker: there is no log in it.{hint}")
