"""Makes the golden frames anew: the official Java client and a real Apache RocketMQ, with a recorder between them.

    python tests/golden/record.py CLASSPATH CLIENT_VERSION DATA_FOLDER [binary]

CLASSPATH has the client and the tools of CLIENT_VERSION. With `binary` the client writes binary headers, and only
three of its frames are kept. The recorder stands before the NameServer (the broker
registers through it as well) and before the broker; to bring clients there it replaces the broker's address in what
the NameServer says, and keeps the original. Needs Java, and Maven once; nothing in the test suite runs this.
"""

from __future__ import annotations

import pathlib
import socket
import subprocess
import sys
import threading
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command, decode_command, encode_command, request
from posthouse.codec.remoting.frame import Frame, FrameReader, encode_frame
from tests.compat.apache_rocketmq import ApacheError, ApacheRocketMQ, free_port

FOLDER = pathlib.Path(__file__).resolve().parent


class Recorded(NamedTuple):
    request_code: int
    is_answer: bool
    frame: Frame
    command: Command


class Recorder:
    """Listens on `port`, forwards to `target`, and keeps every frame of both directions, in order."""

    def __init__(self, port: int, target: int) -> None:
        self.found: list[Recorded] = []
        self.replace: tuple[bytes, bytes] | None = None
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            ours, _ = self._listener.accept()
            theirs = socket.create_connection(("127.0.0.1", self._target))
            codes: dict[int, int] = {}
            for source, sink in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._forward, args=(source, sink, codes), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, codes: dict[int, int]) -> None:
        reader = FrameReader()
        try:
            while data := source.recv(65536):
                for frame in reader.receive_data(data):
                    command = decode_command(frame)
                    if not command.is_response:
                        codes[command.request_id] = command.code
                    code = codes.get(command.request_id, -1)
                    self.found.append(Recorded(code, command.is_response, frame, command))
                    body = frame.body.replace(*self.replace) if self.replace and command.is_response else frame.body
                    sink.sendall(encode_frame(frame.header, body, frame.serialize_type))
        except OSError:
            pass
        sink.close()

    def first(self, code: RequestCode, *, is_answer: bool = False, body: bytes = b"", ext: str = "") -> Frame:
        """The first frame of that kind with these bytes in its body and this text in its header."""
        for each in self.found:
            wanted = each.request_code == code and each.is_answer is is_answer
            failed = each.is_answer and each.command.code != 0
            if wanted and not failed and body in each.frame.body and ext.encode() in each.frame.header:
                return each.frame
        raise LookupError(f"{code.name} was not seen")


class Control(ApacheRocketMQ):
    """Whose broker registers through a recorder, often."""

    register_at = ""
    compressed = False

    def _broker_settings(self) -> dict[str, object]:
        return {
            **super()._broker_settings(), "namesrvAddr": self.register_at, "registerNameServerPeriod": 10_000,
            "compressedRegister": str(self.compressed).lower(),
        }  # fmt: skip


def write(name: str, origin: str, frame: Frame) -> None:
    """One file: the origin, the header as a comment for the eye, and the whole frame."""
    data = encode_frame(frame.header, frame.body, frame.serialize_type)
    shown = frame.header.decode() if frame.serialize_type == 0 else "binary"
    lines = [f"# origin: {origin}", f"# header: {shown}"]
    lines += [data[:8].hex(" ", 4), *_wrapped(frame.header), *_wrapped(frame.body)]
    (FOLDER / f"{name}.hex").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _wrapped(data: bytes) -> list[str]:
    return [data[at : at + 56].hex() for at in range(0, len(data), 56)]


def ask(port: int, command: Command) -> Frame:
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(encode_command(command))
        reader = FrameReader()
        while True:
            frames = reader.receive_data(connection.recv(65536))
            if frames:
                return frames[0]


def main(classpath: str, version: str, data: pathlib.Path, binary: bool) -> None:
    broker_port = 20_000 + free_port(around=(-2, 0, 1)) % 10_000  # five digits, as the one in its place
    before_broker, before_nameserver = free_port(), free_port()
    control = Control(data / "apache", broker_port=broker_port)
    nameserver_port = int(control.nameserver_address.rpartition(":")[2])
    nameserver = Recorder(before_nameserver, nameserver_port)
    broker = Recorder(before_broker, broker_port)
    addresses = (b"127.0.0.1:%d" % broker_port, b"127.0.0.1:%d" % before_broker)
    assert len(addresses[0]) == len(addresses[1])
    Control.register_at = f"127.0.0.1:{before_nameserver}"
    with control:
        nameserver.replace = addresses
        command = ["java", "-Xmx256m", f"-Duser.home={data}", "-cp", classpath, str(FOLDER / "Exercise.java")]
        if binary:
            command.insert(1, "-Drocketmq.serialize.type=ROCKETMQ")
        subprocess.run([*command, f"127.0.0.1:{before_nameserver}"], check=True, timeout=180)
        if binary:
            save_binary(f"java_{version}_binary", f"Apache's Java client {version}", broker)
            return
        save(f"java_{version}", f"Apache's Java client {version}", f"apache_{control.version}", nameserver, broker)
        if version != control.version:
            return
        old = request(RequestCode.GET_ROUTEINFO_BY_TOPIC, 1, {"topic": "GoldenTopic"})
        old.version, old.language = 317, "GO"
        told = f"Apache RocketMQ {control.version}, its answer to a request that says version 317"
        write(f"apache_{control.version}_route_dialect", told, ask(nameserver_port, old))
    record_compressed(data / "compressed", control.version)


