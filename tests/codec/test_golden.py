"""Frames of real clients and servers: what we read from them, and that we write the same bytes where we can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from posthouse.codec.compression import inflate_body
from posthouse.codec.record import decode_record, decode_records, encode_record, record_properties
from posthouse.codec.remoting.batch import decode_batch
from posthouse.codec.remoting.bodies import cluster, consumers, groups, heartbeat, registration, routes, stats, topics
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, HeaderType, decode_command, encode_command
from posthouse.codec.remoting.frame import ROCKETMQ, FrameReader
from posthouse.codec.remoting.headers.clients import HEARTBEAT_REPLY, UNREGISTER_CLIENT
from posthouse.codec.remoting.headers.nameserver import GET_ROUTE, REGISTER_BROKER
from posthouse.codec.remoting.headers.offsets import QUERY_CONSUMER_OFFSET, UPDATE_CONSUMER_OFFSET
from posthouse.codec.remoting.headers.pull import PULL_MESSAGE, PULL_MESSAGE_REPLY, PullFlag
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_REPLY, SEND_MESSAGE_V2
from posthouse.model.group import ConsumeFrom, ConsumeType, MessageModel
from posthouse.model.ids import offset_message_id
from posthouse.model.message import NewMessage, SysFlag
from posthouse.model.properties import decode_properties
from tests.codec.golden import GOLDEN, golden

FRAMES = sorted(path.stem for path in GOLDEN.glob("*.hex") if path.stem.startswith(("java_", "apache_")))
CLIENTS = ("java_4.9.8", "java_5.3.3")


def command_of(name: str) -> Command:
    (frame,) = FrameReader().receive_data(golden(name))
    return decode_command(frame)


@pytest.mark.parametrize("name", FRAMES)
def test_recorded_frame_reads_and_is_written_again_with_the_same_meaning(name: str) -> None:
    command = command_of(name)
    (again,) = FrameReader().receive_data(encode_command(command))
    found = decode_command(again)
    assert found.ext_map() == command.ext_map()
    for member in ("code", "request_id", "flag", "version", "language", "remark", "body"):
        assert getattr(found, member) == getattr(command, member), member


@pytest.mark.parametrize("name", [name for name in FRAMES if "_binary_" in name])
def test_binary_frame_is_written_again_byte_for_byte(name: str) -> None:
    assert encode_command(command_of(name), ROCKETMQ) == golden(name)


@pytest.mark.parametrize(
    ("what", "code", "header_type"),
    [
        ("send_message_v2", RequestCode.SEND_MESSAGE_V2, SEND_MESSAGE_V2),
        ("send_message_v2_compressed", RequestCode.SEND_MESSAGE_V2, SEND_MESSAGE_V2),
        ("send_batch", RequestCode.SEND_BATCH_MESSAGE, SEND_MESSAGE_V2),
        ("pull_message", RequestCode.PULL_MESSAGE, PULL_MESSAGE),
        ("query_consumer_offset", RequestCode.QUERY_CONSUMER_OFFSET, QUERY_CONSUMER_OFFSET),
        ("update_consumer_offset", RequestCode.UPDATE_CONSUMER_OFFSET, UPDATE_CONSUMER_OFFSET),
        ("unregister_client", RequestCode.UNREGISTER_CLIENT, UNREGISTER_CLIENT),
        ("get_route", RequestCode.GET_ROUTEINFO_BY_TOPIC, GET_ROUTE),
    ],
)
@pytest.mark.parametrize("client", CLIENTS)
def test_header_of_a_client_loses_nothing_in_our_struct(
    client: str, what: str, code: RequestCode, header_type: HeaderType[Any]
) -> None:
    command = command_of(f"{client}_{what}")
    assert command.code == code
    assert header_type.encode(header_type.decode(command.ext)) == command.ext_map()


@pytest.mark.parametrize("client", [*CLIENTS, "java_5.3.3_binary"])
def test_send_of_a_client(client: str) -> None:
    command = command_of(f"{client}_send_message_v2")
    header = SEND_MESSAGE_V2.decode(command.ext)
    assert (header.producer_group, header.topic, header.default_topic) == ("golden_producer", "GoldenTopic", "TBW102")
    assert (header.default_topic_queues, header.batch, header.broker_name) == (4, False, "apache")
    found = decode_properties(header.properties or "")
    assert (found["TAGS"], found["KEYS"], found["colour"]) == ("TagA", "key1", "grün")
    assert command.body == b"hello"


@pytest.mark.parametrize("client", CLIENTS)
def test_batch_of_a_client(client: str) -> None:
    command = command_of(f"{client}_send_batch")
    assert SEND_MESSAGE_V2.decode(command.ext).batch is True
    entries = decode_batch(command.body)
    assert [entry.body for entry in entries] == [b"b1", b"b2"]
    assert all(decode_properties(entry.properties)["TAGS"] == "TagA" for entry in entries)


@pytest.mark.parametrize("client", CLIENTS)
def test_body_that_a_client_compressed_inflates(client: str) -> None:
    command = command_of(f"{client}_send_message_v2_compressed")
    header = SEND_MESSAGE_V2.decode(command.ext)
    assert header.sys_flag == SysFlag.COMPRESSED | 0x300
    message = decode_record(golden("record_v1"))
    message.body, message.sys_flag = command.body, header.sys_flag
    assert inflate_body(message) == b"0123456789" * 500


@pytest.mark.parametrize("client", [*CLIENTS, "java_5.3.3_binary"])
def test_heartbeat_of_a_client(client: str) -> None:
    found = heartbeat.decode_heartbeat(command_of(f"{client}_heart_beat").body)
    assert found.client_id == "127.0.0.1@golden"
    assert set(found.producer_groups) == {"golden_producer", "CLIENT_INNER_PRODUCER"}
    (member,) = found.memberships
    assert (member.group, member.consume_type) == ("golden_consumer", ConsumeType.CONSUME_PASSIVELY)
    assert (member.message_model, member.consume_from) == (
        MessageModel.CLUSTERING,
        ConsumeFrom.CONSUME_FROM_FIRST_OFFSET,
    )
    wanted = {each.topic: each for each in member.subscriptions}
    assert wanted.keys() == {"GoldenTopic", "%RETRY%golden_consumer"}
    assert wanted["GoldenTopic"].tag_hashes == {2598919, 2598920}
    assert wanted["%RETRY%golden_consumer"].takes_all


@pytest.mark.parametrize("client", [*CLIENTS, "java_5.3.3_binary"])
def test_pull_of_a_client(client: str) -> None:
    header = PULL_MESSAGE.decode(command_of(f"{client}_pull_message").ext)
    assert (header.consumer_group, header.topic) == ("golden_consumer", "GoldenTopic")
    assert (header.sys_flag, header.suspend_timeout_ms, header.messages_max) == (PullFlag.SUSPEND, 15_000, 32)


def test_send_answer_of_apache() -> None:
    command = command_of("apache_5.3.3_send_reply")
    reply = SEND_MESSAGE_REPLY.decode(command.ext)
    assert (reply.region, reply.trace_on, reply.queue_offset) == ("DefaultRegion", True, 0)
    assert SEND_MESSAGE_REPLY.encode(reply) == command.ext_map()
    batch = SEND_MESSAGE_REPLY.decode(command_of("apache_5.3.3_send_batch_reply").ext)
    assert [len(each) for each in batch.msg_id.split(",")] == [32, 32]


def test_pull_answer_of_apache_and_its_record_byte_for_byte() -> None:
    command = command_of("apache_5.3.3_pull_reply")
    assert (command.code, command.remark) == (ResponseCode.SUCCESS, "FOUND")
    reply = PULL_MESSAGE_REPLY.decode(command.ext)
    assert (reply.suggest_which_broker_id, reply.next_begin_offset) == (0, 1)
    (found,) = decode_records(command.body)
    assert decode_record(command.body, check_crc=True) == found
    assert (found.topic, found.body, found.tag, found.keys) == ("GoldenTopic", b"hello", "TagA", ("key1",))
    sent = SEND_MESSAGE_REPLY.decode(command_of("apache_5.3.3_send_reply").ext)
    assert sent.msg_id == offset_message_id(found.store_host, found.log_offset)
    assert sent.transaction_id == found.message_id
    again = encode_record(
        NewMessage(
            found.topic,
            found.queue_id,
            found.body,
            "",
            found.flag,
            found.sys_flag,
            found.born_at_ms,
            found.born_host,
            found.reconsume_times,
        ),
        topic=found.topic.encode(),
        properties=record_properties(command.body).encode(),
        queue_offset=found.queue_offset,
        log_offset=found.log_offset,
        stored_at_ms=found.stored_at_ms,
        store_host=found.store_host,
        prepared_transaction_offset=found.prepared_transaction_offset,
    )
    assert again == command.body


def test_heartbeat_answer_of_apache() -> None:
    command = command_of("apache_5.3.3_heart_beat_reply")
    assert command.version == 479
    reply = HEARTBEAT_REPLY.decode(command.ext)
    assert (reply.supports_v2, reply.subscription_changed) == (True, True)


def _cluster_again(body: bytes) -> bytes:
    return cluster.encode_cluster_info(cluster.decode_cluster_info(body), standard_json=False)


def _route_again(body: bytes) -> bytes:
    return routes.encode_route(routes.decode_route(body), standard_json=True)


def _dialect_again(body: bytes) -> bytes:
    return routes.encode_route(routes.decode_route(body), standard_json=False)


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("apache_5.3.3_route_standard", _route_again),
        ("apache_5.3.3_route_dialect", _dialect_again),
        ("apache_5.3.3_cluster_info", _cluster_again),
        ("apache_5.3.3_topic_stats", lambda body: stats.encode_topic_stats(stats.decode_topic_stats(body))),
        ("apache_5.3.3_group_stats", lambda body: stats.encode_group_stats(stats.decode_group_stats(body))),
        (
            "apache_5.3.3_consumer_connections",
            lambda body: consumers.encode_consumer_connections(consumers.decode_consumer_connections(body)),
        ),
        (
            "apache_5.3.3_producer_connections",
            lambda body: consumers.encode_producer_connections(consumers.decode_producer_connections(body)),
        ),
        (
            "apache_5.3.3_consumer_list",
            lambda body: consumers.encode_consumer_list(consumers.decode_consumer_list(body)),
        ),
        ("apache_5.3.3_topic_list", lambda body: topics.encode_topic_list(topics.decode_topic_list(body).topics)),
    ],
)
def test_body_of_apache_is_written_again_byte_for_byte(name: str, again: Callable[[bytes], bytes]) -> None:
    body = command_of(name).body
    assert again(body) == body


def test_routes_of_both_dialects_mean_a_broker_with_a_master() -> None:
    for name in ("apache_5.3.3_route_standard", "apache_5.3.3_route_dialect"):
        route = routes.decode_route(command_of(name).body)
        broker = route.broker("apache")
        assert broker is not None
        assert broker.master is not None
        assert route.queues[0].broker_name == "apache"


def test_tables_of_apache_are_written_again_with_the_same_members() -> None:
    body = command_of("apache_5.3.3_topic_table").body
    table = topics.decode_topic_table(body)
    theirs = msgspec.json.decode(body)
    for static in ("mappingDataVersion", "topicQueueMappingDetailMap", "topicQueueMappingInfoMap"):
        del theirs[static]
    assert msgspec.json.decode(topics.encode_topic_table(table.topics.values(), table.version)) == theirs

    body = command_of("apache_5.3.3_group_table").body
    found = groups.decode_group_table(body)
    theirs = msgspec.json.decode(body)
    ours = groups.encode_group_table(found.groups.values(), found.version, found.forbidden)
    assert msgspec.json.decode(ours) == theirs


@pytest.mark.parametrize("name", ["apache_5.3.3_register_broker", "apache_5.3.3_register_broker_compressed"])
def test_registration_of_an_apache_broker(name: str) -> None:
    """The second one says in its header that it is not compressed, and is."""
    command = command_of(name)
    header = REGISTER_BROKER.decode(command.ext)
    assert (header.broker_name, header.broker_id, header.enable_acting_master) == ("apache", 0, False)
    assert (header.compressed, header.body_crc) == (False, registration.body_crc(command.body))
    found = registration.decode_registration(command.body, compressed=header.compressed, crc=header.body_crc)
    template = found.topics["TBW102"]
    assert (template.read_queues, template.write_queues, template.perm) == (8, 8, 7)
    assert found.topics["SCHEDULE_TOPIC_XXXX"].read_queues == 18
    assert found.version.timestamp_ms > 0
    assert found.filter_servers == ()


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.hex")), ids=lambda path: path.stem)
def test_golden_file_says_where_it_is_from(path: Any) -> None:
    assert golden(path.stem)
