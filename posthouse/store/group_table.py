"""Consumer groups as a fold over the log; two views, as in topic_table."""

from __future__ import annotations

from typing import Any

import msgspec

from posthouse.model.group import GroupConfig
from posthouse.model.offsets import LogOffset
from posthouse.store.state_record import Kind


class GroupTable:
    """`live` is what was decided; snapshots are made of what was committed."""

    kinds = (Kind.GROUP_SET, Kind.GROUP_DELETED)

    def __init__(self) -> None:
        self.live: dict[str, GroupConfig] = {}
        self._committed: dict[str, GroupConfig] = {}

    @staticmethod
    def set_body(config: GroupConfig) -> object:
        return {"config": msgspec.to_builtins(config)}

    @staticmethod
    def deleted_body(name: str) -> object:
        return {"name": name}

    def decide(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        _change(self.live, kind, body)

    def apply(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        _change(self._committed, kind, body)

    def fill(self, config: GroupConfig) -> None:
        """A group as the opening of a segment has it, which changes nothing in a table that is whole. For replays."""
        self.live[config.name] = self._committed[config.name] = config

    def snapshot(self) -> object:
        return [msgspec.to_builtins(config) for config in self._committed.values()]

    def restore(self, state: Any) -> None:
        for config in msgspec.convert(state, list[GroupConfig]):
            self._committed[config.name] = self.live[config.name] = config


def _change(table: dict[str, GroupConfig], kind: Kind, body: Any) -> None:
    if kind is Kind.GROUP_DELETED:
        table.pop(body["name"], None)
    else:
        config = msgspec.convert(body["config"], GroupConfig)
        table[config.name] = config
