from __future__ import annotations

from posthouse.codec.remoting.headers import retries
from tests.codec.header_checks import check_header


def test_header_is_spelled_as_published_and_survives_the_wire() -> None:
    check_header(
        retries.SEND_MESSAGE_BACK,
        "offset group delayLevel originMsgId? originTopic? unitMode? maxReconsumeTimes? bname?",
    )
