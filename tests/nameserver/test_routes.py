"""Each rule of registration, expiry and look-up, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from posthouse.model.limits import BROKER_EXPIRY_MS
from posthouse.model.refusal import Reason, Refused
from posthouse.model.registration import Registration
from posthouse.model.route import DataVersion, QueueData
from posthouse.model.topic import TopicConfig
from posthouse.nameserver import routes as routes_module
from posthouse.nameserver.addresses import Origin
from posthouse.nameserver.config import NameServerConfig
from posthouse.nameserver.routes import BrokerIdentity, BrokerTraits, Registered, Routes

CLIENT = "192.168.1.1"
"""Where the asking client dialled us."""

LOCAL = Origin("127.0.0.1", "127.0.0.1")
A0 = BrokerIdentity("C", "broker-a", "10.0.0.1:10911", 0)
A1 = BrokerIdentity("C", "broker-a", "10.0.0.2:10911", 1)
A2 = BrokerIdentity("C", "broker-a", "10.0.0.3:10911", 2)
B0 = BrokerIdentity("C", "broker-b", "10.0.1.1:10911", 0)
OTHER0 = BrokerIdentity("D", "broker-d", "10.0.2.1:10911", 0)
V1 = DataVersion(0, 1000, 1)
V2 = DataVersion(0, 1000, 2)
SLAVE_OF_5 = BrokerTraits(acting_master=False)
ACTING = BrokerTraits(acting_master=True)
SLAVE_OF_4 = BrokerTraits(acting_master=None)


class Wire:
    """A connection: its identity, and why it was closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    def close(self, why: str) -> None:
        self.closed.append(why)


class Town:
    """Routes under test; every step ends with the invariants."""

    def __init__(self, **config: bool) -> None:
        self.now_s = 1000.0
        self.routes = Routes(lambda: self.now_s, NameServerConfig(**config))  # type: ignore[arg-type]

    def register(
        self,
        who: BrokerIdentity = A0,
        topics: Iterable[TopicConfig | str] = ("T", "U"),
        version: DataVersion = V1,
        traits: BrokerTraits = SLAVE_OF_5,
        wire: Wire | None = None,
        origin: Origin = LOCAL,
    ) -> Registered:
        configs = [TopicConfig(topic, 4, 8) if isinstance(topic, str) else topic for topic in topics]
        table = Registration({config.name: config for config in configs}, version)
        try:
            return self.routes.register(who, table, traits, wire or Wire(), origin)
        finally:
            self.routes.check_invariants()

    def unregister(self, who: BrokerIdentity) -> None:
        self.routes.unregister(who)
        self.routes.check_invariants()

    def addresses(self, topic: str = "T", name: str = "broker-a") -> dict[int, str]:
        broker = self.routes.route(topic, CLIENT).broker(name)
        assert broker is not None
        return dict(broker.addresses)

    def perm(self, topic: str = "T", name: str = "broker-a") -> int:
        return {entry.broker_name: entry.perm for entry in self.routes.route(topic, CLIENT).queues}[name]

    def has(self, topic: str) -> bool:
        try:
            self.routes.route(topic, CLIENT)
        except Refused as refused:
            if refused.reason is not Reason.TOPIC_NOT_EXIST or topic not in refused.remark:
                raise
            return False
        return True


# Registration


def test_topic_is_routed_to_every_broker_that_registered_it() -> None:
    town = Town()
    town.register(A0, [TopicConfig("T", 4, 8, sys_flag=3), "U"])
    town.register(B0, ["T", "V"])
    route = town.routes.route("T", CLIENT)
    assert route.queues == (QueueData("broker-a", 4, 8, 6, 3), QueueData("broker-b", 4, 8, 6, 0))
    assert [broker.addresses for broker in route.brokers] == [{0: A0.address}, {0: B0.address}]
    assert [broker.cluster for broker in route.brokers] == ["C", "C"]
    assert route.order_conf is None
    assert [entry.broker_name for entry in town.routes.route("V", CLIENT).queues] == ["broker-b"]


def test_unknown_topic_is_refused_as_not_existing() -> None:
    town = Town()
    town.register()
    assert not town.has("TBW102")


def test_slave_is_told_its_master() -> None:
    town = Town()
    assert town.register(A1, traits=SLAVE_OF_5) == Registered(None, None)
    assert town.register(A0, traits=BrokerTraits("10.0.0.1:10912")) == Registered(None, None)
    assert town.register(A1, traits=SLAVE_OF_5) == Registered(A0.address, "10.0.0.1:10912")
    assert town.addresses() == {0: A0.address, 1: A1.address}


