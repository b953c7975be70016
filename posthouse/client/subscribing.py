"""What a consumer subscribes to, as programs write it: a topic, or topics with an expression each."""

from __future__ import annotations

from collections.abc import Mapping

from posthouse.client.outbox import check_topic_name
from posthouse.model.filter import SQL92, TAG, Subscription, parse_subscription
from posthouse.model.names import retry_topic
from posthouse.model.refusal import Refused


class Sql(str):
    """An SQL92 expression over the properties of messages: `subscribe={"orders": Sql("price > 100 AND TAGS = 'eu'")}`.

    Apache's brokers serve these only with enablePropertyFilter=true.
    """

    __slots__ = ()


def subscriptions_of(
    group: str, subscribe: str | Mapping[str, str], version: int, *, retries: bool = True
) -> dict[str, Subscription]:
    """By topic, the group's own retry topic included. Raises ValueError."""
    wanted = {subscribe: "*"} if isinstance(subscribe, str) else dict(subscribe)
    if not wanted:
        raise ValueError("subscribe to at least one topic")
    if retries:
        wanted[retry_topic(group)] = "*"
    return {topic: subscription_of(topic, expression, version) for topic, expression in wanted.items()}


def subscription_of(topic: str, expression: str, version: int) -> Subscription:
    """Raises ValueError."""
    check_topic_name(topic)
    kind = SQL92 if isinstance(expression, Sql) else TAG
    try:
        return parse_subscription(topic, str(expression), kind, version)
    except Refused as refused:
        raise ValueError(f"the subscription to {topic}: {refused.remark}") from None
