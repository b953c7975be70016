"""The NameServer over a real socket: what brokers, clients and tools send, and what they get."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from posthouse.codec.remoting.bodies.cluster import decode_broker_member_group, decode_cluster_info
from posthouse.codec.remoting.bodies.data_version import decode_data_version, encode_data_version
from posthouse.codec.remoting.bodies.java_properties import read_java_properties
from posthouse.codec.remoting.bodies.registration import body_crc, encode_registration
from posthouse.codec.remoting.bodies.routes import decode_route
from posthouse.codec.remoting.bodies.topics import decode_kv_table, decode_topic_list
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, decode_command, encode_command
from posthouse.codec.remoting.frame import FrameReader
from posthouse.endpoint.remoting.dispatcher import Dispatcher
from posthouse.endpoint.remoting.nameserver import NAMESERVER_ROUTES, peer_lost
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.link.peer import RemotingPeer
from posthouse.model.registration import Registration
from posthouse.model.route import DataVersion
from posthouse.model.topic import TopicConfig
from posthouse.nameserver.nameserver import NameServer, NameServerConfig

C = RequestCode
VERSION = DataVersion(0, 1700000000000, 1)
TOPICS = Registration({name: TopicConfig(name, 4, 8) for name in ("TopicTest", "TBW102")}, VERSION)
OF_GO = 317
OF_JAVA_5 = 479


class Client:
    """A socket that asks and waits for its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader()
        self._last_id = 0

    async def ask(
        self, code: int, ext: dict[str, str] | None = None, body: bytes = b"", version: int = OF_JAVA_5
    ) -> Command:
        self._last_id += 1
        self._writer.write(encode_command(Command(code, self._last_id, 0, ext, version, body=body)))
        while True:
            data = await asyncio.wait_for(self._reader.read(1 << 20), 5)
            assert data, "the connection was closed"
            for frame in self._frames.receive_data(data):
                answer = decode_command(frame)
                assert answer.is_response
                assert answer.request_id == self._last_id
                return answer

    async def ok(
        self, code: int, ext: dict[str, str] | None = None, body: bytes = b"", version: int = OF_JAVA_5
    ) -> Command:
        answer = await self.ask(code, ext, body, version)
        assert answer.code == ResponseCode.SUCCESS, answer.remark
        return answer

    async def closed_by_the_other_side(self) -> bool:
        return await asyncio.wait_for(self._reader.read(1), 5) == b""

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


class Town:
    def __init__(self, nameserver: NameServer, address: Address) -> None:
        self.nameserver = nameserver
        self.address = address
        self._clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection(self.address.host, self.address.port))
        self._clients.append(client)
        return client

    async def broker(self, **ext: str) -> Client:
        client = await self.client()
        await client.ok(C.REGISTER_BROKER, registration_ext(**ext), encode_registration(TOPICS))
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


def registration_ext(**changes: str) -> dict[str, str]:
    ext = {
        "brokerName": "broker-a",
        "brokerAddr": "10.0.0.1:10911",
        "clusterName": "DefaultCluster",
        "haServerAddr": "10.0.0.1:10912",
        "brokerId": "0",
        "enableActingMaster": "false",
        "compressed": "false",
        "bodyCrc32": "0",
    }
    return ext | changes


IDENTITY = {name: registration_ext()[name] for name in ("brokerName", "brokerAddr", "clusterName", "brokerId")}


@asynccontextmanager
async def town(config: NameServerConfig | None = None) -> AsyncIterator[Town]:
    host = Host.real()
    bugs: list[BaseException] = []
    nameserver = NameServer(host, config, bugs.append)
    await nameserver.start()
    dispatcher = Dispatcher(
        {nameserver: NAMESERVER_ROUTES},
        what="NameServer",
        on_bug=bugs.append,
        on_disconnected=lambda peer: peer_lost(nameserver, peer),
    )
    listener = await host.net.serve(lambda: RemotingPeer(dispatcher), Address("127.0.0.1", 0))
    place = Town(nameserver, listener.address)
    try:
        yield place
    finally:
        await place.close()
        listener.close()
        await dispatcher.close()
        await nameserver.close()
    assert not bugs


