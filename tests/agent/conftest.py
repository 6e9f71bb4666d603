from __future__ import annotations

import time
from typing import Any

import pytest

from fastx_list.agent.door import ALL_SECONDS, Door, door


@pytest.fixture(autouse=True)
def nobody_has_been_slow() -> None:
    """Gives every owner all their time again, which other tests may have taken."""
    door._accounts, door._all.left = Door()._accounts, ALL_SECONDS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what time it has become, in seconds: ``clock(100)``."""
    gettime, passed = time.clock_gettime, 0.0

    def set_to(seconds: float) -> None:
        nonlocal passed
        passed = seconds - 1_800_000_000
        monkeypatch.setattr(time, "time", lambda: seconds)

    monkeypatch.setattr(time, "clock_gettime", lambda kind: gettime(kind) + passed)

    set_to(1_800_000_000)
    return set_to
