"""What is measured: it is another one only once it differs by a tenth."""

from __future__ import annotations

PART = 0.1
# By which it has to differ in any case, so that next to nothing stays next to nothing
LEAST = {"cpu": 0.75, "memory": 1024**2}  # percent, bytes


def steady(name: str, known: float | None, now: float) -> float:
    """Return the value of the member ``name``, of which ``known`` was said last and ``now`` was
    measured."""
    if known is None or abs(now - known) >= max(LEAST[name], PART * max(known, now)):
        return now
    return known
