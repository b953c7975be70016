"""Apache's own admin tool, unmodified, against a server: every command once (mqadmin_commands.py), some more closely.

mqadmin ends with code 0 even when a command has failed and only prints the stack trace, so each test asserts that there
is none and that the words which mean success are there.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from posthouse.model.ids import offset_message_id
from posthouse.model.message import Endpoint
from posthouse.model.offsets import LogOffset
from tests.compat import desk as tool
from tests.compat.apache_rocketmq import mqadmin
from tests.compat.conftest import Server
from tests.compat.mqadmin_commands import ROWS, Refuses, Works, filled, pattern

ROUTE_TIMEOUT_S = 30.0

pytestmark = [pytest.mark.compat, pytest.mark.timeout(300)]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Desk:
    """mqadmin at a server's desk. `words` are what rows of the table of commands call by name."""

    server: Server
    tool: tool.Desk
    cluster: str = ""
    broker: str = ""
    words: dict[str, str] = field(default_factory=dict)

    def ask(self, command: str, *args: str) -> tuple[str, str]:
        """What the command printed to stdout and to stderr, whatever that is."""
        return self.tool.run(command, "-n", self.server.nameserver_address, *args)

    def run(self, command: str, *args: str) -> str:
        """What the command printed; fails on a stack trace and on anything said to stderr."""
        stdout, stderr = self.ask(command, *args)
        traced = re.search(r"(?m)Exception|^\s+at \S+\(", stdout + stderr)
        assert traced is None, self.server.explain(f"{command} {' '.join(args)} has failed", stdout + stderr)
        assert not stderr.strip(), self.server.explain(f"{command} {' '.join(args)} complains", stderr)
        return stdout

    def create(self, topic: str, queues: int) -> None:
        counts = ("-r", str(queues), "-w", str(queues))
        created = self.run("updateTopic", "-b", self.server.broker_address, "-t", topic, *counts)
        assert f"create topic to {self.server.broker_address} success" in created
        assert f"topicName={topic}, readQueueNums={queues}, writeQueueNums={queues}, perm=RW-" in created

    def permission(self, topic: str) -> int:
        queues = _parse_route(self.run("topicRoute", "-t", topic))["queueDatas"]
        assert isinstance(queues, list)
        return int(queues[0]["perm"])


