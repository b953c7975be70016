from __future__ import annotations

from posthouse.client.routing import topic_queues
from posthouse.host.net import Address
from posthouse.model.message import MessageQueue
from posthouse.model.route import BrokerData, QueueData, TopicRoute
from posthouse.model.topic import Perm


def broker(name: str, *ids: int, host: str = "10.0.0.1") -> BrokerData:
    return BrokerData("c", name, {broker_id: f"{host}:{10911 + broker_id}" for broker_id in ids})


def names(queues: tuple[MessageQueue, ...]) -> list[tuple[str, int]]:
    return [(queue.broker_name, queue.queue_id) for queue in queues]


def test_queues_are_sorted_by_broker_and_number() -> None:
    route = TopicRoute(
        (QueueData("b", 2, 1, 6), QueueData("a", 1, 2, 6)), (broker("b", 0), broker("a", 0)), filter_servers={}
    )
    found = topic_queues("t", route)
    assert names(found.write_queues) == [("a", 0), ("a", 1), ("b", 0)]
    assert names(found.read_queues) == [("a", 0), ("b", 0), ("b", 1)]
    assert all(queue.topic == "t" for queue in found.write_queues)
    assert not found.one_broker
    assert found.brokers["a"] == {0: Address("10.0.0.1", 10911)}


def test_permissions_decide_what_can_be_done_with_a_queue() -> None:
    route = TopicRoute(
        (QueueData("a", 1, 1, Perm.READ), QueueData("b", 1, 1, Perm.WRITE)), (broker("a", 0), broker("b", 0))
    )
    found = topic_queues("t", route)
    assert (names(found.write_queues), names(found.read_queues)) == ([("b", 0)], [("a", 0)])


def test_without_a_master_there_is_only_reading() -> None:
    found = topic_queues("t", TopicRoute((QueueData("a", 1, 1, 6),), (broker("a", 1),)))
    assert (names(found.write_queues), names(found.read_queues)) == ([], [("a", 0)])


def test_queues_of_brokers_that_are_not_named_and_bad_addresses_are_left_out() -> None:
    bad = BrokerData("c", "bad", {0: "no port"})
    found = topic_queues("t", TopicRoute((QueueData("x", 1, 1, 6), QueueData("bad", 1, 1, 6)), (bad,)))
    assert (found.write_queues, names(found.read_queues)) == ((), [("bad", 0)])


def test_an_order_configuration_overrides_the_number_of_queues() -> None:
    queues = (QueueData("a", 8, 8, 6), QueueData("b", 8, 8, 6))
    brokers = (broker("a", 0), broker("b", 0))
    assert names(topic_queues("t", TopicRoute(queues, brokers, "a:2;b:1")).write_queues) == [
        ("a", 0),
        ("a", 1),
        ("b", 0),
    ]
    assert len(topic_queues("t", TopicRoute(queues, brokers, "nonsense")).write_queues) == 16


def test_a_borrowed_route_has_few_queues_under_the_new_name() -> None:
    template = topic_queues("TBW102", TopicRoute((QueueData("a", 8, 8, 7),), (broker("a", 0),)))
    lent = template.borrow("new")
    assert lent.borrowed
    assert not template.borrowed
    assert lent.write_queues == tuple(MessageQueue("new", "a", n) for n in range(4))


def test_a_sharding_key_picks_as_java_does() -> None:
    found = topic_queues("t", TopicRoute((QueueData("a", 7, 7, 6),), (broker("a", 0),)))
    # In Java "hello".hashCode() is 99162322, and "polygenelubricants".hashCode() is Integer.MIN_VALUE.
    assert found.queue_of_key("hello").queue_id == 99162322 % 7
    assert found.queue_of_key("polygenelubricants").queue_id == 2147483648 % 7
