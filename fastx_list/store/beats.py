"""Which agents renew their leases, as one reader sees it.

A reader cannot always have a lease ended that has run out: a store that takes no writes (a full
disk, a failed save, a replica) takes no end either, and whether its agents live cannot be told
then. So each reader judges by its own monotonic clock how long ago it saw an agent's lease renewed.
From the moment when that is longer than the lease until it is renewed, or its end is in the store,
what is read of that server may be over, and is only served with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

MAX_LEASE = 86_400.0  # seconds
LATE = 3 / 8  # of a lease, after which one and a half beats are missing
LOOKS_PER_LEASE = 8  # while one is late
MIN_PAUSE = 0.02  # seconds between two looks, however short a lease is
MAX_PAUSE = 1.0  # and while one has run out


class Renewal(NamedTuple):
    """The last time that the lease of a server was renewed."""

    server_id: str
    name: object  # another one at each renewal
    lease: float  # for how many seconds
    age: float  # how many seconds ago, by the store; ``inf`` if it cannot tell
    is_whole: bool = True  # whether its agent has written all its sessions by then


class Beats:
    """What one reader has seen of the renewals in one store. All times are seconds of one monotonic
    clock."""

    def __init__(self) -> None:
        # When to look for renewals again
        self.next_look = -math.inf
        # Whether a renewal is missing, so that the end of a lease is to be looked for
        self.is_late = False
        # The servers whose leases have run out, though they are not ended
        self.overdue: tuple[str, ...] = ()
        # When it last looked
        self._looked = -math.inf
        # By server that was written as a whole: when it was renewed, as the store says; in one that
        # was restored, long ago
        self._renewed: dict[str, float] = {}
        # By server: the last renewal's name, and when it was, which is after the look before
        self._seen: dict[str, tuple[object, float]] = {}

    @property
    def renewed(self) -> Mapping[str, float]:
        """When each lease was renewed with which all is written, as the store says."""
        return dict(self._renewed)

    def expect_news(self) -> None:
        """Look again next time, since a server was written."""
        self.next_look = -math.inf

    def look(self, renewals: Iterable[Renewal], now: float) -> None:
        """Take note of all ``renewals`` that are in the store ``now``."""
        seen: dict[str, tuple[object, float]] = {}
        renewed: dict[str, float] = {}
        overdue: list[str] = []
        late_in: list[float] = []
        over_in: list[float] = []
        shortest = MAX_LEASE
        for server_id, name, lease, age, is_whole in renewals:
            before = self._seen.get(server_id)
            age = max(0.0, age)
            if is_whole:
                renewed[server_id] = now - age
            if before is None:
                seen[server_id] = name, now - age
            elif before[0] == name:
                seen[server_id] = before
            else:  # since the last look, whatever the store's clock says
                seen[server_id] = name, now - min(age, now - self._looked)
            lease = min(lease, MAX_LEASE)
            shortest = min(shortest, lease)
            silent = now - seen[server_id][1]
            late_in.append(lease * LATE - silent)
            if silent >= lease:
                overdue.append(server_id)
            else:
                over_in.append(lease - silent)
        self._seen, self._renewed, self._looked = seen, renewed, now
        pause = min(late_in, default=math.inf)
        self.is_late = pause <= 0
        if self.is_late:
            pause = min(shortest / LOOKS_PER_LEASE, MAX_PAUSE, *over_in)
        self.overdue = tuple(overdue)
        self.next_look = now + max(pause, MIN_PAUSE)
