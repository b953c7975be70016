"""Posthouse: a durable message queue in Python that speaks Apache RocketMQ's own protocols.

The public names are imported lazily, so that `import posthouse` (and `posthouse --version`) costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from posthouse.client.errors import PosthouseError as PosthouseError
    from posthouse.client.pop_consumer import SimpleConsumer as SimpleConsumer
    from posthouse.client.producer import Producer as Producer
    from posthouse.client.pull_consumer import PullConsumer as PullConsumer
    from posthouse.client.push_consumer import PushConsumer as PushConsumer
    from posthouse.client.received import ReceivedMessage as ReceivedMessage
    from posthouse.client.requests import Reply as Reply
    from posthouse.client.retries import RetryLater as RetryLater
    from posthouse.client.subscribing import Sql as Sql
    from posthouse.model.group import ConsumeFrom as ConsumeFrom
    from posthouse.model.message import Message as Message

_HOME = {
    "ConsumeFrom": "posthouse.model.group",
    "Message": "posthouse.model.message",
    "PosthouseError": "posthouse.client.errors",
    "Producer": "posthouse.client.producer",
    "PullConsumer": "posthouse.client.pull_consumer",
    "PushConsumer": "posthouse.client.push_consumer",
    "ReceivedMessage": "posthouse.client.received",
    "Reply": "posthouse.client.requests",
    "RetryLater": "posthouse.client.retries",
    "SimpleConsumer": "posthouse.client.pop_consumer",
    "Sql": "posthouse.client.subscribing",
}

__all__ = [
    "ConsumeFrom",
    "Message",
    "PosthouseError",
    "Producer",
    "PullConsumer",
    "PushConsumer",
    "ReceivedMessage",
    "Reply",
    "RetryLater",
    "SimpleConsumer",
    "Sql",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'posthouse' has no attribute {name!r}")
