"""Headers of broker administration: the answer of 26, and 315. (25, 26 and 28 as requests have none.)

Source: RocketMQ 5.3 GetBrokerConfigResponseHeader, ViewBrokerStatsDataRequestHeader.
"""

from __future__ import annotations

import msgspec

from posthouse.codec.remoting.command import HeaderType


class GetBrokerConfigReply(msgspec.Struct, kw_only=True, rename="camel"):
    """26. `version` is a DataVersion as JSON text."""

    version: str


class ViewBrokerStats(msgspec.Struct, kw_only=True, rename="camel"):
    """315."""

    stats_name: str
    stats_key: str


GET_BROKER_CONFIG_REPLY = HeaderType(GetBrokerConfigReply)
VIEW_BROKER_STATS = HeaderType(ViewBrokerStats)
