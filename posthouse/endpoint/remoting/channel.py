"""A client's connection as the broker's services see it: an address, and what the broker may tell it or ask it.

Questions have ids of our own, so they never meet those of the client's requests; the link matches the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.frame import WireError
from posthouse.link.errors import LinkError, RequestTimeout
from posthouse.model.question import ClientAnswer, Question
from posthouse.model.refusal import Reason, Refused

if TYPE_CHECKING:
    from posthouse.link.peer import RemotingPeer

_CODE_OF = {
    Question.CONSUMER_STATUS: RequestCode.GET_CONSUMER_STATUS_FROM_CLIENT,
    Question.RUNNING_INFO: RequestCode.GET_CONSUMER_RUNNING_INFO,
    Question.CONSUME_DIRECTLY: RequestCode.CONSUME_MESSAGE_DIRECTLY,
    Question.RESET_OFFSETS: RequestCode.RESET_CONSUMER_CLIENT_OFFSET,
    Question.REPLY: RequestCode.PUSH_REPLY_MESSAGE_TO_CLIENT,
    Question.TRANSACTION: RequestCode.CHECK_TRANSACTION_STATE,
}


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

    async def ask(
        self, question: Question, fields: Mapping[str, str], body: bytes = b"", *, timeout_s: float
    ) -> ClientAnswer:
        """What the client says, also when that is no. Raises Refused: CLIENT_SILENT, FAILED when it is gone."""
        try:
            answer = await self._peer.ask(_CODE_OF[question], dict(fields), body, timeout_s)
            return ClientAnswer(answer.code, answer.remark, answer.ext_map(), answer.body)
        except RequestTimeout as error:
            remark = f"the client at {self.client_address} has not answered within {timeout_s:g} s; is it stuck?"
            raise Refused(Reason.CLIENT_SILENT, remark) from error
        except (LinkError, WireError) as error:
            raise Refused(Reason.FAILED, f"the client could not be asked: {error}") from error

    def tell(self, question: Question, fields: Mapping[str, str], body: bytes = b"") -> None:
        """The same for what nobody answers; dropped when the client is gone."""
        self._peer.tell(_CODE_OF[question], dict(fields), body)

    def close(self, why: str) -> None:
        self._peer.close(why)