@pytest.fixture(scope="module")
def desk(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home = tmp_path_factory.mktemp("mqadmin")
    with tool.Desk(home) as running:
        rows = Desk(server, running).run("clusterList").splitlines()
        names = [row.split()[:2] for row in rows if server.broker_address in row]
        assert len(names) == 1, rows
        cluster, broker = names[0]
        words = {
            "broker": server.broker_address,
            "cluster": cluster,
            "folder": str(home),
            "group": "desk-group",
            "name": broker,
            "nameserver": server.nameserver_address,
            "topic": "desk-topic",
        }
        (home / "topics.json").write_text(json.dumps([{"topicName": "listed", "readQueueNums": 1}]))
        (home / "groups.json").write_text(json.dumps([{"groupName": "listed-group"}]))
        yield Desk(server, running, cluster, broker, words)


@pytest.fixture
def topic() -> str:
    return f"desk-{next(_numbers)}"


def test_topic_is_created_shown_and_deleted(desk: Desk, topic: str) -> None:
    desk.create(topic, 3)

    assert topic in desk.run("topicList").split()
    route = _parse_route(desk.run("topicRoute", "-t", topic))
    assert route["brokerDatas"] == [
        {
            "brokerAddrs": {"0": desk.server.broker_address},
            "brokerName": desk.broker,
            "cluster": desk.cluster,
            "enableActingMaster": False,
        }
    ]
    assert route["queueDatas"] == [
        {"brokerName": desk.broker, "perm": 6, "readQueueNums": 3, "topicSysFlag": 0, "writeQueueNums": 3}
    ]
    assert desk.run("topicClusterList", "-t", topic).split() == [desk.cluster]

    deleted = desk.run("deleteTopic", "-c", desk.cluster, "-t", topic)
    assert f"delete topic [{topic}] from cluster [{desk.cluster}] success." in deleted
    assert f"delete topic [{topic}] from NameServer success." in deleted
    assert topic not in desk.run("topicList").split()
    _, complaint = desk.ask("topicRoute", "-t", topic)
    assert re.search(rf"CODE: 17  DESC: .*\b{topic}\b", complaint), complaint


def test_topic_is_created_in_the_whole_cluster(desk: Desk, topic: str) -> None:
    created = desk.run("updateTopic", "-c", desk.cluster, "-t", topic)

    assert f"create topic to {desk.server.broker_address} success." in created
    assert "readQueueNums=8, writeQueueNums=8" in created
    assert "writeQueueNums=8" in desk.run("updateTopic", "-c", desk.cluster, "-t", topic), (
        "to say it twice is no mistake"
    )


def test_topic_status_has_one_row_per_queue(desk: Desk, topic: str) -> None:
    desk.create(topic, 4)

    status = desk.run("topicStatus", "-t", topic)

    rows = [row.split()[:4] for row in status.splitlines() if row.startswith(desk.broker)]
    assert rows == [[desk.broker, str(queue), "0", "0"] for queue in range(4)]


def test_cluster_list_shows_the_broker(desk: Desk) -> None:

    listed = desk.run("clusterList")
    more = desk.run("clusterList", "-m")

    row = next(row for row in listed.splitlines() if row.startswith(desk.cluster)).split()
    assert row[:4] == [desk.cluster, desk.broker, "0", desk.server.broker_address]
    assert re.fullmatch(r"V\d+_\d+_\d+(_SNAPSHOT)?", row[4])
    assert any(row.split()[:2] == [desk.cluster, desk.broker] for row in more.splitlines())


def test_broker_status_has_what_people_look_at(desk: Desk) -> None:
    def status() -> dict[str, str]:
        rows = desk.run("brokerStatus", "-b", desk.server.broker_address).splitlines()
        return {name.strip(): value.strip() for name, _, value in (row.partition(": ") for row in rows)}

    _await(lambda: status()["putTps"] != "")  # Apache's broker has none in its first seconds
    table = status()
    assert re.fullmatch(r"V\d+_\d+_\d+(_SNAPSHOT)?", table["brokerVersionDesc"])
    assert 0 < int(table["bootTimestamp"]) <= time.time() * 1000
    assert int(table["commitLogMaxOffset"]) >= int(table["commitLogMinOffset"]) >= -1, "-1: Apache's log is empty"
    assert int(table["msgPutTotalTodayNow"]) >= 0
    # The last 10 s, minute and 10 minutes, as far as the broker has been up for so long.
    assert all(float(each) >= 0 for each in table["putTps"].split())
    assert 1 <= len(table["putTps"].split()) <= 3
    assert table["commitLogDirCapacity"].startswith("Total : ")


def test_kv_config_is_written_and_deleted(desk: Desk) -> None:
    address = ("-s", "DESK_NAMESPACE", "-k", "colour")

    assert "create or update kv config to namespace success" in desk.run("updateKvConfig", *address, "-v", "red")
    assert "delete kv config from namespace success" in desk.run("deleteKvConfig", *address)


def test_order_configuration_is_put_got_and_deleted(desk: Desk, topic: str) -> None:
    desk.create(topic, 2)

    put = desk.run("updateOrderConf", "-t", topic, "-m", "put", "-v", f"{desk.broker}:2")
    assert "update orderConf success" in put
    assert f"{desk.broker}:2" in desk.run("updateOrderConf", "-t", topic, "-m", "get")
    assert "delete orderConf success" in desk.run("updateOrderConf", "-t", topic, "-m", "delete")


def test_write_permission_is_wiped_and_given_back(desk: Desk, topic: str) -> None:
    desk.create(topic, 2)
    address = desk.server.nameserver_address

    try:
        wiped = desk.run("wipeWritePerm", "-b", desk.broker)
        found = re.search(r"wipe write perm of broker\[(.*)] in name server\[(.*)] OK, (\d+)", wiped)
        assert found is not None, wiped
        assert found.group(1, 2) == (desk.broker, address)
        assert int(found[3]) >= 1, "the number of topics"
        _await(lambda: desk.permission(topic) == 4)
    finally:
        added = desk.run("addWritePerm", "-b", desk.broker)
    assert re.search(rf"add write perm of broker\[{desk.broker}] in name server\[{address}] OK, [1-9]\d*", added), added
    _await(lambda: desk.permission(topic) == 6)


def test_nameserver_tells_its_settings(desk: Desk) -> None:
    told = desk.run("getNamesrvConfig")

    assert f"============{desk.server.nameserver_address}============" in told
    table = {name.strip(): value.strip() for name, _, value in (row.partition(" =  ") for row in told.splitlines())}
    assert int(table["scanNotActiveBrokerInterval"]) > 0
    assert table["enableTopicList"] == "true"


def test_message_is_found_by_its_place_its_key_and_its_unique_key(desk: Desk, topic: str) -> None:
    desk.create(topic, 1)
    sent = desk.run("sendMessage", "-t", topic, "-p", "wanted body", "-k", "wanted-key", "-c", "TagA")
    unique_key = sent.splitlines()[-1].split()[-1]
    desk.run("sendMessage", "-t", topic, "-p", "other body", "-k", "other-key")

    def by_key() -> list[list[str]]:
        rows = desk.run("queryMsgByKey", "-t", topic, "-k", "wanted-key").splitlines()
        return [row.split() for row in rows if not row.startswith("#")]

    _await(lambda: by_key() != [])
    rows = by_key()
    assert {tuple(row[:2]) for row in rows} == {(unique_key, "0")}, "one, unless its client had to send it twice"
    offsets = {row[2] for row in rows}
    found = _parse_message(desk.run("queryMsgByUniqueKey", "-t", topic, "-i", unique_key))
    assert (found["Topic"], found["Tags"], found["Keys"]) == (topic, "[TagA]", "[wanted-key]")
    host, _, port = found["Store Host"].rpartition(":")
    place = offset_message_id(Endpoint(ip_address(host).packed, int(port)), LogOffset(int(found["CommitLog Offset"])))
    by_place = _parse_message(desk.run("queryMsgById", "-t", topic, "-i", place))
    assert (by_place["Topic"], by_place["Keys"]) == (topic, "[wanted-key]")
    assert by_place["Queue Offset"] in offsets

    assert "wanted-key" not in "".join(desk.ask("queryMsgByUniqueKey", "-t", topic, "-i", unique_key[:-4] + "FFFF"))
    assert "wanted-key" not in "".join(desk.ask("queryMsgById", "-t", topic, "-i", place[:-4] + "FFFF"))


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.command} {row.args}".strip() for row in ROWS])
def test_command_prints_what_the_table_says(desk: Desk, row: Works | Refuses) -> None:
    if isinstance(row, Refuses):
        _refused(desk, row)
    elif row.only in ("", desk.server.kind):
        _works(desk, row)
    else:
        pytest.skip(f"true of {row.only} only")


