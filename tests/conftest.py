"""For all tests: how Hypothesis runs."""

from __future__ import annotations

from hypothesis import settings

# How long one example takes says more about the machine's other work than about the code: speed is measured in bench/
settings.register_profile("mfalb", deadline=None)
settings.load_profile("mfalb")
