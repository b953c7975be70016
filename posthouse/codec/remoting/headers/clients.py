"""Headers of liveness and membership: the answer of 34, and 35, 38, 40.

Source: RocketMQ 5.3 HeartbeatRequestHeader, UnregisterClientRequestHeader, GetConsumerListByGroupRequestHeader,
NotifyConsumerIdsChangedRequestHeader.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import HeaderType


class HeartbeatReply(msgspec.Struct, kw_only=True):
    """34. Both members absent: the client keeps to the full heartbeat."""

    supports_v2: bool | None = field(name="IS_SUPPORT_HEART_BEAT_V2", default=None)
    subscription_changed: bool | None = field(name="IS_SUB_CHANGE", default=None)


class UnregisterClient(msgspec.Struct, kw_only=True, rename="camel"):
    """35."""

    client_id: str = field(name="clientID")
    producer_group: str | None = None
    consumer_group: str | None = None


class GetConsumerList(msgspec.Struct, kw_only=True, rename="camel"):
    """38."""

    consumer_group: str


class NotifyConsumerIdsChanged(msgspec.Struct, kw_only=True, rename="camel"):
    """40, from the broker to its members, one-way."""

    consumer_group: str


HEARTBEAT_REPLY = HeaderType(HeartbeatReply)
UNREGISTER_CLIENT = HeaderType(UnregisterClient)
GET_CONSUMER_LIST = HeaderType(GetConsumerList)
NOTIFY_CONSUMER_IDS_CHANGED = HeaderType(NotifyConsumerIdsChanged)