def test_slave_does_not_change_topics_while_there_is_a_master() -> None:
    town = Town()
    town.register(A0)
    town.register(A1, [TopicConfig("T", 1, 1), "only-on-slave", "V"], V2)
    assert town.routes.route("T", CLIENT).queues == (QueueData("broker-a", 4, 8, 6),)
    assert not town.has("only-on-slave")


def test_slave_with_the_smallest_id_gives_topics_when_there_is_no_master() -> None:
    town = Town()
    town.register(A2, ["T", "U"])
    town.register(A1, ["V", "W"])
    town.register(A2, ["X", "Y"], V2)
    assert sorted(town.routes.topics()) == ["T", "U", "V", "W"]
    assert town.perm() == 6


def test_slave_of_the_4_line_never_gives_topics() -> None:
    town = Town()
    town.register(A1, traits=SLAVE_OF_4)
    assert town.routes.topics() == []
    assert town.routes.cluster_info(CLIENT).brokers["broker-a"].addresses == {1: A1.address}


def test_acting_slave_gives_topics_without_the_right_to_write() -> None:
    town = Town()
    town.register(A1, [TopicConfig("T", perm=7), "U"], traits=ACTING)
    assert town.perm("T") == 5
    assert town.perm("U") == 4


def test_promoted_slave_leaves_its_old_id() -> None:
    town = Town()
    town.register(A0)
    town.register(A1)
    promoted = A1._replace(broker_id=0)
    town.unregister(A0)
    town.register(promoted, version=V2)
    assert town.addresses() == {0: A1.address}
    town.register(A0._replace(broker_id=1), version=V2)
    assert town.addresses() == {0: A1.address, 1: A0.address}


def test_master_and_slave_change_places_while_both_are_there() -> None:
    town = Town()
    town.register(A0)
    town.register(A1)
    town.register(A1._replace(broker_id=0), version=DataVersion(1, 0, 0))
    assert town.addresses() == {0: A1.address}
    town.register(A0._replace(broker_id=1), version=DataVersion(1, 0, 0))
    assert town.addresses() == {0: A1.address, 1: A0.address}


def test_older_master_is_ignored_while_a_later_elected_one_holds_the_id() -> None:
    town = Town()
    town.register(A0, version=DataVersion(2, 0, 0), traits=BrokerTraits("ha:1"))
    late = A0._replace(address="10.9.9.9:10911")
    assert town.register(late, ["V", "W"], DataVersion(1, 0, 0)) == Registered()
    assert town.addresses() == {0: A0.address}
    assert not town.has("V")
    assert town.routes.query_data_version(late, DataVersion(1, 0, 0)) == (True, None)


def test_ignored_broker_loses_the_id_that_it_had() -> None:
    town = Town()
    town.register(A0, version=DataVersion(2, 0, 0))
    town.register(A1, version=DataVersion(1, 0, 0))
    town.register(A1._replace(broker_id=0), version=DataVersion(1, 0, 0))
    assert town.addresses() == {0: A0.address}


def test_broker_may_go_back_to_an_earlier_election_of_its_own() -> None:
    town = Town()
    town.register(A0, ["T", "U"], DataVersion(2, 0, 0))
    town.register(A0, ["V", "W"], DataVersion(1, 0, 0))
    assert town.has("V")


def test_id_moves_to_another_address_of_the_same_or_a_later_election() -> None:
    town = Town()
    old_wire = Wire()
    town.register(A0, wire=old_wire)
    moved = A0._replace(address="10.9.9.9:10911")
    town.register(moved, version=V2)
    assert town.addresses() == {0: moved.address}
    assert town.routes.query_data_version(A0, V1) == (True, None), "the replaced broker is told to register again"
    town.routes.connection_lost(old_wire)
    town.unregister(A0)
    assert town.addresses() == {0: moved.address}


def test_single_topic_before_the_whole_table_is_refused_and_changes_nothing() -> None:
    town = Town()
    with pytest.raises(Refused, match="register broker failed") as refused:
        town.register(A0, ["T"])
    assert refused.value.reason is Reason.FAILED
    assert town.routes.cluster_info(CLIENT).brokers == {}
    town.register(A1, traits=SLAVE_OF_5)
    with pytest.raises(Refused, match="register broker failed"):
        town.register(A1._replace(broker_id=0), ["T"])
    assert town.addresses() == {1: A1.address}