@pytest.mark.asyncio
async def test_client_finds_the_broker_that_registered() -> None:
    async with town() as place:
        await place.broker()
        client = await place.client()
        answer = await client.ok(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "TopicTest"})
        route = decode_route(answer.body)
        assert [(entry.broker_name, entry.read_queues, entry.write_queues) for entry in route.queues] == [
            ("broker-a", 4, 8)
        ]
        assert route.brokers[0].addresses == {0: "10.0.0.1:10911"}
        assert b" " not in answer.body, "there are clients that cannot read blanks"


@pytest.mark.asyncio
async def test_unknown_topic_is_answered_17_without_a_body() -> None:
    async with town() as place:
        answer = await (await place.client()).ask(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "nobody"})
        assert (answer.code, answer.body) == (ResponseCode.TOPIC_NOT_EXIST, b"")
        assert "nobody" in (answer.remark or "")


@pytest.mark.asyncio
async def test_ids_are_quoted_for_those_who_want_standard_json_and_bare_for_others() -> None:
    async with town() as place:
        await place.broker()
        client = await place.client()
        ask = {"topic": "TopicTest"}
        bare = await client.ok(C.GET_ROUTEINFO_BY_TOPIC, ask, version=OF_GO)
        assert b'"brokerAddrs":{0:"10.0.0.1:10911"}' in bare.body
        asked_for = ask | {"acceptStandardJsonOnly": "true"}
        for version, ext in ((OF_GO, asked_for), (401, ask), (OF_JAVA_5, ask)):
            answer = await client.ok(C.GET_ROUTEINFO_BY_TOPIC, ext, version=version)
            assert json.loads(answer.body)["brokerDatas"][0]["brokerAddrs"] == {"0": "10.0.0.1:10911"}
            assert json.loads(answer.body)["filterServerTable"] == {}
        assert b'{0:"' in (await client.ok(C.GET_BROKER_CLUSTER_INFO, version=OF_GO)).body
        group = {"clusterName": "DefaultCluster", "brokerName": "broker-a"}
        assert b'{0:"' in (await client.ok(C.GET_BROKER_MEMBER_GROUP, group, version=OF_GO)).body


@pytest.mark.asyncio
async def test_compressed_registration_with_its_crc_is_taken() -> None:
    async with town() as place:
        body = encode_registration(TOPICS, compressed=True)
        zlib.decompress(body)
        broker = await place.client()
        wrong = registration_ext(compressed="true", bodyCrc32=str(body_crc(body) ^ 1))
        refused = await broker.ask(C.REGISTER_BROKER, wrong, body)
        assert refused.code == ResponseCode.SYSTEM_ERROR
        assert "CRC" in (refused.remark or "")
        assert place.nameserver.routes.topics() == []
        await broker.ok(C.REGISTER_BROKER, registration_ext(compressed="true", bodyCrc32=str(body_crc(body))), body)
        assert sorted(place.nameserver.routes.topics()) == ["TBW102", "TopicTest"]


@pytest.mark.asyncio
async def test_compressed_registration_that_says_it_is_not_is_taken() -> None:
    async with town() as place:
        body = encode_registration(TOPICS, compressed=True)
        ext = registration_ext(compressed="false", bodyCrc32=str(body_crc(body)))
        await (await place.client()).ok(C.REGISTER_BROKER, ext, body)
        assert sorted(place.nameserver.routes.topics()) == ["TBW102", "TopicTest"]


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [b"{", b"[]", b'{"topicConfigSerializeWrapper":7}'])
async def test_body_that_is_no_registration_is_answered_1(body: bytes) -> None:
    async with town() as place:
        answer = await (await place.client()).ask(C.REGISTER_BROKER, registration_ext(), body)
        assert answer.code == ResponseCode.SYSTEM_ERROR
        assert place.nameserver.routes.cluster_info("").brokers == {}


