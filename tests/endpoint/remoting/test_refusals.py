"""What is not served: nothing of it is, and there is a reason for all of it."""

from __future__ import annotations

from posthouse.codec.remoting.codes import RequestCode
from posthouse.endpoint.remoting.broker import BROKER_ROUTES, DESK_ROUTES
from posthouse.endpoint.remoting.nameserver import NAMESERVER_ROUTES
from posthouse.endpoint.remoting.refusals import BROKER_REFUSALS, NAMESERVER_REFUSALS, why_not

OF_BROKERS = {route.code for route in (*BROKER_ROUTES, *DESK_ROUTES)}
OF_NAMESERVERS = {route.code for route in NAMESERVER_ROUTES}


def test_nothing_is_both_served_and_refused() -> None:
    assert OF_BROKERS & BROKER_REFUSALS.keys() == set()
    assert OF_NAMESERVERS & NAMESERVER_REFUSALS.keys() == set()


def test_who_is_sent_elsewhere_is_served_there() -> None:
    for code in RequestCode:
        if code not in OF_BROKERS and code not in BROKER_REFUSALS:
            assert code in OF_NAMESERVERS
            assert why_not("broker", code) == ": it is for a NameServer, not for a broker"
        if code not in OF_NAMESERVERS and code not in NAMESERVER_REFUSALS:
            assert code in OF_BROKERS | BROKER_REFUSALS.keys()
    assert why_not("somebody else", RequestCode.SEND_MESSAGE) == ""
