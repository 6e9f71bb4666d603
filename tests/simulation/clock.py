"""What the time is in a history, and which random names there are."""

from __future__ import annotations

import time

EPOCH = 1_700_000_000.0  # what the time is when a history begins, in seconds
BOOTED = 1000.0  # what the monotonic clock says then


class Clock:
    """What the time is. Only the scheduler lets it pass."""

    def __init__(self) -> None:
        self.now = BOOTED  # the monotonic clock
        self.slept = 0.0  # that the machine was suspended
        self.ahead = 0.0  # how far the clock that can be set is ahead of the true time
        self.boot = 1  # which boot of the machine it is
        self.named = 0  # the last random name
        self.began = self.now

    def monotonic(self) -> float:
        return self.now

    def true_time(self) -> float:
        """Return the seconds since the epoch, as no clock of the machine may say."""
        return EPOCH + self.now - self.began + self.slept

    def time(self) -> float:
        return self.true_time() + self.ahead

    def clock_gettime(self, which: int) -> float:
        if which == time.CLOCK_REALTIME:
            return self.time()
        return self.now + (self.slept if which == time.CLOCK_BOOTTIME else 0.0)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def reboot(self) -> None:
        """Begin another boot: the monotonic clock begins anew."""
        self.slept += self.now - self.began
        self.now = self.began = BOOTED - 990
        self.boot += 1

    def name(self, size: int = 32) -> str:
        """Return a name that was never given before."""
        self.named += 1
        return f"{self.named:0{2 * size}x}"

    def random_bytes(self, size: int) -> bytes:
        return bytes.fromhex(self.name(size))


clock = Clock()


def begin() -> None:
    """Set the clock to the beginning of a history."""
    clock.__init__()  # type: ignore[misc]
