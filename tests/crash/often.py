"""`python -m tests.crash.often serve ...`: the server as it is, but with a checkpoint every MiB instead of every 32.

So a kill within half a second of load meets checkpoints in all their stages. There is no option for it.
"""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

from posthouse.__main__ import main
from posthouse.cli import serve
from posthouse.cli.settings import ServerSettings
from posthouse.store.config import StoreConfig

CHECKPOINT_BYTES = 1024 * 1024

_as_settings_say = serve.store_config


def _store_config(settings: ServerSettings) -> StoreConfig:
    return replace(_as_settings_say(settings), checkpoint_bytes=CHECKPOINT_BYTES)


if __name__ == "__main__":
    with patch.object(serve, "store_config", _store_config):
        main()
