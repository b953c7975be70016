"""What a consumer answers when an operator asks through a broker: its offsets (221), all about it (307); and it handles
one message that it is given (309). The figures are those of this moment; nothing is kept for them.

Source: RocketMQ 5.3 ClientRemotingProcessor, DefaultMQPushConsumerImpl.consumerRunningInfo,
ConsumeMessageConcurrentlyService.consumeMessageDirectly.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from posthouse.client.handling import Handling
from posthouse.client.received import open_record
from posthouse.client.retries import DEAD, RetryLater
from posthouse.client.session import Session
from posthouse.codec.record import RecordError, decode_records
from posthouse.codec.remoting.bodies.client_status import (
    encode_client_offsets,
    encode_direct_result,
    encode_running_info,
)
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.link.peer import RemotingPeer
from posthouse.model.client_status import DirectOutcome, DirectResult, QueueStatus, RunningInfo
from posthouse.model.message import MessageQueue

log = logging.getLogger(__name__)

DIRECT_MAX = 8
"""Messages that operators have handled here at once."""

REMARK_CHARS_MAX = 2000

STACK_LINES_MAX = 2000


class Introspection:
    """Serves 221, 307 and 309 for one group. `about` and `queues` give what is so at this moment."""

    def __init__(
        self,
        session: Session,
        group: str,
        handling: Handling,
        *,
        ordered: bool,
        about: Callable[[], RunningInfo],
        queues: Callable[[], Mapping[MessageQueue, QueueStatus]],
        tasks: Callable[[], Iterable[asyncio.Task[Any]]],
    ) -> None:
        self._group = group
        self._handling = handling
        self._ordered = ordered
        self._about = about
        self._queues = queues
        self._tasks = tasks
        self._directs: dict[asyncio.Task[None], None] = {}
        session.on_request[RequestCode.GET_CONSUMER_STATUS_FROM_CLIENT] = self._tell_offsets
        session.on_request[RequestCode.GET_CONSUMER_RUNNING_INFO] = self._tell_all
        session.on_request[RequestCode.CONSUME_MESSAGE_DIRECTLY] = self._handle_one

    async def close(self) -> None:
        for direct in self._directs:
            direct.cancel()
        await asyncio.gather(*self._directs, return_exceptions=True)

    def _tell_offsets(self, peer: RemotingPeer, command: Command) -> None:
        fields = command.ext_map()
        if not self._is_ours(peer, command, fields.get("group")):
            return
        topic = fields.get("topic", "")
        offsets = {
            queue: status.commit_offset for queue, status in self._queues().items() if queue.topic == topic or not topic
        }
        peer.answer(response(ResponseCode.SUCCESS, command.request_id, None, encode_client_offsets(offsets)))

    def _tell_all(self, peer: RemotingPeer, command: Command) -> None:
        fields = command.ext_map()
        if not self._is_ours(peer, command, fields.get("consumerGroup")):
            return
        found = self._about()
        stacks = _stacks(self._tasks()) if fields.get("jstackEnable") == "true" else ""
        info = RunningInfo(found.properties, found.subscriptions, self._queues(), found.rates, stacks)
        peer.answer(response(ResponseCode.SUCCESS, command.request_id, None, encode_running_info(info)))

    def _handle_one(self, peer: RemotingPeer, command: Command) -> None:
        fields = command.ext_map()
        if not self._is_ours(peer, command, fields.get("consumerGroup")):
            return
        if len(self._directs) >= DIRECT_MAX:
            remark = f"{DIRECT_MAX} messages are being handled directly already"
            peer.answer(response(ResponseCode.SYSTEM_BUSY, command.request_id, remark=remark))
            return
        work = self._answer_direct(peer, command, fields.get("brokerName", ""))
        direct = asyncio.create_task(work, name=f"group {self._group}: a message handled directly")
        self._directs[direct] = None
        direct.add_done_callback(self._directs.pop)

    async def _answer_direct(self, peer: RemotingPeer, command: Command, broker_name: str) -> None:
        try:
            (stored,) = decode_records(command.body)
            (message,) = open_record(stored, MessageQueue(stored.topic, broker_name, stored.queue_id))
        except (RecordError, ValueError) as error:
            remark = f"the message to be handled cannot be read: {error}"
            peer.answer(response(ResponseCode.SYSTEM_ERROR, command.request_id, remark=remark))
            return
        log.info("an operator has %s handled here", message.message_id)
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome, remark = DirectOutcome.SUCCESS, ""
        try:
            await self._handling.call([message])
        except RetryLater as later:
            outcome = DirectOutcome.LATER
            remark = "a dead letter" if later.delay_level == DEAD else str(later)
        except Exception as error:
            outcome, remark = DirectOutcome.THREW, f"{type(error).__name__}: {error}"[:REMARK_CHARS_MAX]
            log.warning("the handler failed on %s, which an operator gave it: %s", message.message_id, remark)
        result = DirectResult(outcome, remark, int((loop.time() - began) * 1000), self._ordered)
        peer.answer(response(ResponseCode.SUCCESS, command.request_id, None, encode_direct_result(result)))

    def _is_ours(self, peer: RemotingPeer, command: Command, group: str | None) -> bool:
        if group == self._group:
            return True
        if not command.is_one_way:
            remark = f"this client is no member of group {group}, but of {self._group}"
            peer.answer(response(ResponseCode.SYSTEM_ERROR, command.request_id, remark=remark))
        return False


def _stacks(tasks: Iterable[asyncio.Task[Any]]) -> str:
    """Where each task waits, outermost frame first: what a thread dump is elsewhere."""
    lines: list[str] = []
    for task in tasks:
        lines.append(task.get_name())
        awaited: Any = task.get_coro()
        while awaited is not None:
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
            if frame is None:
                break
            lines.append(f"  {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
        lines.append("")
    if len(lines) > STACK_LINES_MAX:
        lines[STACK_LINES_MAX:] = ["..."]
    return "\n".join(lines)
