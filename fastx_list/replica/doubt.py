"""What is said of a copy that may not be what there is."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence, Set

from fastx_list.replica.view import Entry
from fastx_list.store import Changes, Followed, StoreError
from fastx_list.text import printable

MAX_NAMED = 3  # servers in a message


class Refill:
    """The time that agents have to write what a store has lost."""

    def __init__(self) -> None:
        # When it was found to have lost that, once more maybe, or could last not be read or written
        self.since = time.monotonic()
        # Whether it took writes then, as far as is known
        self._takes_writes = True
        # The servers that were back at the last reading
        self._back: Set[str] = frozenset()

    def note(self, back: Set[str]) -> None:
        """Take note of the servers that are ``back``: those that have gone again are waited for
        from now on."""
        if self._back - back:
            self.since = time.monotonic()
        self._back = back

    def see_whether_agents_can_write(self, store: Followed) -> None:
        """Raise :class:`StoreError` while they cannot; if they could not before, they have their
        time from now on."""
        try:
            store.end_leases()
        except StoreError:
            self.begin_again()
            raise
        if not self._takes_writes:
            self.since, self._takes_writes = time.monotonic(), True

    def begin_again(self) -> None:
        """Take note that the store cannot be read or written now."""
        self.since, self._takes_writes = time.monotonic(), False


def is_silent(servers: Sequence[str]) -> str:
    """Return what to say of servers whose leases have run out, and whose end is not written."""
    named = ", ".join(map(printable, servers[:MAX_NAMED]))
    return (
        f"the agent of {named}{', …' if len(servers) > MAX_NAMED else ''} has written nothing for"
        " longer than its lease: it has stopped, or the store cannot be written"
    )


def may_be_old(
    known: Mapping[str, Entry], snapshot: Changes, renewed: Mapping[str, float], right_at: float
) -> bool:
    """Whether ``snapshot`` says something else of the sessions of a server than is ``known``, and
    its agent has not written since that was right: an older store may have been restored."""
    same, others = set[str](), set[str]()
    for record in snapshot.records:
        entry = known.get(record.id)
        if entry is not None and record.text is not None and entry.text == record.text.encode():
            same.add(record.id)
        else:
            others.add(record.server_id)
    others.update(known[name].members["serverId"] for name in known.keys() - same)
    return any(
        renewed.get(server.id, -math.inf) <= right_at
        for server in snapshot.servers
        if server.id in others
    )
