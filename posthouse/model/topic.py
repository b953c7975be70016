"""A topic's configuration: how many queues, who may read and write. Source: RocketMQ 5.3 TopicConfig."""

from __future__ import annotations

from dataclasses import dataclass, field


class Perm:
    """Permission bits of a topic on a broker."""

    INHERIT = 1  # unknown topics may be made from this one
    WRITE = 2
    READ = 4
    PRIORITY = 8
    READ_WRITE = READ | WRITE


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """`read_queues` and `write_queues` are counts; ids run from 0. `attributes` is text to text (message.type, ...)."""

    name: str
    read_queues: int = 16
    write_queues: int = 16
    perm: int = Perm.READ_WRITE
    filter_type: str = "SINGLE_TAG"
    sys_flag: int = 0
    order: bool = False
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def queues(self) -> int:
        """Queues that exist in either direction; a send is accepted for any id below it."""
        return max(self.read_queues, self.write_queues)

    @property
    def readable(self) -> bool:
        return bool(self.perm & Perm.READ)

    @property
    def writable(self) -> bool:
        return bool(self.perm & Perm.WRITE)