@pytest.mark.asyncio
async def test_header_without_a_name_is_answered_with_what_is_missing() -> None:
    async with town() as place:
        ext = registration_ext()
        del ext["brokerName"]
        answer = await (await place.client()).ask(C.REGISTER_BROKER, ext)
        assert answer.code == ResponseCode.SYSTEM_ERROR
        assert "brokerName" in (answer.remark or "")


@pytest.mark.asyncio
async def test_slave_gets_its_masters_addresses() -> None:
    async with town() as place:
        await place.broker()
        slave = await place.client()
        ext = registration_ext(brokerAddr="10.0.0.2:10911", brokerId="1")
        answer = await slave.ok(C.REGISTER_BROKER, ext, encode_registration(TOPICS))
        assert answer.ext_map() == {"masterAddr": "10.0.0.1:10911", "haServerAddr": "10.0.0.1:10912"}
        assert answer.body == b""


@pytest.mark.asyncio
async def test_broker_gets_the_table_of_ordered_topics() -> None:
    async with town() as place:
        broker = await place.client()
        await broker.ok(C.PUT_KV_CONFIG, {"namespace": "ORDER_TOPIC_CONFIG", "key": "TopicTest", "value": "broker-a:4"})
        answer = await broker.ok(C.REGISTER_BROKER, registration_ext(), encode_registration(TOPICS))
        assert decode_kv_table(answer.body) == {"TopicTest": "broker-a:4"}


@pytest.mark.asyncio
async def test_broker_asks_whether_it_must_register() -> None:
    async with town() as place:
        broker = await place.client()
        body = encode_data_version(VERSION)
        answer = await broker.ok(C.QUERY_DATA_VERSION, IDENTITY, body)
        assert (answer.ext_map(), answer.body) == ({"changed": "true"}, b"")
        await broker.ok(C.REGISTER_BROKER, registration_ext(), encode_registration(TOPICS))
        answer = await broker.ok(C.QUERY_DATA_VERSION, IDENTITY, body)
        assert answer.ext_map() == {"changed": "false"}
        assert decode_data_version(answer.body) == VERSION
        await broker.ok(C.BROKER_HEARTBEAT, IDENTITY)


@pytest.mark.asyncio
async def test_broker_is_gone_when_it_unregisters() -> None:
    async with town() as place:
        broker = await place.broker()
        await broker.ok(C.UNREGISTER_BROKER, IDENTITY)
        assert (await broker.ask(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "TopicTest"})).code == 17


@pytest.mark.asyncio
async def test_broker_is_gone_when_its_connection_is() -> None:
    async with town() as place:
        broker = await place.broker()
        client = await place.client()
        await broker.close()
        for _ in range(100):
            if (await client.ask(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "TopicTest"})).code == 17:
                return
            await asyncio.sleep(0.01)
        pytest.fail("the broker is still there")


@pytest.mark.asyncio
async def test_silent_broker_loses_its_connection() -> None:
    async with town(NameServerConfig(scan_interval_ms=5)) as place:
        broker = await place.broker(heartbeatTimeoutMillis="20")
        assert await broker.closed_by_the_other_side()
        assert place.nameserver.routes.topics() == []


@pytest.mark.asyncio
async def test_unspecified_address_is_told_as_the_one_that_was_dialled() -> None:
    async with town() as place:
        await place.broker(brokerAddr="0.0.0.0:10911", haServerAddr="0.0.0.0:10912")
        client = await place.client()
        route = decode_route((await client.ok(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "TopicTest"})).body)
        assert route.brokers[0].addresses == {0: "127.0.0.1:10911"}
        slave = await client.ok(
            C.REGISTER_BROKER, registration_ext(brokerId="1", brokerAddr="10.0.0.2:10911"), encode_registration(TOPICS)
        )
        assert slave.ext_map() == {"masterAddr": "127.0.0.1:10911", "haServerAddr": "127.0.0.1:10912"}


