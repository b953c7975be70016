"""What a client says of itself every half minute: its producer groups, and its consumer groups with what they want.

Source: RocketMQ 5.3 HeartbeatData.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.model.filter import Subscription
from posthouse.model.group import Membership


@dataclass(frozen=True, slots=True)
class HeartbeatData:
    """`fingerprint` other than 0 marks the second form; then `without_sub` bodies leave the subscriptions out."""

    client_id: str
    producer_groups: tuple[str, ...] = ()
    memberships: tuple[Membership, ...] = ()
    fingerprint: int = 0
    without_sub: bool = False


@dataclass(frozen=True, slots=True)
class ClientCheck:
    """A consumer's question at its start: would this subscription be understood?"""

    client_id: str
    group: str
    namespace: str
    subscription: Subscription
