from __future__ import annotations

import pytest

from posthouse.client.errors import PosthouseError
from posthouse.client.received import ReceivedMessage, open_records
from posthouse.client.retries import DEAD, Retries
from posthouse.client.session import Session
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import response
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_V2
from posthouse.model.message import MessageQueue
from posthouse.model.properties import decode_properties
from tests.client.conftest import FakeBroker, FakeCluster
from tests.client.records import record

pytestmark = pytest.mark.asyncio

BACK, SEND = RequestCode.CONSUMER_SEND_MSG_BACK, RequestCode.SEND_MESSAGE_V2


async def open_way(cluster: FakeCluster) -> tuple[FakeBroker, Session, Retries, MessageQueue]:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    cluster.add_topic("%RETRY%g", queues=1)
    session = Session(cluster.address, host=None, kind="test client")
    session.start()
    await session.queues("t")
    return broker, session, Retries(session, "g", 16), MessageQueue("t", broker.name, 0)


def message(queue: MessageQueue, reconsume_times: int = 0) -> ReceivedMessage:
    properties = {"TAGS": "A", "KEYS": "k", "TRAN_MSG": "true", "DELAY": "9", "p": "q"}
    (found,) = open_records(record(5, b"body", properties, reconsume_times=reconsume_times), queue)
    return found


async def test_the_broker_takes_it_back(cluster: FakeCluster) -> None:
    broker, session, retries, queue = await open_way(cluster)
    broker.answers[BACK] = lambda command: response(0, command.request_id)
    await retries.put_back(message(queue), 2)
    assert broker.seen[-1].ext_map() == {
        "offset": "5000",
        "group": "g",
        "delayLevel": "2",
        "originMsgId": "ID5",
        "originTopic": "t",
        "unitMode": "false",
        "maxReconsumeTimes": "16",
        "bname": broker.name,
    }
    assert broker.stored == []
    await session.close()


@pytest.mark.parametrize(
    ("reconsume_times", "delay_level", "delay", "times_max"),
    [(0, 0, "3", 16), (4, 0, "7", 16), (4, 1, "1", 16), (0, DEAD, "3", 0)],
)
async def test_a_broker_that_does_not_is_sent_a_new_message(
    cluster: FakeCluster, reconsume_times: int, delay_level: int, delay: str, times_max: int
) -> None:
    broker, session, retries, queue = await open_way(cluster)
    broker.refuse(BACK, ResponseCode.REQUEST_CODE_NOT_SUPPORTED)
    await retries.put_back(message(queue, reconsume_times), delay_level)
    (command,) = broker.stored
    header = SEND_MESSAGE_V2.decode(command.ext)
    assert (header.producer_group, header.topic, header.queue_id, command.body) == ("g", "%RETRY%g", 0, b"body")
    assert (header.reconsume_times, header.reconsume_times_max, header.flag) == (reconsume_times + 1, times_max, 3)
    properties = decode_properties(header.properties or "")
    assert properties.pop("WAIT") == "true"
    assert properties == {
        "UNIQ_KEY": "ID5", "TAGS": "A", "KEYS": "k", "p": "q", "RETRY_TOPIC": "t", "ORIGIN_MESSAGE_ID": "ID5",
        "DELAY": delay,
    }  # fmt: skip
    await session.close()


async def test_when_neither_works_it_says_so(cluster: FakeCluster) -> None:
    broker, session, retries, queue = await open_way(cluster)
    broker.refuse(BACK, ResponseCode.SYSTEM_ERROR)
    broker.refuse(SEND, ResponseCode.MESSAGE_ILLEGAL, "no delays here")
    with pytest.raises(PosthouseError, match="no delays here"):
        await retries.put_back(message(queue), 0)
    await session.close()
