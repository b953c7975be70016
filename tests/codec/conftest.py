"""Property tests say what is true, not how fast it is on a machine with other work to do."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
