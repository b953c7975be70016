"""The broker itself over the wire: its configuration (26) and its figures (28)."""

from __future__ import annotations

import pytest

from posthouse.codec.remoting.bodies.data_version import decode_data_version
from posthouse.codec.remoting.bodies.java_properties import read_java_properties
from posthouse.codec.remoting.bodies.topics import decode_kv_table
from posthouse.model.limits import MESSAGE_BYTES_MAX
from tests.endpoint.clients import C, client, house
from tests.endpoint.remoting.test_broker import broker_of

pytestmark = pytest.mark.asyncio


async def test_configuration_is_told_under_rocketmqs_names() -> None:
    async with house(auto_create_topics=False, cluster="C", broker_name="b") as found:
        async with client(found.broker_address) as admin:
            answer = await admin.ok(C.GET_BROKER_CONFIG)
        told = read_java_properties(answer.body)
        assert found.broker_address is not None
        assert told["listenPort"] == str(found.broker_address.port)
        assert (told["brokerClusterName"], told["brokerName"], told["brokerId"]) == ("C", "b", "0")
        assert told["autoCreateTopicEnable"] == "false"
        assert told["maxMessageSize"] == str(MESSAGE_BYTES_MAX)
        assert told["flushDiskType"] == "SYNC_FLUSH"
        version = answer.ext_map()["version"]
        assert decode_data_version(version.encode()) == broker_of(found).topics.version


async def test_figures_are_one_table_of_text() -> None:
    async with house() as found, client(found.broker_address) as admin:
        await admin.send("T")
        table = decode_kv_table((await admin.ok(C.GET_BROKER_RUNTIME_INFO)).body)
        assert table.keys() == broker_of(found).runtime.table().keys()
        assert table["msgPutTotalTodayNow"] == "1"
