"""Who serves which topic: what brokers have registered, and for how long it is believed.

Two tables. `_groups`: broker name -> its members by id (0 is the master, the others are slaves); a member is one
live registration. `_topics`: topic -> broker name -> queue data. All of it is soft state: it comes from
registrations, goes with unregistration, silence or a closed connection, and starts empty. A NameServer knows no
other NameServer.

What must stay true (`check_invariants`)
- A group has at least one member, and no two members of a group have the same registered address.
- A topic has at least one entry, and every entry names a group that is there. So a topic that is found has a route.
- A refused registration changes nothing.

Where we differ from RocketMQ, on purpose: a registration that takes an id over from another address also forgets
that address's registration, so that its broker is told to register again instead of waiting unseen; all brokers
of a lost connection go, not just one.

Source: RocketMQ 5.3 RouteInfoManager, ZoneRouteRPCHook.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import msgspec

from posthouse.model.limits import BROKER_EXPIRY_MS, BROKER_NAME_BYTES_MAX, BROKERS_MAX, TOPICS_MAX
from posthouse.model.refusal import Reason, Refused
from posthouse.model.registration import Registration
from posthouse.model.route import (
    MASTER_ID,
    BrokerData,
    BrokerMemberGroup,
    ClusterInfo,
    DataVersion,
    QueueData,
    TopicRoute,
)
from posthouse.model.topic import Perm
from posthouse.nameserver.addresses import BrokerAddress, Origin
from posthouse.nameserver.config import NameServerConfig

log = logging.getLogger(__name__)

_UNIT = 1  # bits of a topic's sys flag
_UNIT_SUB = 2


class Connection(Protocol):
    """What a broker registered on; only its identity matters, and that it can be closed."""

    def close(self, why: str) -> None: ...


class BrokerIdentity(NamedTuple):
    """How a broker names itself in every request. `address` is its text, compared as text."""

    cluster: str
    name: str
    address: str
    broker_id: int


class BrokerTraits(NamedTuple):
    """What a broker says of itself beside its topics."""

    ha_address: str = ""
    """Where slaves copy from; may be empty."""
    timeout_ms: int | None = None
    """How long it may be silent; None for BROKER_EXPIRY_MS."""
    acting_master: bool | None = None
    """Whether a slave may act as master; None from a broker of the 4.x line, which cannot say."""
    zone: str | None = None


class Registered(NamedTuple):
    """The answer to a registration: where a slave finds its master, when that is known."""

    master_address: str | None = None
    ha_address: str | None = None


@dataclass(slots=True)
class _Member:
    """One live registration."""

    identity: BrokerIdentity
    address: BrokerAddress
    ha_address: str
    data_version: DataVersion
    timeout_ms: int
    heard_at_s: float
    connection: Connection
    origin: Origin


@dataclass(slots=True)
class _Group:
    """The brokers of one name."""

    cluster: str
    members: dict[int, _Member] = field(default_factory=dict)
    acting_master: bool = False
    zone: str | None = None

    @property
    def has_master(self) -> bool:
        return MASTER_ID in self.members

    def at(self, address: str) -> _Member | None:
        for member in self.members.values():
            if member.identity.address == address:
                return member
        return None


class Routes:
    """Plain tables, no input or output; `now_s` is monotonic. `config` may be replaced while it runs."""

    def __init__(self, now_s: Callable[[], float], config: NameServerConfig) -> None:
        self.config = config
        self._now_s = now_s
        self._groups: dict[str, _Group] = {}
        self._topics: dict[str, dict[str, QueueData]] = {}

    # What brokers say

    def register(
        self,
        who: BrokerIdentity,
        registration: Registration,
        traits: BrokerTraits,
        connection: Connection,
        origin: Origin,
    ) -> Registered:
        """Takes a registration in. Raises Refused: INVALID_PARAMETER past a limit, FAILED when it comes too early."""
        address = self._checked(who, registration, traits, origin)
        group = self._groups.get(who.name)
        holder = None if group is None else group.members.get(who.broker_id)
        if holder is None and len(registration.topics) == 1:
            raise Refused(
                Reason.FAILED,
                f"register broker failed: {who.name} with id {who.broker_id} is not registered yet; "
                "a single topic can be added only after its whole table",
            )
        if group is None:
            group = self._groups[who.name] = _Group(who.cluster)
        group.acting_master = bool(traits.acting_master)
        group.zone = traits.zone or None
        before = group.at(who.address)
        if before is not None and before.identity.broker_id != who.broker_id:
            del group.members[before.identity.broker_id]  # a slave became master, or the reverse
        if holder is not None and _outranks(holder, who, registration):
            return Registered()
        timeout_ms = traits.timeout_ms if traits.timeout_ms is not None and traits.timeout_ms > 0 else BROKER_EXPIRY_MS
        group.members[who.broker_id] = _Member(
            who, address, traits.ha_address, registration.version, timeout_ms, self._now_s(), connection, origin
        )
        # The master gives the topics; without one, in a 5.x group, the slave with the smallest id.
        prime_slave = traits.acting_master is not None and who.broker_id == min(group.members)
        if who.broker_id == MASTER_ID or prime_slave:
            changed = holder is None or before is None or before.data_version != registration.version
            self._take_topics(group, who, registration, changed)
        if before is None:
            log.info("broker %s registered: id %d at %s", who.name, who.broker_id, who.address)
        return Registered() if who.broker_id == MASTER_ID else self._master_of(group, origin)

    def unregister(self, who: BrokerIdentity) -> None:
        """A broker says that it stops. Nothing happens if it is not known."""
        group = self._groups.get(who.name)
        member = None if group is None else group.at(who.address)
        if member is not None:
            self._forget([member])

    def query_data_version(self, who: BrokerIdentity, version: DataVersion) -> tuple[bool, DataVersion | None]:
        """Whether the broker's table differs from what is known here, and the version that is. Counts as a sign of
        life, as brokers do not register while nothing changes."""
        member = self._find(who)
        if member is None:
            return True, None
        member.heard_at_s = self._now_s()
        return member.data_version != version, member.data_version

    def heartbeat(self, who: BrokerIdentity) -> None:
        """A sign of life, and nothing more."""
        member = self._find(who)
        if member is not None:
            member.heard_at_s = self._now_s()

    # What ends a registration by itself

    def connection_lost(self, connection: Connection) -> None:
        """Forgets the brokers that registered on it, unless they have registered on another one since."""
        self._forget([member for member in self._members() if member.connection is connection])

    def expire(self) -> list[Connection]:
        """Forgets brokers that were silent for longer than their time; gives the connections that are now without
        any broker, for the caller to close."""
        now_s = self._now_s()
        silent = [member for member in self._members() if member.heard_at_s + member.timeout_ms / 1000 < now_s]
        if not silent:
            return []
        self._forget(silent)
        for member in silent:
            log.warning("broker %s was silent for %d ms: forgotten", member.identity.name, member.timeout_ms)
        used = {id(member.connection) for member in self._members()}
        idle = {id(member.connection): member.connection for member in silent}
        return [connection for key, connection in idle.items() if key not in used]

    # What clients ask

    def route(self, topic: str, dialled_host: str, zone: str | None = None) -> TopicRoute:
        """Queues of a topic and the brokers that have them; with `zone`, only brokers near it or without a master.

        Raises Refused(TOPIC_NOT_EXIST).
        """
        entries = self._topics.get(topic)
        if entries is None:
            raise Refused(Reason.TOPIC_NOT_EXIST, f"no broker has registered the topic {topic!r} here")
        brokers = {name: self._broker_data(name, dialled_host) for name in entries}
        if self.config.support_acting_master:
            brokers = {name: self._with_acting_master(data, entries[name]) for name, data in brokers.items()}
        if zone is not None:
            near = {name: data for name, data in brokers.items() if _is_near(data, zone)}
            return TopicRoute(tuple(entries[name] for name in near), tuple(near.values()))
        return TopicRoute(tuple(entries.values()), tuple(brokers.values()))

    def cluster_info(self, dialled_host: str) -> ClusterInfo:
        brokers = {name: self._broker_data(name, dialled_host) for name in self._groups}
        return ClusterInfo(brokers, {cluster: tuple(names) for cluster, names in self._clusters().items()})

    def member_group(self, cluster: str, name: str, dialled_host: str) -> BrokerMemberGroup:
        """The brokers of one name, whatever their cluster; without addresses when it is not known."""
        group = self._groups.get(name)
        return BrokerMemberGroup(cluster, name, {} if group is None else _addresses(group, dialled_host))

    # Lists of topics

    def topics(self) -> list[str]:
        return list(self._topics)

    def topics_of_cluster(self, cluster: str) -> list[str]:
        """Topics that a broker of the cluster has; empty when there is no such cluster."""
        names = self._clusters().get(cluster, {})
        return [topic for topic, entries in self._topics.items() if not names.keys().isdisjoint(entries)]

    def system_topics(self, dialled_host: str) -> tuple[list[str], str | None]:
        """The names of all clusters and brokers, each of which is a topic too, and the address of some broker."""
        names = [name for cluster, brokers in self._clusters().items() for name in (cluster, *brokers)]
        for member in self._members():
            return names, member.address.told(dialled_host)
        return names, None

    def unit_topics(self) -> list[str]:
        return self._topics_flagged(_UNIT, _UNIT)

    def unit_subscribed_topics(self) -> list[str]:
        return self._topics_flagged(_UNIT_SUB, _UNIT_SUB)

    def unit_subscribed_plain_topics(self) -> list[str]:
        """Topics with a unit subscription that are no unit topics themselves."""
        return self._topics_flagged(_UNIT | _UNIT_SUB, _UNIT_SUB)

    # What operators change

    def wipe_write_permission(self, name: str) -> int:
        """Takes the write bit from every topic of a broker, here only; gives the number of its topics.

        The broker's next registration with a new data version sets its own permissions again.
        """
        return self._permit(name, lambda perm: perm & ~Perm.WRITE)

    def add_write_permission(self, name: str) -> int:
        """Makes every topic of a broker readable and writable; gives the number of its topics."""
        return self._permit(name, lambda perm: Perm.READ_WRITE)

    def register_topic(self, topic: str, entries: Iterable[QueueData]) -> None:
        """Sets a topic's entries for the brokers that are named and known; others are left as they are.

        Raises Refused(INVALID_PARAMETER) past a limit.
        """
        known = {entry.broker_name: entry for entry in entries if entry.broker_name in self._groups}
        if known:
            self._check_topics([topic])
            self._topics.setdefault(topic, {}).update(known)

    def delete_topic(self, topic: str, cluster: str | None = None) -> None:
        """Forgets a topic, or its entries of one cluster. A broker that still has it may bring it back."""
        entries = self._topics.get(topic)
        if entries is None:
            return
        names = list(entries) if cluster is None else self._clusters().get(cluster, {})
        for name in names:
            entries.pop(name, None)
        if not entries:
            del self._topics[topic]

    def check_invariants(self) -> None:
        for group in self._groups.values():
            assert group.members, "a group without members"
            addresses = {member.identity.address for member in group.members.values()}
            assert len(addresses) == len(group.members), "two members of a group with one address"
            assert all(member.identity.broker_id == key for key, member in group.members.items())
        for topic, entries in self._topics.items():
            assert entries, f"{topic} without entries"
            assert entries.keys() <= self._groups.keys(), f"{topic} names a broker that is not there"
            assert all(entry.broker_name == name for name, entry in entries.items())

    # Registration, step by step

    def _checked(
        self, who: BrokerIdentity, registration: Registration, traits: BrokerTraits, origin: Origin
    ) -> BrokerAddress:
        for what, text in (("cluster name", who.cluster), ("broker name", who.name), ("address", who.address)):
            if not text:
                raise Refused(Reason.INVALID_PARAMETER, f"the {what} of the broker is empty")
            _check_size(what, text)
        _check_size("replication address", traits.ha_address)
        _check_size("zone", traits.zone or "")
        if who.broker_id < MASTER_ID:
            raise Refused(Reason.INVALID_PARAMETER, f"broker id {who.broker_id}: 0 is a master, slaves are above")
        self._check_topics(registration.topics)
        if self._find(who) is None and sum(1 for _ in self._members()) >= BROKERS_MAX:
            raise Refused(Reason.INVALID_PARAMETER, f"{BROKERS_MAX} brokers are registered, and that is the limit")
        try:
            return BrokerAddress.of(who.address, origin)
        except ValueError as error:
            raise Refused(Reason.INVALID_PARAMETER, f"the broker's address: {error}") from None

    def _check_topics(self, topics: Iterable[str]) -> None:
        new = 0
        for topic in topics:
            if topic not in self._topics:
                new += 1
                _check_size("topic name", topic)
        if len(self._topics) + new > TOPICS_MAX:
            raise Refused(
                Reason.INVALID_PARAMETER,
                f"this NameServer knows {len(self._topics)} topics and the limit is {TOPICS_MAX}; {new} are new",
            )

    def _take_topics(self, group: _Group, who: BrokerIdentity, registration: Registration, changed: bool) -> None:
        """`changed`: everything is replaced; else only what is missing here comes in."""
        name = who.name
        read_only = who.broker_id != MASTER_ID and group.acting_master
        if self.config.delete_topic_with_broker_registration:
            for topic in [t for t, entries in self._topics.items() if name in entries and t not in registration.topics]:
                self._drop_entry(topic, name)
        for topic, config in registration.topics.items():
            entries = self._topics.setdefault(topic, {})
            if changed or name not in entries:
                perm = config.perm & ~Perm.WRITE if read_only else config.perm
                entries[name] = QueueData(name, config.read_queues, config.write_queues, perm, config.sys_flag)

    @staticmethod
    def _master_of(group: _Group, origin: Origin) -> Registered:
        master = group.members.get(MASTER_ID)
        if master is None:
            return Registered()
        ha_address = master.ha_address
        try:
            ha_address = BrokerAddress.of(ha_address, master.origin).told(origin.local_host)
        except ValueError:  # empty, or words of its own: the slave knows what to make of it
            pass
        return Registered(master.address.told(origin.local_host), ha_address)

    # Forgetting

    def _forget(self, gone: Iterable[_Member]) -> None:
        removed: set[str] = set()
        headless: set[str] = set()
        for member in gone:
            name, broker_id = member.identity.name, member.identity.broker_id
            group = self._groups[name]
            assert group.members[broker_id] is member
            del group.members[broker_id]
            log.info("broker %s: id %d at %s is gone", name, broker_id, member.identity.address)
            if not group.members:
                del self._groups[name]
                headless.discard(name)
                removed.add(name)
            elif group.acting_master and not group.has_master:
                headless.add(name)
        for topic in list(self._topics) if removed else ():
            for name in removed:
                self._drop_entry(topic, name)
        for name in headless:
            self.wipe_write_permission(name)

    def _drop_entry(self, topic: str, name: str) -> None:
        entries = self._topics.get(topic)
        if entries is not None and entries.pop(name, None) is not None and not entries:
            del self._topics[topic]

    # Looking

    def _members(self) -> Iterator[_Member]:
        for group in self._groups.values():
            yield from group.members.values()

    def _find(self, who: BrokerIdentity) -> _Member | None:
        group = self._groups.get(who.name)
        member = None if group is None else group.at(who.address)
        return member if member is not None and member.identity.cluster == who.cluster else None

    def _clusters(self) -> dict[str, dict[str, None]]:
        """Cluster -> names of its brokers, in order of registration."""
        found: dict[str, dict[str, None]] = {}
        for member in self._members():
            found.setdefault(member.identity.cluster, {})[member.identity.name] = None
        return found

    def _broker_data(self, name: str, dialled_host: str) -> BrokerData:
        group = self._groups[name]
        return BrokerData(group.cluster, name, _addresses(group, dialled_host), group.zone, group.acting_master)

    def _with_acting_master(self, data: BrokerData, entry: QueueData) -> BrokerData:
        """The smallest id shown as 0, where a group without a master wants that and takes no writes."""
        if MASTER_ID in data.addresses or not data.enable_acting_master or entry.perm & Perm.WRITE:
            return data
        first = min(data.addresses)
        others = {key: address for key, address in data.addresses.items() if key != first}
        return replace(data, addresses={MASTER_ID: data.addresses[first], **others})

    def _topics_flagged(self, mask: int, wanted: int) -> list[str]:
        """By the flags of a topic's first entry."""
        flags = ((topic, next(iter(entries.values())).topic_sys_flag) for topic, entries in self._topics.items())
        return [topic for topic, flag in flags if flag & mask == wanted]

    def _permit(self, name: str, change: Callable[[int], int]) -> int:
        count = 0
        for entries in self._topics.values():
            if name in entries:
                entries[name] = replace(entries[name], perm=change(entries[name].perm))
                count += 1
        return count


def _addresses(group: _Group, dialled_host: str) -> dict[int, str]:
    return {key: member.address.told(dialled_host) for key, member in sorted(group.members.items())}


def _is_near(data: BrokerData, zone: str) -> bool:
    return MASTER_ID not in data.addresses or (data.zone_name or "").lower() == zone.lower()


def _check_size(what: str, text: str) -> None:
    size = len(msgspec.json.encode(text)) - 2
    if size > BROKER_NAME_BYTES_MAX:
        raise Refused(
            Reason.INVALID_PARAMETER,
            f"the {what} {text[:60]!r} takes {size} bytes; the limit is {BROKER_NAME_BYTES_MAX}",
        )


def _outranks(holder: _Member, who: BrokerIdentity, registration: Registration) -> bool:
    """Whether the holder of the id is another broker that was elected later: then the newcomer is ignored."""
    held_at = holder.identity.address
    if held_at == who.address:
        return False
    outranks = holder.data_version.state_version > registration.version.state_version
    what = "stays with %s, %s is ignored" if outranks else "moves from %s to %s"
    log.warning(f"broker %s: id %d {what}", who.name, who.broker_id, held_at, who.address)
    return outranks