def _works(desk: Desk, row: Works) -> None:
    args = filled(row.args, desk.words).split()
    wanted = pattern(row.prints, desk.words)
    printed = ""

    def is_so() -> bool:
        nonlocal printed
        if row.command == "!member":
            printed, complaint = desk.tool.run(row.command, desk.server.nameserver_address, *args)
            assert not complaint.strip(), desk.server.explain("a client could not be started", complaint)
        elif row.waits or row.shows_stacks:
            printed = "".join(desk.ask(row.command, *args))
        else:
            printed = desk.run(row.command, *args)
        return wanted.search(printed) is not None

    if row.waits:
        _await(is_so)
        printed = desk.run(row.command, *args)
    else:
        is_so()
    called = f"{row.command} {' '.join(args)} prints no line that is {row.prints!r}"
    assert wanted.search(printed), desk.server.explain(called, printed)
    for word, where in row.keep.items():
        found = re.search(where, printed)
        assert found is not None, printed
        desk.words[word] = found[1]


def _refused(desk: Desk, row: Refuses) -> None:
    if not row.args or desk.server.kind != "posthouse":
        pytest.skip("not run: it does not end, or asks no server, or the server is another one")
    printed = "".join(desk.ask(row.command, *filled(row.args, desk.words).split()))
    assert row.why in printed, desk.server.explain(f"{row.command} is not refused as it should be", printed)


def test_tool_as_a_process_of_its_own_ends_with_code_0(desk: Desk) -> None:
    done = mqadmin(("clusterList", "-n", desk.server.nameserver_address), home=pathlib.Path(desk.words["folder"]))
    assert (done.returncode, done.stderr) == (0, "")
    assert desk.server.broker_address in done.stdout


def test_table_has_every_command(desk: Desk) -> None:
    told = "".join(desk.tool.run())
    commands = re.findall(r"(?m)^   (\w+) ", told)
    assert len(commands) > 80, told
    assert set(commands) == {row.command for row in ROWS} - {"!member"}


def _parse_message(text: str) -> dict[str, str]:
    """mqadmin prints a message as a row for each field."""
    return {name.strip(): value.strip() for name, _, value in (row.partition(":") for row in text.splitlines())}


def _parse_route(text: str) -> dict[str, object]:
    """mqadmin prints the route as JSON with bare numbers as names, which JSON does not have."""
    route: dict[str, object] = json.loads(re.sub(r"([{,]\s*)(\d+):", r'\1"\2":', text))
    return route


def _await(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ROUTE_TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {ROUTE_TIMEOUT_S:.0f} s"
        time.sleep(0.5)
