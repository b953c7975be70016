"""Headers about consumer and producer groups: 201, 203, 204, 207, 208, 352, 353. (200 and 225 have a body only.)

Source: RocketMQ 5.3 GetSubscriptionGroupConfigRequestHeader, DeleteSubscriptionGroupRequestHeader and neighbours.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers.numbers import Int32


class GetAllGroupConfig(msgspec.Struct, kw_only=True, rename="camel"):
    """201. All members are of 5.3.3 and later, which can page."""

    group_seq: Int32 | None = None
    data_version: str | None = None
    groups_max: Int32 | None = field(name="maxGroupNum", default=None)


class GetAllGroupConfigReply(msgspec.Struct, kw_only=True, rename="camel"):
    """Give `groups_total` only if the page was honoured."""

    groups_total: Int32 | None = field(name="totalGroupNum", default=None)


class GetGroupConfig(msgspec.Struct, kw_only=True, rename="camel"):
    """352."""

    group: str


class DeleteGroup(msgspec.Struct, kw_only=True, rename="camel"):
    """207. 4.9 says `removeOffset` where 5.x says `cleanOffset`."""

    group: str = field(name="groupName")
    clean_offset: bool | None = None
    remove_offset: bool | None = None

    @property
    def with_offsets(self) -> bool:
        return bool(self.clean_offset or self.remove_offset)


class GetConsumerConnections(msgspec.Struct, kw_only=True, rename="camel"):
    """203."""

    consumer_group: str


class GetProducerConnections(msgspec.Struct, kw_only=True, rename="camel"):
    """204."""

    producer_group: str


class GetConsumeStats(msgspec.Struct, kw_only=True, rename="camel"):
    """208. Without a topic: every topic on which the group has offsets. `topic_list`: several, with `;`."""

    consumer_group: str
    topic: str | None = None
    topic_list: str | None = None


class GroupForbidden(msgspec.Struct, kw_only=True, rename="camel"):
    """353. Without `readable`: only tell how it is."""

    group: str
    topic: str
    readable: bool | None = None


GET_ALL_GROUP_CONFIG = HeaderType(GetAllGroupConfig)
GET_ALL_GROUP_CONFIG_REPLY = HeaderType(GetAllGroupConfigReply)
GET_GROUP_CONFIG = HeaderType(GetGroupConfig)
DELETE_GROUP = HeaderType(DeleteGroup)
GET_CONSUMER_CONNECTIONS = HeaderType(GetConsumerConnections)
GET_PRODUCER_CONNECTIONS = HeaderType(GetProducerConnections)
GET_CONSUME_STATS = HeaderType(GetConsumeStats)
GROUP_FORBIDDEN = HeaderType(GroupForbidden)
