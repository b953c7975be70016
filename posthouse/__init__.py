"""Posthouse: a durable message queue in Python that speaks Apache RocketMQ's own protocols.

The public names are imported lazily, so that `import posthouse` (and `posthouse --version`) costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from posthouse.client.errors import PosthouseError as PosthouseError
    from posthouse.client.producer import Producer as Producer
    from posthouse.client.pull_consumer import PullConsumer as PullConsumer
    from posthouse.client.push_consumer import PushConsumer as PushConsumer
    from posthouse.model.message import Message as Message

_HOME = {
    "Message": "posthouse.model.message",
    "PosthouseError": "posthouse.client.errors",
    "Producer": "posthouse.client.producer",
    "PullConsumer": "posthouse.client.pull_consumer",
    "PushConsumer": "posthouse.client.push_consumer",
}

__all__ = ["Message", "PosthouseError", "Producer", "PullConsumer", "PushConsumer", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'posthouse' has no attribute {name!r}")