def test_single_topic_after_the_whole_table_is_added() -> None:
    town = Town()
    town.register(A0, ["T", "U"])
    town.register(A0, ["V"], V2)
    assert sorted(town.routes.topics()) == ["T", "U", "V"]


def test_topics_change_only_with_the_data_version() -> None:
    town = Town()
    town.register(A0, [TopicConfig("T", 4, 4), "U"], V1)
    town.register(A0, [TopicConfig("T", 9, 9), "U"], V1)
    assert town.routes.route("T", CLIENT).queues[0].read_queues == 4
    town.register(A0, [TopicConfig("T", 9, 9), "U"], V2)
    assert town.routes.route("T", CLIENT).queues[0].read_queues == 9


@pytest.mark.parametrize("version", [DataVersion(1, 1000, 1), DataVersion(0, 1001, 1), DataVersion(0, 1000, 2)])
def test_data_versions_are_the_same_only_if_all_their_numbers_are(version: DataVersion) -> None:
    town = Town()
    town.register(A0, version=V1)
    assert town.routes.query_data_version(A0, V1) == (False, V1)
    assert town.routes.query_data_version(A0, version) == (True, V1)


def test_topics_that_a_registration_leaves_out_stay() -> None:
    town = Town()
    town.register(A0, ["T", "U", "V"])
    town.register(A0, ["T", "U"], V2)
    assert town.has("V")


def test_topics_that_a_registration_leaves_out_go_when_so_configured() -> None:
    town = Town(delete_topic_with_broker_registration=True)
    town.register(A0, ["T", "U", "V"])
    town.register(B0, ["U", "V"])
    town.register(A0, ["U", "W"], V2)
    assert sorted(town.routes.topics()) == ["U", "V", "W"]
    assert [entry.broker_name for entry in town.routes.route("V", CLIENT).queues] == ["broker-b"]


def test_registration_without_topics_keeps_a_broker_known() -> None:
    town = Town()
    town.register(A0, [], DataVersion())
    assert town.routes.member_group("C", "broker-a", CLIENT).addresses == {0: A0.address}


# Signs of life, and the end


def test_broker_that_is_silent_for_longer_than_two_minutes_is_forgotten() -> None:
    town = Town()
    wire = Wire()
    town.register(A0, wire=wire)
    town.now_s += BROKER_EXPIRY_MS / 1000
    assert town.routes.expire() == []
    assert town.has("T")
    town.now_s += 0.001
    assert town.routes.expire() == [wire]
    town.routes.check_invariants()
    assert not town.has("T")
    assert town.routes.cluster_info(CLIENT).clusters == {}
    assert town.routes.expire() == []


def test_broker_may_name_its_own_time() -> None:
    town = Town()
    town.register(A0, traits=BrokerTraits(timeout_ms=10_000))
    town.register(B0, traits=BrokerTraits(timeout_ms=0))
    town.now_s += 11
    town.routes.expire()
    assert [broker.broker_name for broker in town.routes.route("T", CLIENT).brokers] == ["broker-b"]


@pytest.mark.parametrize("sign", ["register", "query", "heartbeat"])
def test_every_sign_of_life_counts(sign: str) -> None:
    town = Town()
    town.register(A0)
    for _ in range(3):
        town.now_s += 119
        if sign == "register":
            town.register(A0)
        elif sign == "query":
            town.routes.query_data_version(A0, V2)
        else:
            town.routes.heartbeat(A0)
        assert town.routes.expire() == []
    assert town.has("T")


def test_sign_of_life_of_a_stranger_makes_no_broker() -> None:
    town = Town()
    town.routes.heartbeat(A0)
    assert town.routes.query_data_version(A0, V1) == (True, None)
    town.register(A0)
    assert town.routes.query_data_version(A0._replace(cluster="D"), V1) == (True, None)
    assert list(town.routes.cluster_info(CLIENT).brokers) == ["broker-a"]


def test_connection_with_another_live_broker_is_not_given_for_closing() -> None:
    town = Town()
    shared = Wire()
    town.register(A0, wire=shared, traits=BrokerTraits(timeout_ms=1000))
    town.register(B0, wire=shared)
    town.now_s += 2
    assert town.routes.expire() == []
    assert sorted(town.routes.cluster_info(CLIENT).brokers) == ["broker-b"]


