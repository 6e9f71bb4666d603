"""What is said of a copy that may not be what there is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fastx_list.replica.view import Entry
from fastx_list.store import Changes
from fastx_list.text import printable

MAX_NAMED = 3  # servers in a message


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
