"""Some cases; tests/fuzz/x11.py tries as many as one likes."""

from __future__ import annotations

from tests.fuzz.x11 import run


def test_whatever_an_x_server_sends_is_understood_or_refused() -> None:
    assert run(1, cases=1500) == 1500