def test_lost_connection_forgets_all_its_brokers_at_once() -> None:
    town = Town()
    wire = Wire()
    town.register(A0, wire=wire)
    town.register(B0, wire=wire)
    town.register(OTHER0, ["T", "U"])
    town.routes.connection_lost(Wire())
    assert len(town.routes.route("T", CLIENT).brokers) == 3
    town.routes.connection_lost(wire)
    town.routes.check_invariants()
    assert [broker.broker_name for broker in town.routes.route("T", CLIENT).brokers] == ["broker-d"]


def test_connection_that_a_broker_has_left_may_be_lost() -> None:
    town = Town()
    first, second = Wire(), Wire()
    town.register(A0, wire=first)
    town.register(A0, wire=second)
    town.routes.connection_lost(first)
    assert town.has("T")
    town.routes.connection_lost(second)
    assert not town.has("T")


def test_broker_that_unregisters_is_gone_with_the_topics_that_only_it_had() -> None:
    town = Town()
    town.register(A0, ["T", "U"])
    town.register(B0, ["T", "V"])
    town.unregister(A0)
    town.unregister(A0)
    town.unregister(A0._replace(name="nobody"))
    assert sorted(town.routes.topics()) == ["T", "V"]
    assert [entry.broker_name for entry in town.routes.route("T", CLIENT).queues] == ["broker-b"]


def test_topics_stay_while_a_slave_is_left() -> None:
    town = Town()
    town.register(A0)
    town.register(A1)
    town.unregister(A0)
    assert town.addresses() == {1: A1.address}
    assert town.perm() == 6
    town.unregister(A1)
    assert town.routes.topics() == []


def test_group_with_acting_master_takes_no_writes_until_its_master_is_back() -> None:
    town = Town()
    town.register(A0, traits=ACTING)
    town.register(A1, traits=ACTING)
    town.register(A2, traits=ACTING)
    town.unregister(A2)
    assert town.perm() == 6
    town.unregister(A0)
    assert town.perm() == 4
    town.register(A1, traits=ACTING)
    assert town.perm() == 4
    town.register(A0, traits=ACTING)
    assert town.perm() == 6


def test_acting_slave_that_becomes_the_master_may_write_though_its_table_is_the_same() -> None:
    town = Town()
    town.register(A0, traits=ACTING)
    town.register(A1, traits=ACTING)
    town.unregister(A0)
    assert town.perm() == 4
    town.register(A1._replace(broker_id=0), traits=ACTING)
    assert town.perm() == 6


# Look-up


def test_acting_master_is_shown_as_master_only_where_that_is_supported() -> None:
    for supported, expected in ((False, {1: A1.address, 2: A2.address}), (True, {0: A1.address, 2: A2.address})):
        town = Town(support_acting_master=supported)
        for who in (A0, A1, A2):
            town.register(who, traits=ACTING)
        assert town.addresses() == {0: A0.address, 1: A1.address, 2: A2.address}
        town.unregister(A0)
        assert town.addresses() == expected
        town.routes.add_write_permission("broker-a")
        assert town.addresses() == {1: A1.address, 2: A2.address}, "writable: so it waits for its master"


def test_zone_keeps_near_brokers_and_those_without_a_master() -> None:
    town = Town()
    town.register(A0, traits=BrokerTraits(zone="East", acting_master=False))
    town.register(B0, traits=BrokerTraits(zone="west", acting_master=False))
    town.register(OTHER0._replace(broker_id=1))
    near = town.routes.route("T", CLIENT, "EAST")
    assert [broker.broker_name for broker in near.brokers] == ["broker-a", "broker-d"]
    assert [entry.broker_name for entry in near.queues] == ["broker-a", "broker-d"]
    assert len(town.routes.route("T", CLIENT).brokers) == 3


def test_cluster_info_has_every_broker_and_cluster() -> None:
    town = Town()
    for who in (A0, A1, B0, OTHER0):
        town.register(who)
    info = town.routes.cluster_info(CLIENT)
    assert info.clusters == {"C": ("broker-a", "broker-b"), "D": ("broker-d",)}
    assert info.brokers["broker-a"].addresses == {0: A0.address, 1: A1.address}
    assert info.brokers["broker-d"].cluster == "D"


def test_member_group_of_an_unknown_name_is_empty() -> None:
    town = Town()
    town.register(A0)
    town.register(A1)
    assert town.routes.member_group("C", "broker-a", CLIENT).addresses == {0: A0.address, 1: A1.address}
    assert town.routes.member_group("C", "nobody", CLIENT).addresses == {}


