"""The wall clock, which may be set, beside the kernel's clock since boot, which may not."""

from __future__ import annotations

import time

# By which the wall clock is set before it counts: what adjusts it by less should change nothing
STEP_SECONDS = 2.0
ATTEMPTS, AT_ONCE_SECONDS = 5, 0.1  # to read both clocks without being stopped in between


class Clock:
    """Knows since when the machine runs, by the wall clock."""

    def __init__(self) -> None:
        # When it was booted, in seconds since the Unix epoch, by the wall clock as it was set when
        # that was read last.
        self.booted = _measure()

    def read(self) -> float:
        """Read the clock, and return when the machine was booted by it: exactly the same until it
        is set by more than :data:`STEP_SECONDS`."""
        measured = _measure()
        if abs(measured - self.booted) > STEP_SECONDS:
            self.booted = measured
        return self.booted


def _measure() -> float:
    since_boot = time.CLOCK_BOOTTIME
    for _ in range(ATTEMPTS):
        before = time.clock_gettime(since_boot)
        now = time.time()
        if time.clock_gettime(since_boot) - before < AT_ONCE_SECONDS:
            break
    return now - before


clock = Clock()