def save_binary(client: str, client_is: str, broker: Recorder) -> None:
    for what, frame in {
        "send_message_v2": broker.first(RequestCode.SEND_MESSAGE_V2, body=b"hello"),
        "heart_beat": broker.first(RequestCode.HEART_BEAT, body=b"golden_consumer"),
        "pull_message": broker.first(RequestCode.PULL_MESSAGE, ext="GoldenTopic"),
    }.items():
        write(f"{client}_{what}", f"{client_is} with rocketmq.serialize.type=ROCKETMQ", frame)


def record_compressed(data: pathlib.Path, version: str) -> None:
    """A broker that registers with the compressed form, only long enough to do so."""
    Control.compressed = True
    before_nameserver = free_port()
    control = Control(data)
    nameserver = Recorder(before_nameserver, int(control.nameserver_address.rpartition(":")[2]))
    Control.register_at = f"127.0.0.1:{before_nameserver}"
    try:
        with control:
            pass
    except ApacheError:
        pass  # 5.3.3's own NameServer cannot read it: the header says that the body is not compressed
    found = nameserver.first(RequestCode.REGISTER_BROKER)
    told = f"Apache RocketMQ {version}, its broker with compressedRegister=true"
    write(f"apache_{version}_register_broker_compressed", told, found)


def save(client: str, client_is: str, server: str, nameserver: Recorder, broker: Recorder) -> None:
    code = RequestCode
    server_is = f"Apache RocketMQ {server.partition('_')[2]}"
    for what, frame in {
        "send_message_v2": broker.first(code.SEND_MESSAGE_V2, body=b"hello"),
        "send_message_v2_compressed": broker.first(code.SEND_MESSAGE_V2, ext="key2"),
        "send_batch": broker.first(code.SEND_BATCH_MESSAGE),
        "heart_beat": broker.first(code.HEART_BEAT, body=b"golden_consumer"),
        "pull_message": broker.first(code.PULL_MESSAGE, ext="GoldenTopic"),
        "query_consumer_offset": broker.first(code.QUERY_CONSUMER_OFFSET, ext="GoldenTopic"),
        "update_consumer_offset": broker.first(code.UPDATE_CONSUMER_OFFSET, ext="GoldenTopic"),
        "unregister_client": broker.first(code.UNREGISTER_CLIENT, ext="golden_consumer"),
        "get_route": nameserver.first(code.GET_ROUTEINFO_BY_TOPIC, ext="GoldenTopic"),
    }.items():
        write(f"{client}_{what}", client_is, frame)
    if client.partition("_")[2] != server.partition("_")[2]:
        return  # the server's side is kept from the run with the client of its own version
    for what, frame in {
        "send_reply": broker.first(code.SEND_MESSAGE_V2, is_answer=True),
        "send_batch_reply": broker.first(code.SEND_BATCH_MESSAGE, is_answer=True),
        "pull_reply": broker.first(code.PULL_MESSAGE, is_answer=True, body=b"hello"),
        "heart_beat_reply": broker.first(code.HEART_BEAT, is_answer=True),
        "consumer_list": broker.first(code.GET_CONSUMER_LIST_BY_GROUP, is_answer=True),
        "topic_stats": broker.first(code.GET_TOPIC_STATS_INFO, is_answer=True, body=b"GoldenTopic"),
        "group_stats": broker.first(code.GET_CONSUME_STATS, is_answer=True, body=b"GoldenTopic"),
        "consumer_connections": broker.first(code.GET_CONSUMER_CONNECTION_LIST, is_answer=True),
        "producer_connections": broker.first(code.GET_PRODUCER_CONNECTION_LIST, is_answer=True),
        "group_table": broker.first(code.GET_ALL_SUBSCRIPTIONGROUP_CONFIG, is_answer=True),
        "topic_table": broker.first(code.GET_ALL_TOPIC_CONFIG, is_answer=True),
        "cluster_info": nameserver.first(code.GET_BROKER_CLUSTER_INFO, is_answer=True),
        "topic_list": nameserver.first(code.GET_ALL_TOPIC_LIST_FROM_NAMESERVER, is_answer=True),
        "route_standard": nameserver.first(code.GET_ROUTEINFO_BY_TOPIC, is_answer=True, body=b"queueDatas"),
        "register_broker": nameserver.first(code.REGISTER_BROKER),
        "register_broker_reply": nameserver.first(code.REGISTER_BROKER, is_answer=True),
    }.items():
        write(f"{server}_{what}", server_is, frame)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4:] == ["binary"])
