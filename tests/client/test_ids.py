from __future__ import annotations

from datetime import datetime

import pytest

from posthouse.client.ids import MessageIds
from posthouse.host import Host
from posthouse.host.clock import EpochMs

NOON = int(datetime(2024, 2, 29, 12).timestamp() * 1000)


class OddNet:
    def local_ip(self) -> str:
        return "fe80::1"

    def process_id(self) -> int:
        return 0x12345


def test_ids_are_32_hex_digits_and_never_repeat() -> None:
    host = Host.real()
    makers = [MessageIds(host), MessageIds(host)]
    ids = [makers[n % 2].next(EpochMs(NOON + n // 70_000)) for n in range(200_000)]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 32 and one == one.upper() and int(one, 16) for one in ids[:100])


def test_ids_of_one_producer_grow_even_when_the_clock_steps_back() -> None:
    ids = MessageIds(Host.real())
    made = [ids.next(EpochMs(now)) for now in (NOON, NOON, NOON + 5, NOON - 60_000, NOON + 6)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_the_time_in_an_id_is_the_ms_of_the_month() -> None:
    """Apache's tools read it: field of 4 bytes before the counter."""
    month_began = datetime(2024, 2, 1).timestamp() * 1000
    one = MessageIds(Host.real()).next(EpochMs(NOON))
    assert int(one[20:28], 16) == NOON - month_began
    assert one[28:] == "0000"


def test_a_new_month_begins_anew() -> None:
    ids = MessageIds(Host.real())
    last = int(datetime(2023, 12, 31, 23, 59, 59).timestamp() * 1000)
    ids.next(EpochMs(last))
    assert int(ids.next(EpochMs(last + 1500))[20:28], 16) == 500


def test_address_and_process_are_in_the_id() -> None:
    real = Host.real()
    odd = Host(real.clock, real.disk, OddNet(), real.random)  # type: ignore[arg-type]
    one = MessageIds(odd).next(EpochMs(NOON))
    assert one[8:12] == "2345"


@pytest.mark.parametrize("count", [2])
def test_two_producers_differ_at_the_same_time(count: int) -> None:
    made = {MessageIds(Host.real()).next(EpochMs(NOON)) for _ in range(count)}
    assert len(made) == count
