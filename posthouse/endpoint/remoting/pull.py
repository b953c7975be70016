"""Handlers of pulling: 11 and 361. The body of the answer is slices of the log, written as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.codes import RESPONSE_CODE_OF, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.pull import PullFlag, PullMessage, encode_pull_reply_head
from posthouse.endpoint.remoting.dispatcher import Reply
from posthouse.model.offsets import QueueOffset
from posthouse.model.pull import Forbidden, PullRequest, PullResult, PullStatus
from posthouse.model.refusal import Refused

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer

_CODES = {
    PullStatus.FOUND: (ResponseCode.SUCCESS, "FOUND"),
    PullStatus.NOTHING_NEW: (ResponseCode.PULL_NOT_FOUND, "OFFSET_OVERFLOW_ONE"),
    PullStatus.NOTHING_MATCHED: (ResponseCode.PULL_RETRY_IMMEDIATELY, "NO_MATCHED_MESSAGE"),
    PullStatus.OFFSET_MOVED: (ResponseCode.PULL_OFFSET_MOVED, "the offset is outside the queue"),
}


def pull(broker: Broker, header: PullMessage, command: Command, peer: RemotingPeer) -> Reply | None:
    """11, 361."""
    flag = header.sys_flag
    request = PullRequest(
        header.consumer_group,
        header.topic,
        header.queue_id,
        QueueOffset(header.queue_offset),
        header.messages_max,
        QueueOffset(header.commit_offset) if flag & PullFlag.COMMIT_OFFSET else None,
        header.suspend_timeout_ms if flag & PullFlag.SUSPEND and not command.is_one_way else 0,
        (header.subscription or "") if flag & PullFlag.SUBSCRIPTION else None,
        header.expression_type,
        header.sub_version,
    )
    request_id = command.request_id

    def done(result: PullResult | Refused) -> None:
        if command.is_one_way:
            return
        if isinstance(result, Refused):
            peer.answer(response(RESPONSE_CODE_OF[result.reason], request_id, remark=result.remark))
            return
        code, remark = _CODES[result.status]
        head = encode_pull_reply_head(
            request_id, code, result.next_offset, result.min_offset, result.max_offset, result.size, remark
        )
        peer.write(head, *result.buffers)

    try:
        broker.pull.pull(request, peer, done)
    except Forbidden as refused:  # which says by what, in a field of its own
        code = RESPONSE_CODE_OF[refused.reason]
        return Reply(code, ext={"forbiddenType": str(refused.by.value)}, remark=refused.remark)
    return None
