"""Which consumer groups exist, and how they come to exist: by an admin, or by the first heartbeat or pull."""

from __future__ import annotations

from posthouse.broker.config import BrokerConfig
from posthouse.model.group import GroupConfig
from posthouse.model.limits import GROUPS_MAX, PROPERTIES_BYTES_MAX, QUEUES_PER_TOPIC_MAX
from posthouse.model.names import check_group
from posthouse.model.refusal import Reason, Refused
from posthouse.store.group_table import GroupTable
from posthouse.store.message_store import LogError, MessageStore
from posthouse.store.state_record import Kind


class Groups:
    """The table is a fold over the store's log; this service decides its changes."""

    def __init__(self, store: MessageStore, config: BrokerConfig) -> None:
        self._store = store
        self._config = config
        self._table = store.groups
        self.find = self._table.live.get

    def require(self, name: str) -> GroupConfig:
        """The group, made with defaults if the broker makes groups. Raises Refused."""
        group = self.find(name)
        if group is not None:
            return group
        check_group(name)
        if not self._config.auto_create_groups:
            raise Refused(Reason.GROUP_NOT_EXIST, f"consumer group {name!r} does not exist; create it first")
        self._check_room()
        self._store.check_recordable()
        self._store.record(Kind.GROUP_SET, GroupTable.set_body(GroupConfig(name)), _ignore)
        return self._table.live[name]

    def all(self) -> list[GroupConfig]:
        return list(self._table.live.values())

    async def set(self, config: GroupConfig) -> None:
        """Creates or changes a group, as an admin asks. Raises Refused."""
        check_group(config.name)
        if not 0 <= config.retry_queues <= QUEUES_PER_TOPIC_MAX:
            raise Refused(
                Reason.INVALID_PARAMETER,
                f"{config.retry_queues} retry queues; 0 to {QUEUES_PER_TOPIC_MAX} are possible",
            )
        if sum(len(name) + len(value) for name, value in config.attributes.items()) > PROPERTIES_BYTES_MAX:
            raise Refused(Reason.INVALID_PARAMETER, f"attributes of over {PROPERTIES_BYTES_MAX} characters")
        found = self.find(config.name)
        if found is None:
            self._check_room()
        if found != config:
            await self._store.record_and_wait(Kind.GROUP_SET, GroupTable.set_body(config))
        else:
            await self._store.settled()

    async def delete(self, name: str, with_offsets: bool) -> None:
        """Forgets a group; an unknown one is no error. Raises Refused."""
        if self.find(name) is not None:
            await self._store.record_and_wait(Kind.GROUP_DELETED, {"name": name, "clean_offsets": with_offsets})
        else:
            await self._store.settled()

    def _check_room(self) -> None:
        if len(self._table.live) >= GROUPS_MAX:
            raise Refused(Reason.BUSY, f"this broker has {GROUPS_MAX} groups, which is the limit; delete some")


def _ignore(error: LogError | None) -> None:
    """A group that is lost in a crash is made again by its next heartbeat."""
