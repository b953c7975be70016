"""`posthouse dump`: the records of a data folder, or of one file, as lines for people or JSON for programs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from posthouse.cli.folder import Unreadable, open_for_reading, readable
from posthouse.cli.moment import Ago, moment
from posthouse.cli.remote import json_option

if TYPE_CHECKING:
    from posthouse.host import Host
    from posthouse.store.dump import Item, Selection

LINES_AT_ONCE: Final = 1000
PAUSE_S: Final = 0.5
"""Between two looks at a log that is followed."""


@dataclass(frozen=True, slots=True)
class _At:
    ms: int


def when(text: str) -> _At | Ago:
    """An option type: `-1h`, `2026-11-22 19:00`, or milliseconds since 1970."""
    from datetime import datetime

    if text.isascii() and text.isdecimal() and 12 <= len(text) <= 15:
        return _At(int(text))
    if text.startswith("-"):
        found = moment(text)
        if isinstance(found, Ago):
            return found
    try:
        return _At(int(datetime.fromisoformat(text).timestamp() * 1000))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time; say -1h (s, m, h, d), 2026-11-22, '2026-11-22 19:00' (local), or milliseconds"
        ) from None


def _choices(command: Callable[..., None]) -> Callable[..., None]:
    """What to show, out of all there is."""
    for option in reversed(
        (
            click.option("--topic", metavar="TOPIC", help="Only messages of this topic."),
            click.option("--queue", "queue_id", type=click.IntRange(0), metavar="N", help="Only this queue."),
            click.option("--key", metavar="KEY", help="Only messages with this key, or this message id."),
            click.option("--tag", metavar="TAG", help="Only messages with this tag."),
            click.option(
                "--kind", "kinds", multiple=True, metavar="KIND", help="message, topic_set, offsets, ...; many."
            ),
            click.option(
                "--from-offset", type=click.IntRange(0), metavar="N", default=0, help="From this log offset on."
            ),
            click.option("--to-offset", type=click.IntRange(0), metavar="N", help="Up to this log offset."),
            click.option("--since", type=when, metavar="TIME", help="Stored since: -1h, or 2026-11-22T19:00."),
            click.option("--until", type=when, metavar="TIME", help="Stored before."),
            click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help="End after so many records."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("path", metavar="DIR|FILE", type=click.Path(exists=True))
@_choices
@click.option("--body", is_flag=True, help="Show bodies, too.")
@click.option("--frames", is_flag=True, help="Show the frames around the records, too.")
@click.option("--follow", is_flag=True, help="Wait for more; ends on Ctrl-C.")
@json_option
def dump(path: str, limit: int | None, body: bool, frames: bool, follow: bool, as_json: bool, **chosen: Any) -> None:
    """Show the records in a data folder, or in one file of it, also while a broker runs.

    A line of a message is: log offset, time stored, topic, queue:offset, size, tag, keys. Reads only; takes no lock.

    \b
    Example:
      posthouse dump posthouse-data --topic orders --since -1h --body
      posthouse dump posthouse-data --frames --from-offset 4096 -n 20
      posthouse dump posthouse-data/lost/00000000000000004096-00000000000000008192.lost
    """
    from posthouse.cli.logs import set_up_logging
    from posthouse.store.dump import DumpError, dump_file

    set_up_logging("error")
    host, name = open_for_reading(path)
    selection = _selection(host, **chosen)
    screen = _Screen(as_json, body, limit)
    try:
        with readable(path):
            if not name:
                _show_store(host, selection, screen, frames, follow)
                return
            if follow:
                raise click.UsageError("--follow needs a data folder, not a single file.")
            file = host.disk.open(name)
            screen.show(dump_file(file, selection, frames=frames, base=_base_of(name)))
    except DumpError as error:
        raise Unreadable(str(error)) from error
    except KeyboardInterrupt:
        return  # the ordinary end of --follow


def _selection(
    host: Host, topic: str | None, queue_id: int | None, key: str | None, tag: str | None, kinds: tuple[str, ...],
    from_offset: int, to_offset: int | None, since: _At | Ago | None, until: _At | Ago | None,
) -> Selection:  # fmt: skip
    from posthouse.host.clock import EpochMs
    from posthouse.model.offsets import LogOffset
    from posthouse.store.dump import KINDS, Selection

    def at(moment: _At | Ago | None) -> EpochMs | None:
        if moment is None:
            return None
        return EpochMs(moment.ms if isinstance(moment, _At) else host.clock.now_ms() - moment.ms)

    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise click.BadParameter(f"there is no kind {unknown[0]!r}; kinds are {', '.join(KINDS)}", param_hint="--kind")
    to = None if to_offset is None else LogOffset(to_offset)
    return Selection(
        topic or "", queue_id, key or "", tag or "", LogOffset(from_offset), to, at(since), at(until), frozenset(kinds)
    )


def _show_store(host: Host, selection: Selection, screen: _Screen, frames: bool, follow: bool) -> None:
    from posthouse.store.dump import Dump

    reader = Dump(host.disk, selection, frames=frames)
    screen.show(reader.more(follow=follow))
    if follow:
        import asyncio

        async def go_on() -> None:
            while not screen.is_full:
                await asyncio.sleep(PAUSE_S)
                screen.show(reader.more(follow=True))

        asyncio.run(go_on())


def _base_of(name: str) -> Any:
    """The log offset of a file's first byte, from its name; None if the name does not say."""
    from posthouse.model.offsets import LogOffset

    found = re.search(r"(\d{20})(?:-\d{20})?\.(?:log|lost)", name)
    return None if found is None else LogOffset(int(found[1]))


class _Screen:
    """Writes items in batches, as many as are wanted."""

    def __init__(self, as_json: bool, body: bool, limit: int | None) -> None:
        from posthouse.cli.record_lines import item_document, item_line

        self._line: Callable[[Item, bool], str] = item_document if as_json else item_line
        self._body = body
        self._left = limit
        self.is_full = False

    def show(self, items: Iterator[Item]) -> None:
        lines: list[str] = []
        for item in items:
            lines.append(self._line(item, self._body))
            if self._counts(item) or len(lines) >= LINES_AT_ONCE:
                self._flush(lines)
                if self.is_full:
                    return
        self._flush(lines)

    def _counts(self, item: Item) -> bool:
        """Whether this was the last one that is wanted."""
        from posthouse.store.dump import Shown

        if self._left is not None and isinstance(item, Shown):
            self._left -= 1
            self.is_full = not self._left
        return self.is_full

    def _flush(self, lines: list[str]) -> None:
        if lines:
            click.echo("\n".join(lines))
            lines.clear()