def test_lists_of_topics() -> None:
    town = Town()
    flagged = [TopicConfig(f"flag{flag}", sys_flag=flag) for flag in range(4)]
    town.register(A0, flagged)
    town.register(OTHER0, ["flag0", "only-d"])
    assert town.routes.topics() == ["flag0", "flag1", "flag2", "flag3", "only-d"]
    assert town.routes.topics_of_cluster("D") == ["flag0", "only-d"]
    assert town.routes.topics_of_cluster("C") == ["flag0", "flag1", "flag2", "flag3"]
    assert town.routes.topics_of_cluster("nobody") == []
    assert town.routes.unit_topics() == ["flag1", "flag3"]
    assert town.routes.unit_subscribed_topics() == ["flag2", "flag3"]
    assert town.routes.unit_subscribed_plain_topics() == ["flag2"]
    assert town.routes.system_topics(CLIENT) == (["C", "broker-a", "D", "broker-d"], A0.address)


def test_empty_nameserver_has_no_system_topics() -> None:
    assert Town().routes.system_topics(CLIENT) == ([], None)


# Addresses


def test_unspecified_broker_of_this_machine_is_told_where_each_client_dialled() -> None:
    town = Town()
    anywhere = A0._replace(address="0.0.0.0:10911")
    town.register(anywhere)
    route = town.routes.route("T", "127.0.0.1")
    assert route.brokers[0].addresses == {0: "127.0.0.1:10911"}
    assert town.addresses() == {0: f"{CLIENT}:10911"}
    assert town.routes.cluster_info(CLIENT).brokers["broker-a"].addresses == {0: f"{CLIENT}:10911"}
    assert town.routes.member_group("C", "broker-a", CLIENT).addresses == {0: f"{CLIENT}:10911"}
    assert town.routes.system_topics(CLIENT)[1] == f"{CLIENT}:10911"


def test_unspecified_broker_elsewhere_is_told_where_it_came_from() -> None:
    town = Town()
    town.register(A0._replace(address="[::]:10911"), origin=Origin("10.0.0.7", "10.0.0.99"))
    assert town.addresses() == {0: "10.0.0.7:10911"}


def test_unspecified_brokers_on_several_machines_do_not_get_into_each_others_way() -> None:
    town = Town()
    for who, host in ((A0, "10.0.0.7"), (B0, "10.0.0.8")):
        town.register(who._replace(address="0.0.0.0:10911"), origin=Origin(host, "10.0.0.99"))
    assert town.addresses(name="broker-a") == {0: "10.0.0.7:10911"}
    assert town.addresses(name="broker-b") == {0: "10.0.0.8:10911"}
    town.unregister(A0._replace(address="0.0.0.0:10911"))
    assert town.addresses(name="broker-b") == {0: "10.0.0.8:10911"}


def test_slave_finds_an_unspecified_master_too() -> None:
    town = Town()
    town.register(A0._replace(address="0.0.0.0:10911"), traits=BrokerTraits("0.0.0.0:10912"))
    found = town.register(A1, origin=Origin("10.0.0.8", "10.0.0.99"))
    assert found == Registered("10.0.0.99:10911", "10.0.0.99:10912")


def test_registered_text_is_what_registrations_are_compared_by() -> None:
    town = Town()
    anywhere = A1._replace(address="0.0.0.0:10911")
    town.register(anywhere)
    assert town.routes.query_data_version(anywhere, V1) == (False, V1)
    town.register(anywhere._replace(broker_id=0))
    assert town.addresses() == {0: f"{CLIENT}:10911"}


# Operators


def test_wiped_write_permission_lasts_until_the_broker_says_something_new() -> None:
    town = Town()
    town.register(A0, [TopicConfig("T", perm=7), "U"])
    town.register(B0, ["T", "V"])
    assert town.routes.wipe_write_permission("broker-a") == 2
    assert (town.perm("T"), town.perm("U"), town.perm("T", "broker-b")) == (5, 4, 6)
    town.register(A0, [TopicConfig("T", perm=7), "U"])
    assert town.perm("T") == 5
    town.register(A0, [TopicConfig("T", perm=7), "U"], V2)
    assert town.perm("T") == 7


def test_added_write_permission_is_read_and_write() -> None:
    town = Town()
    town.register(A0, [TopicConfig("T", perm=7), TopicConfig("U", perm=0)])
    assert town.routes.add_write_permission("broker-a") == 2
    assert (town.perm("T"), town.perm("U")) == (6, 6)
    assert town.routes.add_write_permission("nobody") == 0
    assert town.routes.wipe_write_permission("nobody") == 0


