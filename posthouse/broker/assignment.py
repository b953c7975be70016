"""Which queues a member of a group reads, for clients that ask the broker instead of sharing by themselves.

The answer is computed from the queues of the topic in the whole cluster (asked from a NameServer, kept a moment) and
the members that this broker knows; the strategies are those of the clients. How the messages are had, by pull or by
pop, is set by an admin for a group on a topic; with pop, members may share queues.
Source: RocketMQ 5.3 QueryAssignmentProcessor, MessageRequestModeManager.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from posthouse.broker.clients import Clients
from posthouse.broker.groups import Groups
from posthouse.broker.topics import Topics
from posthouse.model.allocation import STRATEGIES, Strategy, java_order
from posthouse.model.group import GroupRule, MessageModel, RequestMode
from posthouse.model.message import MessageQueue
from posthouse.model.names import RETRY_PREFIX, check_topic
from posthouse.model.refusal import Reason, Refused

ALL_QUEUES = -1
"""The queue id that stands for every queue of a broker, in pop mode."""


class ClusterQueues(Protocol):
    async def read_queues(self, topic: str) -> Sequence[MessageQueue]:
        """All queues of the topic in the cluster that may be read; empty if there is no such topic."""


class Assigned(NamedTuple):
    """`queues` None: it cannot be said now, the client keeps what it has; empty: it has nothing to read."""

    queues: tuple[MessageQueue, ...] | None
    mode: RequestMode = RequestMode.PULL


class Assignments:
    def __init__(
        self,
        topics: Topics,
        groups: Groups,
        clients: Clients,
        cluster: ClusterQueues,
    ) -> None:
        self._topics = topics
        self._groups = groups
        self._clients = clients
        self._cluster = cluster

    def mode(self, topic: str, group: str) -> GroupRule:
        """How members get messages of a topic: `mode` is never None here. Retry topics are always pulled."""
        rule = self._groups.rule(group, topic)
        if topic.startswith(RETRY_PREFIX) or rule.mode is None:
            return replace(rule, mode=RequestMode.PULL)
        return rule

    async def set_mode(self, topic: str, group: str, mode: RequestMode, share_queues: int) -> None:
        """Raises Refused: NO_PERMISSION, TOPIC_NOT_EXIST, GROUP_NOT_EXIST."""
        if topic.startswith(RETRY_PREFIX):
            raise Refused(Reason.NO_PERMISSION, f"{topic!r} is a retry topic: these are always pulled")
        self._topics.require(topic)
        self._groups.known(group)
        rule = self._groups.rule(group, topic)
        await self._groups.set_rule(replace(rule, mode=mode, share_queues=share_queues))

    def modes(self) -> list[GroupRule]:
        """Those that were set."""
        return [rule for rule in self._groups.rules() if rule.mode is not None]

    async def assign(self, group: str, topic: str, client_id: str, strategy_name: str, model: MessageModel) -> Assigned:
        """Raises Refused(INVALID_PARAMETER) for what is no topic's name."""
        check_topic(topic)
        rule = self.mode(topic, group)
        assert rule.mode is not None
        queues = sorted(await self._cluster.read_queues(topic))
        if not queues:
            return Assigned(None, rule.mode)
        if model is MessageModel.BROADCASTING:
            return Assigned(tuple(queues), rule.mode)
        strategy = STRATEGIES.get(strategy_name)
        found = self._clients.consumer_group(group)
        if strategy is None or found is None or not found.members:
            return Assigned(None, rule.mode)
        members = sorted({member.client.client_id for member in found.members.values()}, key=java_order)
        if rule.mode is RequestMode.POP:
            return Assigned(_to_pop(client_id, members, queues, strategy, rule.share_queues), rule.mode)
        return Assigned(tuple(strategy(client_id, members, queues)), rule.mode)


def _to_pop(
    client_id: str, members: Sequence[str], queues: Sequence[MessageQueue], strategy: Strategy, share: int
) -> tuple[MessageQueue, ...]:
    """A member's queues in pop mode: all of every broker; or its own share and those of the next `share` members."""
    if share <= 0 or share >= len(members) - 1:
        return tuple(dict.fromkeys(queue._replace(queue_id=ALL_QUEUES) for queue in queues))
    if client_id not in members:
        return ()
    at = members.index(client_id)
    if len(members) > len(queues):  # nobody stays without
        return (queues[at % len(queues)],)
    shares = (strategy(members[(at + step) % len(members)], members, queues) for step in range(share + 1))
    return tuple(dict.fromkeys(queue for each in shares for queue in each))