@pytest.mark.asyncio
async def test_zone_of_the_asker_keeps_far_brokers_out() -> None:
    async with town() as place:
        await place.broker(__ZONE_NAME="east")
        await place.broker(__ZONE_NAME="west", brokerName="broker-b", brokerAddr="10.0.0.2:10911")
        client = await place.client()
        ask = {"topic": "TopicTest", "__ZONE_NAME": "West"}
        both = decode_route((await client.ok(C.GET_ROUTEINFO_BY_TOPIC, ask)).body)
        assert len(both.brokers) == 2
        near = decode_route((await client.ok(C.GET_ROUTEINFO_BY_TOPIC, ask | {"__ZONE_MODE": "true"})).body)
        assert [broker.broker_name for broker in near.brokers] == ["broker-b"]


@pytest.mark.asyncio
async def test_cluster_info_and_member_group() -> None:
    async with town() as place:
        await place.broker()
        client = await place.client()
        info = decode_cluster_info((await client.ok(C.GET_BROKER_CLUSTER_INFO)).body)
        assert info.clusters == {"DefaultCluster": ("broker-a",)}
        assert info.brokers["broker-a"].addresses == {0: "10.0.0.1:10911"}
        ask = {"clusterName": "DefaultCluster", "brokerName": "broker-a"}
        group = decode_broker_member_group((await client.ok(C.GET_BROKER_MEMBER_GROUP, ask)).body)
        assert group is not None
        assert group.addresses == {0: "10.0.0.1:10911"}
        nobody = decode_broker_member_group(
            (await client.ok(C.GET_BROKER_MEMBER_GROUP, ask | {"brokerName": "nobody"})).body
        )
        assert nobody is not None
        assert nobody.addresses == {}


@pytest.mark.asyncio
async def test_lists_of_topics() -> None:
    async with town() as place:
        await place.broker()
        client = await place.client()
        both = ("TBW102", "TopicTest")
        for code, ext, topics in (
            (C.GET_ALL_TOPIC_LIST_FROM_NAMESERVER, None, both),
            (C.GET_TOPICS_BY_CLUSTER, {"cluster": "DefaultCluster"}, both),
            (C.GET_TOPICS_BY_CLUSTER, {"cluster": "nobody"}, ()),
            (C.GET_UNIT_TOPIC_LIST, None, ()),
            (C.GET_HAS_UNIT_SUB_TOPIC_LIST, None, ()),
            (C.GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST, None, ()),
        ):
            found = decode_topic_list((await client.ok(code, ext)).body)
            assert (tuple(sorted(found.topics)), found.broker_address) == (topics, None)
        system = decode_topic_list((await client.ok(C.GET_SYSTEM_TOPIC_LIST_FROM_NS)).body)
        assert (system.topics, system.broker_address) == (("DefaultCluster", "broker-a"), "10.0.0.1:10911")


@pytest.mark.asyncio
async def test_lists_that_are_disabled_are_refused() -> None:
    async with town(NameServerConfig(enable_all_topic_list=False, enable_topic_list=False)) as place:
        client = await place.client()
        for code, setting in (
            (C.GET_ALL_TOPIC_LIST_FROM_NAMESERVER, "enableAllTopicList"),
            (C.GET_TOPICS_BY_CLUSTER, "enableTopicList"),
            (C.GET_UNIT_TOPIC_LIST, "enableTopicList"),
            (C.GET_HAS_UNIT_SUB_TOPIC_LIST, "enableTopicList"),
            (C.GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST, "enableTopicList"),
        ):
            answer = await client.ask(code, {"cluster": "DefaultCluster"})
            assert (answer.code, answer.remark) == (1, f"disabled by {setting}")


@pytest.mark.asyncio
async def test_write_permission_is_wiped_and_added() -> None:
    async with town() as place:
        await place.broker()
        client = await place.client()
        for code, count_name, perm in (
            (C.WIPE_WRITE_PERM_OF_BROKER, "wipeTopicCount", 4),
            (C.ADD_WRITE_PERM_OF_BROKER, "addTopicCount", 6),
        ):
            assert (await client.ok(code, {"brokerName": "broker-a"})).ext_map() == {count_name: "2"}
            route = decode_route((await client.ok(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "TopicTest"})).body)
            assert route.queues[0].perm == perm
            assert (await client.ok(code, {"brokerName": "nobody"})).ext_map() == {count_name: "0"}


