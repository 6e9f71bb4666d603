"""What the workers of one sidecar know of each other: how many WebSockets each login has there, and
what ``/health`` tells.

The master imports this before it has workers, so that all of them share its memory. Each writes
into a part of its own, and reads that of the others; none waits for another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from mmap import mmap

from fastx_list.api.counters import WORKERS

LOGINS = 32_768  # places in a part; a worker has fewer WebSockets
NEAR = 16  # places in which a login may be
_COUNTS = ("connections", "slowClientsDropped")
_PLACES = LOGINS + NEAR
_WORDS = len(_COUNTS) + 2 * _PLACES  # of eight bytes: counts, logins, how many each has


class Tally(Mapping[str, int]):
    """As a mapping it is what all workers together have counted."""

    def __init__(self) -> None:
        # All parts; what is never written takes no memory
        self._words = memoryview(mmap(-1, WORKERS * _WORDS * 8)).cast("Q")
        # So that nobody can choose logins that take each other's places
        self._key = os.urandom(16)
        # Which of them is this process's own
        self.part = 0

    def __iter__(self) -> Iterator[str]:
        return iter(_COUNTS)

    def __len__(self) -> int:
        return len(_COUNTS)

    def __getitem__(self, name: str) -> int:
        place = _COUNTS.index(name)
        return sum(self._words[part * _WORDS + place] for part in range(WORKERS))

    def count(self, name: str, number: int) -> None:
        """Note that this worker has counted so many."""
        self._words[self.part * _WORDS + _COUNTS.index(name)] = number

    def note(self, login: str, number: int) -> None:
        """Note that ``login`` has so many WebSockets at this worker. Where its places are all taken
        nobody else is told of it."""
        name, home = self._look_up(login)
        first = self.part * _WORDS + len(_COUNTS) + home
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
            if part != self.part and self._words[part * _WORDS]:
                first = part * _WORDS + len(_COUNTS) + home
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


tally = Tally()
