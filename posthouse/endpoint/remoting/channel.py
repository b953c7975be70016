"""A client's connection as the broker's services see it: an address, and what the broker may tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.codes import RequestCode

if TYPE_CHECKING:
    from posthouse.link.peer import RemotingPeer


class PeerChannel:
    """Made when a connection opens; the same object until it closes, as services compare channels by identity."""

    __slots__ = ("_peer",)

    def __init__(self, peer: RemotingPeer) -> None:
        self._peer = peer

    @property
    def client_address(self) -> str:
        return str(self._peer.remote)

    def group_changed(self, group: str) -> None:
        self._peer.tell(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, {"consumerGroup": group})

    def close(self, why: str) -> None:
        self._peer.close(why)
