"""What is said of a copy that may not be what there is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence, Set

from fastx_list.replica.view import Entry
from fastx_list.store import REFILL_SECONDS, Changes, Followed, StoreError
from fastx_list.text import printable

# Of the time that servers have to come back so many seconds count between two looks, unless a pause
# is longer: it may be that nobody ran, agents as little as we
COUNTED_SECONDS = 5.0
# That an agent which has begun has for its first look, before what it only read is believed
FIRST_LOOK_SECONDS = 30.0
RETRY_SECONDS = 1.0  # between attempts to read a store that could not be read, or had lost it
MAX_NAMED = 3  # servers in a message
# In the JSON of a server whose agent has begun, and has not looked since; in no text, where quotes
# are escaped
_NEVER_LOOKED = '"lastLook":null'


class Refill:
    """The time that agents have to write what a store has lost."""

    def __init__(self) -> None:
        # When it was found to have lost that, once more maybe, or could last not be read or written
        self.since = time.monotonic()
        # When it was looked at last, and how many seconds count until the next look
        self._looked, self._counts = self.since, COUNTED_SECONDS
        # Whether it took writes then, as far as is known
        self._takes_writes = True
        # The servers that were back at the last reading
        self._back: Set[str] = frozenset()
        # Whether any were missing then, since their time began, and whether that took long
        self._were_missing = self._took_long = False

    def pause(
        self,
        store: Followed,
        snapshot: Changes,
        servers: Set[str],
        sessions: Mapping[str, Entry],
        right_at: float,
        told: Callable[[str], str],
        took: float,
    ) -> float | None:
        """Return for how many seconds the ``store`` is better not read again, as its agents have
        not written all; ``None`` if they have, or if their time is over.

        ``snapshot`` is what it says, which ``took`` so many seconds to read. Known are these
        ``servers`` and ``sessions``, which it said last at ``right_at``, each as it is ``told``.
        Raises :class:`StoreError` if agents cannot write.
        """
        now, there = time.monotonic(), {server.id for server in snapshot.servers}
        self.since += max(0.0, now - self._looked - took - self._counts)
        self._looked = now
        if self._back - there:  # those that have gone again are waited for from now on
            self._begin_time()
        self._back = servers & there
        is_missing = not servers <= there or lacks_server(sessions, snapshot, there)
        is_soon = now - self.since < FIRST_LOOK_SECONDS
        is_old = may_be_old(sessions, snapshot, store.renewed, right_at, told, is_soon)
        if is_missing or is_old:
            self._see_whether_agents_can_write(store)
        left = self.since + REFILL_SECONDS - now - took  # as the last reading takes time
        # A reader that was stopped while it read looks once more, as agents may have been, too
        takes_long = took > COUNTED_SECONDS
        is_settled = self._were_missing and (self._took_long or not takes_long)
        self._were_missing, self._took_long = is_missing, takes_long
        if not (is_missing and (left > 0 or not is_settled)) and not is_old:
            return None
        # Who was stopped meanwhile has not read for as long as that took
        pause = min(max(RETRY_SECONDS, 10 * took), REFILL_SECONDS)
        self._counts = max(COUNTED_SECONDS, pause)
        return min(pause, left) if left > 0 else pause

    def _see_whether_agents_can_write(self, store: Followed) -> None:
        """Raise :class:`StoreError` while they cannot; if they could not before, they have their
        time from now on."""
        try:
            store.end_leases()
        except StoreError:
            self.begin_again()
            raise
        if not self._takes_writes:
            self._begin_time()
            self._takes_writes = True

    def begin_again(self) -> None:
        """Take note that the store cannot be read or written now."""
        self._begin_time()
        self._takes_writes = False

    def _begin_time(self) -> None:
        self.since = self._looked = time.monotonic()
        self._were_missing = False


def is_silent(servers: Sequence[str]) -> str:
    """Return what to say of servers whose leases have run out, and whose end is not written."""
    named = ", ".join(map(printable, servers[:MAX_NAMED]))
    return (
        f"the agent of {named}{', …' if len(servers) > MAX_NAMED else ''} has written nothing for"
        " longer than its lease: it has stopped, or the store cannot be written"
    )


def lacks_server(known: Mapping[str, Entry], snapshot: Changes, there: Set[str]) -> bool:
    """Whether a session that is ``known``, and not in the ``snapshot``, is of a server that is not
    ``there`` either: an agent writes its sessions before it says what its server is like."""
    gone = known.keys() - {record.id for record in snapshot.records}
    return any(known[name].members["serverId"] not in there for name in gone)


def may_be_old(
    known: Mapping[str, Entry],
    snapshot: Changes,
    renewed: Mapping[str, float],
    right_at: float,
    told: Callable[[str], str],
    is_soon: bool,
) -> bool:
    """Whether ``snapshot`` says something else of the sessions of a server than is ``known``, and
    its agent has not written since that was right, or, if it ``is_soon``, only what it has read
    there itself: an older store may have been restored."""
    silent = {
        server.id
        for server in snapshot.servers
        if renewed.get(server.id, -math.inf) <= right_at
        or (is_soon and _NEVER_LOOKED in str(server.text))
    }
    if not silent:
        return False
    same = set[str]()
    for record in snapshot.records:
        entry = known.get(record.id)
        if entry is not None and record.text and entry.text == told(record.text).encode():
            same.add(record.id)
        elif record.server_id in silent:
            return True
    return any(known[name].members["serverId"] in silent for name in known.keys() - same)
