"""A broker over remoting: the table of all its request codes, and what an open connection is to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from posthouse.broker.broker import Broker
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.headers.pull import PULL_MESSAGE
from posthouse.codec.remoting.headers.send import SEND_MESSAGE, SEND_MESSAGE_V2
from posthouse.endpoint.remoting.admin import ADMIN_ROUTES
from posthouse.endpoint.remoting.assignment import ASSIGNMENT_ROUTES
from posthouse.endpoint.remoting.channel import PeerChannel
from posthouse.endpoint.remoting.clients import CLIENT_ROUTES
from posthouse.endpoint.remoting.dispatcher import HOT, Dispatcher, Route
from posthouse.endpoint.remoting.groups import GROUP_ROUTES
from posthouse.endpoint.remoting.inspection import INSPECTION_ROUTES
from posthouse.endpoint.remoting.introspection import INTROSPECTION_ROUTES
from posthouse.endpoint.remoting.locks import LOCK_ROUTES
from posthouse.endpoint.remoting.offsets import OFFSET_ROUTES
from posthouse.endpoint.remoting.pop import POP_ROUTES
from posthouse.endpoint.remoting.pull import pull
from posthouse.endpoint.remoting.query import QUERY_ROUTES
from posthouse.endpoint.remoting.replies import REPLY_ROUTES
from posthouse.endpoint.remoting.resets import RESET_ROUTES
from posthouse.endpoint.remoting.retries import RETRY_ROUTES
from posthouse.endpoint.remoting.send import send
from posthouse.endpoint.remoting.topics import TOPIC_ROUTES

if TYPE_CHECKING:
    from posthouse.link.peer import RemotingPeer

MAIL_ROUTES = (
    Route(RequestCode.SEND_MESSAGE, SEND_MESSAGE, send, HOT),
    Route(RequestCode.SEND_MESSAGE_V2, SEND_MESSAGE_V2, send, HOT),
    Route(RequestCode.SEND_BATCH_MESSAGE, SEND_MESSAGE_V2, send, HOT),
    Route(RequestCode.PULL_MESSAGE, PULL_MESSAGE, pull, HOT),
    Route(RequestCode.LITE_PULL_MESSAGE, PULL_MESSAGE, pull, HOT),
)

BROKER_ROUTES = (
    *MAIL_ROUTES,
    *POP_ROUTES,
    *OFFSET_ROUTES,
    *TOPIC_ROUTES,
    *GROUP_ROUTES,
    *LOCK_ROUTES,
    *ASSIGNMENT_ROUTES,
    *RESET_ROUTES,
    *RETRY_ROUTES,
    *REPLY_ROUTES,
    *QUERY_ROUTES,
    *ADMIN_ROUTES,
    *INSPECTION_ROUTES,
    *INTROSPECTION_ROUTES,
)
"""Handled with the broker as the service."""

DESK_ROUTES = CLIENT_ROUTES
"""Handled with the desk as the service: these need to know whose connection it is."""


class BrokerDesk:
    """Keeps one channel for each open connection, and tells the broker when a connection ends."""

    def __init__(self, broker: Broker, on_bug: Callable[[BaseException], None]) -> None:
        self.broker = broker
        self._channels: dict[RemotingPeer, PeerChannel] = {}
        self.dispatcher = Dispatcher(
            {broker: BROKER_ROUTES, self: DESK_ROUTES},
            what="broker",
            on_bug=on_bug,
            on_disconnected=self._disconnected,
        )

    def channel(self, peer: RemotingPeer) -> PeerChannel:
        found = self._channels.get(peer)
        if found is None:
            found = self._channels[peer] = PeerChannel(peer)
        return found

    def _disconnected(self, peer: RemotingPeer) -> None:
        self.broker.arrivals.gone(peer)
        self.broker.pop.gone(peer)
        channel = self._channels.pop(peer, None)
        if channel is not None:
            self.broker.clients.disconnected(channel)