@pytest.mark.asyncio
async def test_topic_is_deleted_and_set() -> None:
    async with town() as place:
        await place.broker()
        client = await place.client()
        before = (await client.ok(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "TopicTest"})).body
        await client.ok(C.DELETE_TOPIC_IN_NAMESRV, {"topic": "TopicTest", "clusterName": "nobody"})
        assert "TopicTest" in place.nameserver.routes.topics()
        await client.ok(C.DELETE_TOPIC_IN_NAMESRV, {"topic": "TopicTest", "clusterName": ""})
        assert "TopicTest" not in place.nameserver.routes.topics()
        await client.ok(C.REGISTER_TOPIC_IN_NAMESRV, {"topic": "TopicTest"}, before)
        assert (await client.ok(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "TopicTest"})).body == before
        await client.ok(C.REGISTER_TOPIC_IN_NAMESRV, {"topic": "empty"})
        assert "empty" not in place.nameserver.routes.topics()


@pytest.mark.asyncio
async def test_kv_configuration_is_set_read_and_removed() -> None:
    async with town() as place:
        client = await place.client()
        key = {"namespace": "NS", "key": "k"}
        assert (await client.ask(C.GET_KV_CONFIG, key)).code == ResponseCode.QUERY_NOT_FOUND
        assert (await client.ask(C.GET_KVLIST_BY_NAMESPACE, {"namespace": "NS"})).code == ResponseCode.QUERY_NOT_FOUND
        await client.ok(C.PUT_KV_CONFIG, key | {"value": 'v "1"'})
        assert (await client.ok(C.GET_KV_CONFIG, key)).ext_map() == {"value": 'v "1"'}
        assert decode_kv_table((await client.ok(C.GET_KVLIST_BY_NAMESPACE, {"namespace": "NS"})).body) == {"k": 'v "1"'}
        await client.ok(C.DELETE_KV_CONFIG, key)
        await client.ok(C.DELETE_KV_CONFIG, key)
        assert (await client.ask(C.GET_KV_CONFIG, key)).code == ResponseCode.QUERY_NOT_FOUND
        assert (await client.ask(C.PUT_KV_CONFIG, {"namespace": "NS", "value": "v"})).code == ResponseCode.SYSTEM_ERROR


@pytest.mark.asyncio
async def test_settings_are_read_and_changed_but_not_the_forbidden_ones() -> None:
    async with town() as place:
        client = await place.client()
        await client.ok(C.UPDATE_NAMESRV_CONFIG, body=b"orderMessageEnable=true\nenableTopicList=false\n")
        found = read_java_properties((await client.ok(C.GET_NAMESRV_CONFIG)).body)
        assert (found["orderMessageEnable"], found["enableTopicList"]) == ("true", "false")
        for name in ("configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"):
            answer = await client.ask(C.UPDATE_NAMESRV_CONFIG, body=f"{name}=x\n".encode())
            assert answer.code == ResponseCode.NO_PERMISSION
        assert (await client.ask(C.UPDATE_NAMESRV_CONFIG, body=b"\xff=1")).code == ResponseCode.SYSTEM_ERROR


@pytest.mark.asyncio
async def test_known_code_that_is_not_served_is_answered_3_by_name() -> None:
    async with town() as place:
        answer = await (await place.client()).ask(C.CONTROLLER_ELECT_MASTER)
        assert answer.code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
        assert "CONTROLLER_ELECT_MASTER" in (answer.remark or "")


def test_every_request_of_rocketmqs_nameserver_has_its_row() -> None:
    served = {
        100, 101, 102, 103, 104, 105, 106, 205, 206, 216, 217, 219, 224, 304, 311, 312, 313, 318, 319, 322, 327,
        901, 904,
    }  # fmt: skip
    assert {int(route.code) for route in NAMESERVER_ROUTES} == served
    assert all(route.doc for route in NAMESERVER_ROUTES)
