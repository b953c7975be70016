"""The broker itself over the wire: its configuration (26) and its figures (28)."""

from __future__ import annotations

import pytest

from posthouse.codec.remoting.bodies.data_version import decode_data_version
from posthouse.codec.remoting.bodies.java_properties import read_java_properties
from posthouse.codec.remoting.bodies.topics import decode_kv_table
from posthouse.codec.remoting.codes import RequestCode
from posthouse.model.limits import MESSAGE_BYTES_MAX
from tests.endpoint.clients import C, R, client, house
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
        assert decode_data_version(version.encode()) == broker_of(found).settings.version


async def test_figures_are_one_table_of_text() -> None:
    async with house() as found, client(found.broker_address) as admin:
        await admin.send("T")
        table = decode_kv_table((await admin.ok(C.GET_BROKER_RUNTIME_INFO)).body)
        assert table.keys() == broker_of(found).runtime.table().keys()
        assert table["msgPutTotalTodayNow"] == "1"


async def test_settings_are_changed_by_properties_text_and_told_with_a_new_version() -> None:
    async with house() as found, client(found.broker_address) as admin:
        await admin.ok(C.UPDATE_BROKER_CONFIG, body=b"fileReservedTime = 48\ndeleteWhen=03\n")
        answer = await admin.ok(C.GET_BROKER_CONFIG)
        told = read_java_properties(answer.body)
        assert (told["fileReservedTime"], told["deleteWhen"]) == ("48", "03")
        assert decode_data_version(answer.ext_map()["version"].encode()).counter == 1
        await admin.ok(C.UPDATE_BROKER_CONFIG)
        assert (await admin.ask(C.UPDATE_BROKER_CONFIG, body=b"storePathRootDir=/")).code == R.NO_PERMISSION
        assert (await admin.ask(C.UPDATE_BROKER_CONFIG, body=b"nobody=1")).code == R.INVALID_PARAMETER
        assert (await admin.ask(C.UPDATE_BROKER_CONFIG, body=b"\xff")).code == R.SYSTEM_ERROR


async def test_cleaning_is_taken_and_what_is_not_too_old_stays() -> None:
    async with house() as found, client(found.broker_address) as admin:
        await admin.send("T")
        for code in (C.CLEAN_EXPIRED_CONSUMEQUEUE, C.CLEAN_UNUSED_TOPIC, C.DELETE_EXPIRED_COMMITLOG):
            await admin.ok(code)
        await broker_of(found).retention.round()
        assert len(await admin.messages("T")) == 1


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (C.UPDATE_AND_CREATE_STATIC_TOPIC, "static topics"),
        (C.AUTH_LIST_USER, "users and access rules"),
        (C.GET_COLD_DATA_FLOW_CTR_INFO, "cold data"),
        (C.CONTROLLER_GET_METADATA_INFO, "no controller"),
        (C.PUT_KV_CONFIG, "for a NameServer"),
    ],
)
async def test_what_is_not_served_is_refused_with_the_reason(code: RequestCode, words: str) -> None:
    async with house() as found, client(found.broker_address) as admin:
        answer = await admin.ask(code)
        assert answer.code == R.REQUEST_CODE_NOT_SUPPORTED
        assert words in (answer.remark or "")
    async with house() as found, client(found.nameserver_address) as admin:
        answer = await admin.ask(C.SEND_MESSAGE)
        assert answer.code == R.REQUEST_CODE_NOT_SUPPORTED
        assert "for a broker, not for a NameServer" in (answer.remark or "")
