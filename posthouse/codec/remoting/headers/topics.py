"""Headers about topics of a broker: 17, 21, 202, 215, 300, 303, 343, 345, 351.

Source: RocketMQ 5.3 CreateTopicRequestHeader, GetAllTopicConfigRequestHeader and their neighbours.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers.numbers import Int32


class CreateTopic(msgspec.Struct, kw_only=True, rename="camel"):
    """17. `attributes` is the change as text: `+name=value,-name`."""

    topic: str
    default_topic: str | None = None
    read_queues: Int32 = field(name="readQueueNums")
    write_queues: Int32 = field(name="writeQueueNums")
    perm: Int32
    filter_type: str = field(name="topicFilterType", default="SINGLE_TAG")
    sys_flag: Int32 | None = field(name="topicSysFlag", default=None)
    order: bool | None = None
    attributes: str | None = None
    force: bool | None = None


class GetAllTopicConfig(msgspec.Struct, kw_only=True, rename="camel"):
    """21. All members are of 5.3.3 and later, which can page."""

    topic_seq: Int32 | None = None
    data_version: str | None = None
    topics_max: Int32 | None = field(name="maxTopicNum", default=None)


class GetAllTopicConfigReply(msgspec.Struct, kw_only=True, rename="camel"):
    """Give `topics_total` only if the page was honoured: a client then asks until it has them all."""

    topics_total: Int32 | None = field(name="totalTopicNum", default=None)


class TopicName(msgspec.Struct, kw_only=True, rename="camel"):
    """Requests that name a topic and nothing else: 202, 215, 300, 351."""

    topic: str


class TopicOfGroup(msgspec.Struct, kw_only=True, rename="camel"):
    """303, 345."""

    topic: str
    group: str


class TopicsOfGroup(msgspec.Struct, kw_only=True, rename="camel"):
    """343."""

    group: str


CREATE_TOPIC = HeaderType(CreateTopic)
GET_ALL_TOPIC_CONFIG = HeaderType(GetAllTopicConfig)
GET_ALL_TOPIC_CONFIG_REPLY = HeaderType(GetAllTopicConfigReply)
TOPIC_NAME = HeaderType(TopicName)
TOPIC_OF_GROUP = HeaderType(TopicOfGroup)
TOPICS_OF_GROUP = HeaderType(TopicsOfGroup)
