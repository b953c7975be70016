from __future__ import annotations

from dataclasses import fields

import pytest

from posthouse.model.refusal import Reason, Refused
from posthouse.nameserver.config import NEVER_BY_REQUEST, PROPERTIES, NameServerConfig

CONFIG = NameServerConfig()


def test_settings_change_under_the_names_that_rocketmq_gave_them() -> None:
    changed = CONFIG.changed_by({"orderMessageEnable": "true", "waitSecondsForService": " 7 "})
    assert changed.order_message_enable
    assert changed.wait_for_service_s == 7
    assert changed.enable_topic_list == CONFIG.enable_topic_list
    assert not CONFIG.order_message_enable


def test_properties_given_out_can_be_read_back_in() -> None:
    texts = CONFIG.properties()
    assert texts["orderMessageEnable"] == "false"
    assert texts["scanNotActiveBrokerInterval"] == "5000"
    assert texts["kvConfigPath"] == CONFIG.kv_file
    changeable = {name: text for name, text in texts.items() if name in PROPERTIES}
    assert NameServerConfig(order_message_enable=True, scan_interval_ms=1).changed_by(changeable) == CONFIG


def test_every_property_names_a_field() -> None:
    assert set(PROPERTIES.values()) <= {field.name for field in fields(NameServerConfig)}


@pytest.mark.parametrize("name", sorted(NEVER_BY_REQUEST))
def test_paths_and_addresses_cannot_be_changed_by_request(name: str) -> None:
    with pytest.raises(Refused, match=name) as refused:
        CONFIG.changed_by({"orderMessageEnable": "true", name: "x"})
    assert refused.value.reason is Reason.NO_PERMISSION


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("orderMessageEnable", "yes"),
        ("orderMessageEnable", ""),
        ("waitSecondsForService", "-1"),
        ("waitSecondsForService", "many"),
        ("scanNotActiveBrokerInterval", "0"),
        ("scanNotActiveBrokerInterval", "9" * 5000),
        ("noSuchThing", "1"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(Refused, match=name) as refused:
        CONFIG.changed_by({name: text})
    assert refused.value.reason is Reason.INVALID_PARAMETER
