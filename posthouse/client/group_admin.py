"""Questions and orders about consumer groups: part of Admin.

Each broker keeps its own word about a group, so orders go to all masters and answers of all are put together.
Source: RocketMQ 5.3 DefaultMQAdminExtImpl.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from posthouse.client.asking import Asking, read_answer
from posthouse.client.errors import BrokerRefused, NoBroker
from posthouse.codec.remoting.bodies.assignment import decode_request_modes, encode_request_mode
from posthouse.codec.remoting.bodies.client_status import decode_reset_offsets
from posthouse.codec.remoting.bodies.consumers import decode_consumer_connections
from posthouse.codec.remoting.bodies.groups import (
    decode_group_config,
    decode_group_list,
    decode_group_table,
    decode_readable,
    encode_group_config,
)
from posthouse.codec.remoting.bodies.resets import decode_correction
from posthouse.codec.remoting.bodies.stats import decode_group_stats
from posthouse.codec.remoting.bodies.time_spans import decode_time_spans
from posthouse.codec.remoting.bodies.topics import decode_topic_list
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers.offsets import OFFSET_REPLY
from posthouse.codec.remoting.headers.resets import CLONE_OFFSETS, RESET_OFFSETS, CloneOffsets, ResetOffsets
from posthouse.host.net import Address
from posthouse.model.connection import ConsumerConnections
from posthouse.model.group import GroupConfig, GroupRule, RequestMode
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.stats import GroupStats, QueueProgress, QueueTimes

_ABSENT = frozenset(
    {ResponseCode.TOPIC_NOT_EXIST, ResponseCode.QUERY_NOT_FOUND, ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST}
)
"""A broker that says so has nothing to add."""

_DAY_MS = 86_400_000  # clocks of two machines may differ
_NO_MEMBERS = frozenset({ResponseCode.CONSUMER_NOT_ONLINE})


@dataclass(frozen=True, slots=True)
class QueueLag:
    """How far behind a group is on one queue. `lag_ms`: how old the first message is that it has not consumed; 0 when
    there is none, None when the broker does not say.
    """

    progress: QueueProgress
    lag_ms: int | None

    @property
    def messages(self) -> int:
        return max(0, self.progress.backlog)


class GroupAdmin(Asking):
    """All calls raise PosthouseError."""

    # What there is

    async def group_configs(self) -> dict[str, dict[str, GroupConfig]]:
        """All groups, by name and by broker."""
        found: dict[str, dict[str, GroupConfig]] = {}
        asked = RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG
        for broker, answer in (await self._ask_all_masters(asked, None, b"", "name the groups")).items():
            for name, config in read_answer("the groups", decode_group_table, answer).groups.items():
                found.setdefault(name, {})[broker] = config
        return dict(sorted(found.items()))

    async def group_config(self, group: str, broker: str | Address) -> GroupConfig:
        """As one broker has it. Raises BrokerRefused when it knows no such group."""
        address = await self._broker_address(broker)
        asked = RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG
        answer = await self._ask_broker(address, asked, {"group": group}, b"", f"show group {group}")
        return read_answer(f"the configuration of group {group}", decode_group_config, answer)

    async def groups_on(self, topic: str) -> tuple[str, ...]:
        """Groups that want the topic, or have offsets in it."""
        asked, doing = RequestCode.QUERY_TOPIC_CONSUME_BY_WHO, f"name the groups of topic {topic}"
        answers = await self._ask_all_masters(asked, {"topic": topic}, b"", doing, passing=_ABSENT)
        names = (read_answer("the groups", decode_group_list, answer) for answer in answers.values())
        return tuple(sorted({name for each in names for name in each}))

    async def group_topics(self, group: str) -> tuple[str, ...]:
        """Topics in which the group has offsets."""
        asked, doing = RequestCode.QUERY_TOPICS_BY_CONSUMER, f"name the topics of group {group}"
        answers = await self._ask_all_masters(asked, {"group": group}, b"", doing, passing=_ABSENT)
        lists = (read_answer("the topics", decode_topic_list, answer).topics for answer in answers.values())
        return tuple(sorted({topic for topics in lists for topic in topics}))

    async def group_connections(self, group: str, broker: str | Address) -> ConsumerConnections:
        """The group's members as one broker knows them."""
        address = await self._broker_address(broker)
        ext = {"consumerGroup": group}
        doing = f"name the members of group {group}"
        answer = await self._ask_broker(address, RequestCode.GET_CONSUMER_CONNECTION_LIST, ext, b"", doing)
        return read_answer(f"the members of group {group}", decode_consumer_connections, answer)

    async def group_members(self, group: str) -> dict[str, ConsumerConnections]:
        """The members that each broker knows; without the brokers that know none."""
        asked, doing = RequestCode.GET_CONSUMER_CONNECTION_LIST, f"name the members of group {group}"
        answers = await self._ask_all_masters(asked, {"consumerGroup": group}, b"", doing, passing=_NO_MEMBERS)
        return {
            broker: read_answer(f"the members of group {group}", decode_consumer_connections, answer)
            for broker, answer in answers.items()
        }

    # How far groups are

    async def group_stats(self, group: str, topic: str) -> GroupStats:
        """How far the group is on each queue of the topic."""
        found = [
            read_answer(f"the figures of group {group}", decode_group_stats, answer)
            for answer in await self._ask_masters_of(
                topic,
                RequestCode.GET_CONSUME_STATS,
                {"consumerGroup": group, "topic": topic},
                f"tell the figures of group {group}",
            )
        ]
        queues = {queue: progress for stats in found for queue, progress in stats.queues.items()}
        return GroupStats(dict(sorted(queues.items())), sum(stats.consume_per_second for stats in found))

    async def group_lag(self, group: str, topic: str | None = None) -> dict[MessageQueue, QueueLag]:
        """How far behind the group is, in messages and in time, on each queue of one topic, or of all that it has
        offsets in."""
        ext = {"consumerGroup": group} | ({"topic": topic} if topic else {})
        doing = f"tell the figures of group {group}"
        answers = await self._ask_all_masters(RequestCode.GET_CONSUME_STATS, ext, b"", doing, passing=_ABSENT)
        progress: dict[MessageQueue, QueueProgress] = {}
        for answer in answers.values():
            progress |= read_answer(f"the figures of group {group}", decode_group_stats, answer).queues
        topics = sorted({queue.topic for queue in progress})
        times: dict[MessageQueue, QueueTimes] = {}
        for found in await asyncio.gather(*(self.group_times(group, each) for each in topics)):
            times |= found
        now_ms = self.now_ms()
        return {
            queue: QueueLag(each, _known_ms(times[queue].lag_ms, now_ms) if queue in times else None)
            for queue, each in sorted(progress.items())
        }

    async def group_times(self, group: str, topic: str) -> dict[MessageQueue, QueueTimes]:
        """The same in time only."""
        ext = {"topic": topic, "group": group}
        doing = f"tell how far behind group {group} is"
        asked = RequestCode.QUERY_CONSUME_TIME_SPAN
        answers = await self._ask_all_masters(asked, ext, b"", doing, passing=_ABSENT)
        found: dict[MessageQueue, QueueTimes] = {}
        for answer in answers.values():
            found |= read_answer(f"the times of group {group}", decode_time_spans, answer)
        return found

    # Orders

    async def create_group(self, config: GroupConfig, *, cluster: str | None = None) -> None:
        """Creates the group, or changes it, on all masters (of one cluster)."""
        for address in await self._masters(cluster):
            await self._ask_broker(
                address,
                RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP,
                None,
                encode_group_config(config),
                f"create group {config.name}",
            )

    async def reset_targets(
        self,
        group: str,
        topic: str,
        *,
        at_ms: int | None = None,
        queue: MessageQueue | None = None,
        offset: int | None = None,
        only_back: bool = False,
    ) -> dict[MessageQueue, QueueOffset]:
        """Where `reset_offsets` would bring the group now; changes nothing."""
        progress = (await self.group_stats(group, topic)).queues
        if queue is not None and queue not in progress:
            raise NoBroker(f"topic {topic} has no queue {queue.queue_id} on broker {queue.broker_name}")
        found: dict[MessageQueue, QueueOffset] = {}
        for each in progress if queue is None else (queue,):
            if queue is not None and offset is not None:
                target = QueueOffset(offset)
            elif at_ms is None:
                target = progress[each].broker_offset
            else:
                target = await self._search(each, at_ms)
            found[each] = min(target, progress[each].consumer_offset) if only_back else target
        return found

    async def _search(self, queue: MessageQueue, at_ms: int) -> QueueOffset:
        address = await self._broker_address(queue.broker_name)
        ext = {"topic": queue.topic, "queueId": str(queue.queue_id), "timestamp": str(at_ms)}
        doing = f"find the first message of {queue.topic} after a time"
        answer = await self._ask_broker(address, RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, ext, b"", doing)
        return QueueOffset(OFFSET_REPLY.decode(answer.ext).offset)

    async def reset_offsets(
        self,
        group: str,
        topic: str,
        *,
        at_ms: int | None = None,
        queue: MessageQueue | None = None,
        offset: int | None = None,
        only_back: bool = False,
        through_clients: bool = False,
    ) -> dict[MessageQueue, QueueOffset]:
        """Moves the group on a topic, or on one queue: behind the last message, to a time, or to an offset of a queue.

        Where it was moved to. `through_clients`: the members are asked to move themselves; RocketMQ before 5.0 knows no
        other way.
        """
        header = ResetOffsets(
            topic=topic,
            group=group,
            timestamp_ms=-1 if at_ms is None else at_ms,
            force=not only_back,
            queue_id=-1 if queue is None else queue.queue_id,
            offset=-1 if offset is None or queue is None else offset,
            through_clients=True if through_clients else None,
        )
        asked, ext = RequestCode.INVOKE_BROKER_TO_RESET_OFFSET, RESET_OFFSETS.encode(header)
        doing = f"move group {group}"
        if queue is not None:
            address = await self._broker_address(queue.broker_name)
            answers = [await self._ask_broker(address, asked, ext, b"", doing)]
        else:
            answers = await self._ask_masters_of(topic, asked, ext, doing)
        found: dict[MessageQueue, QueueOffset] = {}
        for answer in answers:
            found |= read_answer("where the group was moved", decode_reset_offsets, answer)
        return dict(sorted(found.items()))

    async def clone_offsets(self, source: str, target: str, topic: str | None = None, *, offline: bool = False) -> None:
        """Gives a group the offsets of another, on one topic or on all.

        Unless `offline`, topics that the source's members do not want any more are passed over.
        """
        header = CloneOffsets(source_group=source, target_group=target, topic=topic, offline=offline)
        doing = f"give group {target} the offsets of {source}"
        await self._ask_all_masters(RequestCode.CLONE_GROUP_OFFSET, CLONE_OFFSETS.encode(header), b"", doing)

    async def correction_offsets(
        self, topic: str, group: str, broker: str | Address, left_out: Iterable[str] = ()
    ) -> Mapping[int, QueueOffset]:
        """On one broker, by queue: the smallest offset of any group, 2**63 - 1 where this group's is smaller."""
        address = await self._broker_address(broker)
        ext = {"topic": topic, "compareGroup": group, "filterGroups": ",".join(left_out)}
        doing = f"compare group {group} with others"
        answer = await self._ask_broker(address, RequestCode.QUERY_CORRECTION_OFFSET, ext, b"", doing)
        return read_answer("corrections", decode_correction, answer)

    # Rules for a topic

    async def request_modes(self, group: str | None = None) -> tuple[GroupRule, ...]:
        """The modes that were set, of one group or of all."""
        asked = RequestCode.GET_ALL_MESSAGE_REQUEST_MODE
        answers = await self._ask_all_masters(asked, None, b"", "name the request modes")
        found: dict[GroupRule, None] = {}
        for answer in answers.values():
            found |= dict.fromkeys(read_answer("the request modes", decode_request_modes, answer))
        return tuple(each for each in found if group is None or each.group == group)

    async def set_request_mode(self, group: str, topic: str, mode: RequestMode, share_queues: int = 0) -> None:
        """How members that ask the broker for their queues get messages. With POP, `share_queues` of the next members'
        shares are read as well; 0: every member reads all queues.
        """
        rule = GroupRule(group, topic, mode, share_queues)
        asked, doing = RequestCode.SET_MESSAGE_REQUEST_MODE, f"set the mode of group {group}"
        await self._ask_all_masters(asked, None, encode_request_mode(rule), doing, passing=_ABSENT, needed=True)

    async def is_readable(self, group: str, topic: str) -> bool:
        """Whether the group may read the topic, on every broker."""
        return await self._readable({"group": group, "topic": topic})

    async def set_readable(self, group: str, topic: str, readable: bool) -> None:
        """Takes a topic away from a group, or gives it back."""
        await self._readable({"group": group, "topic": topic, "readable": "true" if readable else "false"})

    async def _readable(self, ext: dict[str, str]) -> bool:
        asked, doing = RequestCode.UPDATE_AND_GET_GROUP_FORBIDDEN, f"say what group {ext['group']} may read"
        answers = await self._ask_all_masters(asked, ext, b"", doing, passing=_ABSENT, needed=True)
        return all(read_answer("a permission", decode_readable, answer).readable for answer in answers.values())

    async def _ask_all_masters(
        self,
        code: int,
        ext: dict[str, str] | None,
        body: bytes,
        doing: str,
        *,
        passing: frozenset[int] = frozenset(),
        needed: bool = False,
    ) -> dict[str, Command]:
        """Answers by broker name, without those that refuse with a code of `passing`; with `needed` not all may."""
        brokers = sorted((await self.cluster_info()).brokers.items())
        masters = {name: Address.parse(data.master) for name, data in brokers if data.master is not None}
        if not masters:
            raise NoBroker("the NameServer knows no broker that takes orders: is one running and registered?")
        asked = (self._ask_broker(address, code, ext, body, doing) for address in masters.values())
        found: dict[str, Command] = {}
        refusal: BrokerRefused | None = None
        for name, outcome in zip(masters, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if not isinstance(outcome, BaseException):
                found[name] = outcome
            elif isinstance(outcome, BrokerRefused) and outcome.code in passing:
                refusal = outcome
            else:
                raise outcome
        if needed and not found and refusal is not None:
            raise refusal
        return found


def _known_ms(lag_ms: int, now_ms: int) -> int | None:
    """RocketMQ takes a group without an offset to be behind since 1970: that says nothing."""
    return None if lag_ms >= now_ms - _DAY_MS else lag_ms
