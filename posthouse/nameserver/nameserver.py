"""One NameServer: the parts list, its configuration, and the task that forgets silent brokers.

It opens no port: an endpoint does, and tells `routes.connection_lost` when a connection ends. Handlers take what
they need from here: `routes`, `kv`, `config`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from posthouse.host import Host
from posthouse.model.refusal import Reason, Refused
from posthouse.model.route import TopicRoute
from posthouse.nameserver.config import NameServerConfig
from posthouse.nameserver.kv import ORDER_TOPIC_CONFIG, KvConfig
from posthouse.nameserver.routes import Routes

__all__ = ["NameServer", "NameServerConfig"]

log = logging.getLogger(__name__)


class NameServer:
    """`start` before it is asked anything, `close` at the end. The caller holds the lock of the host's disk.

    `on_bug` hears of a mistake of ours in the task, after which nobody expires any more.
    """

    def __init__(
        self,
        host: Host,
        config: NameServerConfig | None = None,
        on_bug: Callable[[BaseException], None] | None = None,
    ) -> None:
        config = config or NameServerConfig()
        self._on_bug = on_bug
        self.kv = KvConfig(host.disk, config.kv_file)
        self.routes = Routes(_loop_time, config)
        self._started_at_s = 0.0
        self._expiry: asyncio.Task[None] | None = None

    @property
    def config(self) -> NameServerConfig:
        return self.routes.config

    async def start(self) -> None:
        """Loads the KV configuration. Raises KvUnreadable, OSError."""
        assert self._expiry is None, "started twice"
        self.kv.load()
        self._started_at_s = _loop_time()
        self._expiry = asyncio.create_task(self._run_expiry(), name="nameserver expiry")
        self._expiry.add_done_callback(self._expiry_ended)

    async def close(self) -> None:
        """Ends the task and waits for KV changes under way. Twice is fine."""
        expiry, self._expiry = self._expiry, None
        if expiry is not None:
            expiry.cancel()
            await asyncio.gather(expiry, return_exceptions=True)
        await self.kv.close()

    def route(self, topic: str, dialled_host: str, zone: str | None = None) -> TopicRoute:
        """What a client is told about a topic.

        Raises Refused: FAILED while brokers are waited for, TOPIC_NOT_EXIST.
        """
        left_s = self._started_at_s + self.config.wait_for_service_s - _loop_time()
        if self.config.need_wait_for_service and left_s > 0:
            raise Refused(Reason.FAILED, f"name server not ready: it waits for brokers for another {left_s:.0f} s")
        route = self.routes.route(topic, dialled_host, zone)
        if self.config.order_message_enable:
            return replace(route, order_conf=self.kv.find(ORDER_TOPIC_CONFIG, topic))
        return route

    def order_table(self) -> Mapping[str, str] | None:
        """What brokers are told about ordered topics when they register; None when there is nothing to tell."""
        return self.kv.namespace(ORDER_TOPIC_CONFIG) if self.config.return_order_topic_config_to_broker else None

    def change_config(self, properties: Mapping[str, str]) -> None:
        """Until the process ends. Raises Refused and changes nothing then; see NameServerConfig.changed_by."""
        self.routes.config = self.config.changed_by(properties)
        log.info("settings changed by request: %s", ", ".join(f"{name}={text}" for name, text in properties.items()))

    async def _run_expiry(self) -> None:
        while True:
            await asyncio.sleep(self.config.scan_interval_ms / 1000)
            for connection in self.routes.expire():
                connection.close("its broker was silent for too long")

    def _expiry_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("the expiry of brokers has ended", exc_info=error)
            if self._on_bug is not None:
                self._on_bug(error)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
