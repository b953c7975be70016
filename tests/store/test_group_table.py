from __future__ import annotations

from posthouse.model.group import GroupConfig
from posthouse.model.offsets import LogOffset
from posthouse.store.group_table import GroupTable
from posthouse.store.state_record import Kind

AT = LogOffset(0)


def restored(table: GroupTable) -> dict[str, GroupConfig]:
    again = GroupTable()
    again.restore(table.snapshot())
    assert again.snapshot() == table.snapshot()
    return again.live


def test_a_group_lives_when_decided_and_is_kept_when_committed() -> None:
    table = GroupTable()
    config = GroupConfig("g", retry_max_times=3, attributes={"+a": "b"})
    body = GroupTable.set_body(config)
    table.decide(Kind.GROUP_SET, body, AT)
    assert table.live == {"g": config}
    assert restored(table) == {}
    table.apply(Kind.GROUP_SET, body, AT)
    assert restored(table) == {"g": config}


def test_a_change_and_a_deletion_take_the_same_two_steps() -> None:
    table = GroupTable()
    for body in (GroupTable.set_body(GroupConfig("g")), GroupTable.set_body(GroupConfig("h"))):
        table.decide(Kind.GROUP_SET, body, AT)
        table.apply(Kind.GROUP_SET, body, AT)
    changed = GroupTable.set_body(GroupConfig("g", consume_enable=False))
    table.decide(Kind.GROUP_SET, changed, AT)
    assert not table.live["g"].consume_enable
    assert restored(table)["g"].consume_enable
    table.apply(Kind.GROUP_SET, changed, AT)
    table.decide(Kind.GROUP_DELETED, GroupTable.deleted_body("g"), AT)
    assert list(table.live) == ["h"]
    assert not restored(table)["g"].consume_enable
    table.apply(Kind.GROUP_DELETED, GroupTable.deleted_body("g"), AT)
    assert list(restored(table)) == ["h"]
    table.decide(Kind.GROUP_DELETED, GroupTable.deleted_body("never"), AT)
    assert list(table.live) == ["h"]
