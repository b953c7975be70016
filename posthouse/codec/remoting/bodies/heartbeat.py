"""The bodies of HEART_BEAT and of CHECK_CLIENT_CONFIG.

Java gives enums by name, C++ by ordinal; both are read, names are written.
Source: RocketMQ 5.3 HeartbeatData, ConsumerData, CheckClientRequestBody.
"""

from __future__ import annotations

from typing import Any

import msgspec

from posthouse.codec.remoting.bodies.shape import BodyType, enum_of
from posthouse.codec.remoting.bodies.subscriptions import SubscriptionShape, subscription_members
from posthouse.codec.remoting.headers.numbers import Int64
from posthouse.codec.remoting.json_dialect import write_json
from posthouse.model.group import ConsumeFrom, ConsumeType, Membership, MessageModel
from posthouse.model.heartbeat import ClientCheck, HeartbeatData


class _ProducerShape(msgspec.Struct, rename="camel"):
    group_name: str


class _ConsumerShape(msgspec.Struct, rename="camel"):
    group_name: str
    consume_type: str | int
    message_model: str | int
    consume_from_where: str | int = ConsumeFrom.CONSUME_FROM_LAST_OFFSET.name
    subscription_data_set: list[SubscriptionShape] | None = None

    def value(self) -> Membership:
        return Membership(
            self.group_name,
            enum_of(ConsumeType, self.consume_type),
            enum_of(MessageModel, self.message_model),
            enum_of(ConsumeFrom, self.consume_from_where),
            tuple(each.value() for each in self.subscription_data_set or ()),
        )


class _HeartbeatShape(msgspec.Struct, rename="camel"):
    client_id: str = msgspec.field(name="clientID")
    producer_data_set: list[_ProducerShape] | None = None
    consumer_data_set: list[_ConsumerShape] | None = None
    heartbeat_fingerprint: Int64 | None = None
    without_sub: bool | None = None


class _CheckShape(msgspec.Struct, rename="camel"):
    subscription_data: SubscriptionShape
    client_id: str | None = None
    group: str | None = None
    namespace: str | None = None


_HEARTBEAT = BodyType(_HeartbeatShape, "a heartbeat")
_CHECK = BodyType(_CheckShape, "a client check")


def decode_heartbeat(data: bytes) -> HeartbeatData:
    """Raises WireError."""
    found = _HEARTBEAT.decode(data)
    return HeartbeatData(
        found.client_id,
        tuple(each.group_name for each in found.producer_data_set or ()),
        tuple(each.value() for each in found.consumer_data_set or ()),
        found.heartbeat_fingerprint or 0,
        bool(found.without_sub),
    )


def encode_heartbeat(heartbeat: HeartbeatData) -> bytes:
    return write_json(
        {
            "clientID": heartbeat.client_id,
            "consumerDataSet": [_membership_members(each) for each in heartbeat.memberships],
            "heartbeatFingerprint": heartbeat.fingerprint,
            "producerDataSet": [{"groupName": group} for group in heartbeat.producer_groups],
            "withoutSub": heartbeat.without_sub,
        }
    )


def _membership_members(membership: Membership) -> dict[str, Any]:
    return {
        "consumeFromWhere": membership.consume_from.name,
        "consumeType": membership.consume_type.name,
        "groupName": membership.group,
        "messageModel": membership.message_model.name,
        "subscriptionDataSet": [subscription_members(each) for each in membership.subscriptions],
        "unitMode": False,
    }


def decode_client_check(data: bytes) -> ClientCheck:
    """Raises WireError."""
    found = _CHECK.decode(data)
    return ClientCheck(found.client_id or "", found.group or "", found.namespace or "", found.subscription_data.value())


def encode_client_check(check: ClientCheck) -> bytes:
    return write_json(
        {
            "clientId": check.client_id,
            "group": check.group,
            "namespace": check.namespace,
            "subscriptionData": subscription_members(check.subscription),
        }
    )