def test_deleted_topic_comes_back_with_the_next_registration_that_has_it() -> None:
    town = Town()
    town.register(A0, ["T", "U"])
    town.routes.delete_topic("T")
    town.routes.delete_topic("T")
    town.routes.check_invariants()
    assert town.routes.topics() == ["U"]
    town.register(A0, ["T", "U"])
    assert town.has("T"), "same data version, but the entry was missing"


def test_topic_is_deleted_in_one_cluster_only() -> None:
    town = Town()
    town.register(A0, ["T", "U"])
    town.register(OTHER0, ["T", "U"])
    town.routes.delete_topic("T", "nobody")
    town.routes.delete_topic("T", "C")
    assert [entry.broker_name for entry in town.routes.route("T", CLIENT).queues] == ["broker-d"]
    town.routes.delete_topic("T", "D")
    assert not town.has("T")
    town.routes.check_invariants()


def test_registered_topic_is_set_for_known_brokers_and_left_for_others() -> None:
    town = Town()
    town.register(A0, ["T", "U"])
    town.register(B0, ["T", "U"])
    town.routes.register_topic("T", [QueueData("broker-a", 1, 1, 6), QueueData("nobody", 1, 1, 6)])
    town.routes.register_topic("V", [QueueData("broker-b", 2, 2, 6)])
    town.routes.register_topic("W", [QueueData("nobody", 2, 2, 6)])
    town.routes.check_invariants()
    assert [entry.read_queues for entry in town.routes.route("T", CLIENT).queues] == [1, 4]
    assert town.routes.route("V", CLIENT).queues == (QueueData("broker-b", 2, 2, 6),)
    assert not town.has("W")


# Limits


def refused_reason(town: Town, who: BrokerIdentity = A0, **details: object) -> str:
    before = town.routes.cluster_info(CLIENT), town.routes.topics()
    with pytest.raises(Refused) as refused:
        town.register(who, **details)  # type: ignore[arg-type]
    assert refused.value.reason is Reason.INVALID_PARAMETER
    assert (town.routes.cluster_info(CLIENT), town.routes.topics()) == before
    return refused.value.remark


def test_registration_past_a_limit_is_refused_by_name_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_module, "TOPICS_MAX", 3)
    monkeypatch.setattr(routes_module, "BROKERS_MAX", 2)
    town = Town()
    town.register(A0, ["T", "U"])
    assert "the limit is 3" in refused_reason(town, topics=["T", "U", "V", "W"])
    town.register(A1)
    assert "2 brokers" in refused_reason(town, B0)
    town.register(A0, ["T", "U", "V"], V2)
    town.register(A1._replace(broker_id=5))
    with pytest.raises(Refused, match="the limit is 3"):
        town.routes.register_topic("W", [QueueData("broker-a", 1, 1, 6)])
    assert town.routes.topics() == ["T", "U", "V"]


LONG = "x" * 256


@pytest.mark.parametrize(
    ("who", "details", "said"),
    [
        (A0._replace(cluster=""), {}, "cluster name of the broker is empty"),
        (A0._replace(cluster=LONG), {}, "cluster name"),
        (A0._replace(name=""), {}, "broker name of the broker is empty"),
        (A0._replace(name="\x01" * 43), {}, "broker name"),
        (A0._replace(address=f"{LONG}:1"), {}, "address"),
        (A0._replace(address="nonsense"), {}, "'nonsense' is not host:port"),
        (A0._replace(broker_id=-1), {}, "broker id -1"),
        (A0, {"traits": BrokerTraits(ha_address=LONG)}, "replication address"),
        (A0, {"traits": BrokerTraits(zone=LONG)}, "zone"),
        (A0, {"topics": [LONG, "T"]}, "topic name"),
    ],
)
def test_unusable_texts_are_refused_by_name(who: BrokerIdentity, details: dict[str, object], said: str) -> None:
    assert said in refused_reason(Town(), who, **details)


def test_configuration_may_change_while_it_runs() -> None:
    town = Town()
    town.register(A0, ["T", "U"])
    town.routes.config = replace(town.routes.config, delete_topic_with_broker_registration=True)
    town.register(A0, ["U", "V"], V2)
    assert sorted(town.routes.topics()) == ["U", "V"]
