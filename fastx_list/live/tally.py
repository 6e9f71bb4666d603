"""What the workers of one sidecar know of each other: how many WebSockets each login has there.

The master imports this before it has workers, so that all of them share its memory. Each writes
into a part of its own, the one that it has of what is counted (``api/counters``), and reads that of
the others; none waits for another.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from mmap import mmap

from fastx_list.api.counters import WORKERS, Counters, counters

LOGINS = 32_768  # places in a part; a worker has fewer WebSockets
NEAR = 16  # places in which a login may be
_PLACES = LOGINS + NEAR
_WORDS = 2 * _PLACES  # of eight bytes: logins, how many each has


class Tally:
    """How many WebSockets each login has."""

    def __init__(self, counters: Counters) -> None:
        # All parts; what is never written takes no memory
        self._words = memoryview(mmap(-1, WORKERS * _WORDS * 8)).cast("Q")
        # So that nobody can choose logins that take each other's places
        self._key = os.urandom(16)
        # Which of them is this process's own, and which workers have any WebSockets
        self._counters = counters

    def note(self, login: str, number: int) -> None:
        """Note that ``login`` has so many WebSockets at this worker. Where its places are all taken
        nobody else is told of it."""
        name, home = self._look_up(login)
        first = self._counters.part * _WORDS + home
        names = self._words[first : first + NEAR].tolist()
        numbers = self._words[first + _PLACES : first + _PLACES + NEAR].tolist()
        if name in names:
            self._words[first + _PLACES + names.index(name)] = number
        elif number and 0 in numbers:
            free = first + numbers.index(0)
            self._words[free] = name  # before its number, so that nobody takes it for another's
            self._words[free + _PLACES] = number

    def elsewhere(self, login: str) -> int:
        """Return how many WebSockets ``login`` has at the other workers."""
        name, home = self._look_up(login)
        found = 0
        for part in range(WORKERS):
            if part != self._counters.part and self._counters.of(part, "webSockets"):
                first = part * _WORDS + home
                names = self._words[first : first + NEAR].tolist()
                if name in names:
                    found += self._words[first + _PLACES + names.index(name)]
        return found

    def _look_up(self, login: str) -> tuple[int, int]:
        name = int.from_bytes(
            blake2b(login.encode(errors="surrogatepass"), digest_size=8, key=self._key).digest(),
            "little",
        )
        return name or 1, name % LOGINS

    def clear(self, part: int) -> None:
        """Forget what is in ``part``, whose worker has ended."""
        first = part * _WORDS
        self._words[first : first + _WORDS] = memoryview(bytes(_WORDS * 8)).cast("Q")


tally = Tally(counters)
