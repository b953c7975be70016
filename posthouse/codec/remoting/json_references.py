"""Back-references in fastjson's output: `{"$ref":"$.brokers[0]"}` stands for an object that came before.

We resolve a path from the root to a container that is already complete; so no cycle can come to be. All else (`@`,
`..`, a path into a container that is still open, one that leads nowhere) is refused. How much a body may grow by
being shared is bounded, too.
Source: fastjson 1.2 SerialContext, DefaultJSONParser.
"""

from __future__ import annotations

import re
from typing import Any

from posthouse.codec.remoting.frame import WireError

NESTING_MAX = 64
"""Levels of objects and arrays. RocketMQ's own bodies have at most six."""

NODES_MAX = 1_000_000
"""Values in a body with references, each counted as often as it is referred to."""

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,9})\]")


def resolve_references(root: Any) -> Any:
    """The value with its references replaced; shared containers stay shared. Raises WireError."""
    return _Resolver(root).visit(root, 0)


class _Resolver:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._complete: dict[int, tuple[int, int]] = {}  # containers by identity: nodes in them, levels below
        self._nodes = 0

    def visit(self, value: Any, depth: int) -> Any:
        if depth > NESTING_MAX:
            raise WireError(f"JSON that is nested deeper than {NESTING_MAX}")
        before = self._nodes
        self._count(1)
        if isinstance(value, dict):
            path = value.get("$ref")
            if len(value) == 1 and isinstance(path, str):
                return self._target(path, depth)
            for key, member in value.items():
                value[key] = self.visit(member, depth + 1)
            members = list(value.values())
        elif isinstance(value, list):
            value[:] = members = [self.visit(member, depth + 1) for member in value]
        else:
            return value
        levels = [self._complete[id(each)][1] for each in members if isinstance(each, (dict, list))]
        self._complete[id(value)] = (self._nodes - before, 1 + max(levels, default=0))
        return value

    def _target(self, path: str, depth: int) -> Any:
        found = self._walk(path)
        complete = self._complete.get(id(found)) if isinstance(found, (dict, list)) else None
        if complete is None:
            raise WireError(f"the JSON's reference {path[:80]!r} leads to nothing that came before")
        nodes, levels = complete
        if depth + levels > NESTING_MAX:
            raise WireError(f"JSON that is nested deeper than {NESTING_MAX}")
        self._count(nodes)
        return found

    def _walk(self, path: str) -> Any:
        found, at = self._root, 1
        if not path.startswith("$"):
            return None
        while at < len(path):
            step = _STEP.match(path, at)
            if step is None:
                return None
            name, index = step.groups()
            if name is not None and isinstance(found, dict):
                found = found.get(name)
            elif index is not None and isinstance(found, list) and int(index) < len(found):
                found = found[int(index)]
            elif index is not None and isinstance(found, dict):  # a key that was a bare number
                found = found.get(index)
            else:
                return None
            at = step.end()
        return found

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > NODES_MAX:
            raise WireError(f"JSON whose references make more than {NODES_MAX} values of it")
