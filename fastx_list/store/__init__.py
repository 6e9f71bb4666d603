"""The store: where agents write what they see and readers follow it. This file is its contract.

Every change has a place in one order, its revision, and every step of a writer, which is one change
or several that come together, has a random name. A reader takes a snapshot once and then asks for
the changes after the last revision that it has seen; nothing between the two can be missed. One
older than the ends that are kept, or whose step is not there, is told to take a snapshot again.

Nothing in a store is forgotten by a clock that can be set: what is old is judged by the time that
has passed while the store was written to.

An agent writes under a lease, which it renews once all that it has seen is written. Whoever touches
the store when a lease has run out carries that out: the server and its sessions have ended, as one
change each, and are kept in mind in case the machine was only cut off. Leases run by a clock of the
store's, for which a time in which nobody could write is short. Until an end is written, readers say
whose leases have run out by their own clocks: those may be over.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fastx_list.model.server import Server
from fastx_list.model.session import Session
from fastx_list.store import address
from fastx_list.store.archive import KEEP_SECONDS, Archive

MAX_REPLACED = 16  # how many processes that held a lease before are remembered with it
KEEP_ENDS_SECONDS = 600  # how long the end of a session stays in the order
MAX_CHANGES = 20_000  # after which it does not, however soon they come
REMEMBER_SECONDS = 86_400  # how long the sessions that ended with a lease are kept in mind
KEEP_REVOKED_SECONDS = 86_400  # how long a revocation outlives its token
AT_ONCE = 1000  # changes of a step, if it can be divided, and revocations
REFILL_SECONDS = 10.0  # that servers have to come back to a store that has lost what it had


class StoreError(Exception):
    """The store cannot be reached or written now; the message says why. Trying again later may
    help."""


class ServerTaken(StoreError):
    """Another agent holds the lease of this server id; nothing was written."""

    def __init__(self, server_id: str, host: str) -> None:
        super().__init__(
            f"the server id {server_id!r} is in use by another agent, on {host}; nothing is written"
            " until that one is gone: give each machine an id of its own with FASTX_LIST_SERVER_ID"
        )


class EditionLost(StoreError):
    """The store no longer has what an agent wrote of its server; nothing was written."""

    def __init__(self, server_id: str) -> None:
        super().__init__(f"the store has lost the sessions of {server_id!r}")


class SnapshotNeeded(Exception):
    """The reader's revision is older than the ends that are kept."""


class OrderLost(SnapshotNeeded):
    """The order that the reader followed is gone: the store was emptied, made anew, restored, or
    has lost its last writes."""


class Record(NamedTuple):
    """A session as the store keeps it: ``text`` is its JSON, ``None`` once it has ended."""

    id: str
    login: str
    server_id: str
    text: str | None


class ServerRecord(NamedTuple):
    """A server as the store keeps it: ``text`` is its JSON, ``None`` once its lease has run out."""

    id: str
    text: str | None


class Revision(NamedTuple):
    """A place in the order: the number of changes up to there, and the random name of the step that
    made the last of them.

    The name alone says nothing of what others did, and can be told to anybody.
    """

    number: int
    step: str


@dataclass(frozen=True)
class Changes:
    """What was written up to ``revision``: sessions changed or ended, tokens revoked (jti: expiry,
    in seconds), and servers. ``age`` is for how many seconds the store has been written at least,
    ``inf`` if that is one machine's: in one that several share, agents may be missing yet."""

    revision: Revision
    records: Sequence[Record] = ()
    revoked: Mapping[str, int] = field(default_factory=dict)
    servers: Sequence[ServerRecord] = ()
    # The names of the steps that are in it, in their order; in a snapshot those of all that
    # the store keeps, or the last one
    steps: Sequence[str] = ()
    # Whether more was written, which is read next
    more: bool = False
    # Revocations of tokens that expired before this, in seconds since the Unix epoch, are no longer
    # kept
    kept_from: int = 0
    age: float = field(default=math.inf, compare=False)


@dataclass(frozen=True)
class Lease:
    """An agent's claim to be the one that writes for a server.

    ``holder`` is a random name that the agent keeps over restarts, ``instance`` one of the process,
    behind the name of its place and a dash if it has one. Of all processes with one place only one
    runs at a time. ``host`` is where it runs, for people to read. The claim runs out after
    ``seconds`` by the clock of the store. It replaces that of another process of the same holder or
    place; one that was replaced is refused from then on, even if it lives, as it does in a copied
    machine.
    """

    holder: str
    instance: str
    host: str
    seconds: float


class Held(NamedTuple):
    """Who holds the lease of a server: the holder's name, its host, and the host of another agent
    that lately wanted it."""

    holder: str
    host: str
    rival: str | None


class Followed(Protocol):
    """What those who follow a store ask of it. Every method may raise :class:`StoreError`."""

    def read_all(self) -> Generator[None, None, Changes]:
        """Read all sessions that run, all servers that are there and all tokens that are revoked,
        in parts, and return them as they were at one moment.

        Between two parts all else may be called but :meth:`changes`. Raises
        :class:`SnapshotNeeded` if more is written meanwhile than is kept, and :class:`OrderLost` if
        the store is not the same all the time; then one has to begin once more.
        """

    def changes(self, revision: Revision, timeout: float = 0) -> Changes | None:
        """Return what was written after ``revision``; ``None`` if nothing was within ``timeout``
        seconds. Of very much these are the first steps, but for what later ones have changed again.

        Raises :class:`SnapshotNeeded` if what followed ``revision`` is no longer kept,
        :class:`OrderLost` if it never was.
        """

    @property
    def overdue(self) -> Sequence[str]:
        """The servers whose leases had run out when the store was last read, by the reader's own
        clock, and whose end is not in the store: it takes no writes, or not all its writers have
        had the time to. They and their sessions may be over."""

    @property
    def renewed(self) -> Mapping[str, float]:
        """When the lease of each server was renewed, by ``time.monotonic()``, as the store said
        when it was last looked for; of those alone whose agents have written all sessions."""

    def revoke(self, tokens: Mapping[str, int]) -> int:
        """Revoke the tokens with these ids, each with when it expires, in seconds since the Unix
        epoch. It is remembered for a day longer. Return how many were not revoked yet for as long:
        of all who revoke one so, whichever process they are, one is told so.

        Another thread may call this at any time; many tokens are written in several steps.
        """

    def end_leases(self) -> None:
        """Carry out the ends of the leases that have run out, and write even if there are none:
        what cannot be written raises :class:`StoreError`."""


class Store(Followed, Protocol):
    """What a store does. Every method may raise :class:`StoreError`."""

    @property
    def archive(self) -> Archive:
        """What has happened."""

    def snapshot(self) -> Changes:
        """Return what :meth:`read_all` reads, for those who keep nobody waiting."""

    def observe(
        self, server_id: str, sessions: Mapping[str, Session], lease: Lease | None = None
    ) -> str:
        """Take all sessions of a server: what is new or changed is written, what is missing has
        ended.

        Up to :data:`AT_ONCE` changes are one step, which readers see whole. More come in several,
        first what is new or changed, and others write and read in between; who dies on the way has
        written the first of them.

        It renews ``lease``, and raises :class:`ServerTaken` if that is another's; sessions that are
        written without one stay until they are missing. Sessions that had ended with the lease come
        back with the params they had. Returns what :meth:`edition` will say for as long as nobody
        else writes the server's sessions.
        """

    def edition(self, server_id: str) -> str | None:
        """Return a random name of what was last written of this server's sessions; ``None`` if
        the store has nothing of them (any more)."""

    def heartbeat(self, server: Server, lease: Lease, edition: str | None = None) -> str | None:
        """Write what a server is like and renew its lease; return the host of another agent that
        lately wanted the same lease.

        Raises :class:`ServerTaken` if another agent holds it, and :class:`EditionLost` if
        ``edition`` is given and not what :meth:`edition` says: a renewed lease tells readers that
        all sessions are written.
        """

    def holder(self, server_id: str) -> Held | None:
        """Return who holds the lease of this server, if anybody does."""

    def recall(self, server_id: str) -> Sequence[Record]:
        """Return the sessions of this server: those that run, and those that ended with its lease
        and are kept in mind."""

    def remembered(self) -> Sequence[Record]:
        """Return the sessions of all servers that ended with their lease and are kept in mind."""

    def remember(self, records: Sequence[Record]) -> int:
        """Keep sessions in mind that were in another store, as if they had just ended with their
        lease, but for those that run here or are kept in mind already; return of how many. Their
        agents find another edition than theirs, and write once more."""

    def set_params(self, session_id: str, login: str, patch: Mapping[str, Any]) -> str | None:
        """Merge ``patch`` into the params of ``login``'s session; return its JSON, or ``None`` if
        there is no such session.

        Raises :class:`fastx_list.model.params.ParamsError` if the result would be too much.
        """

    def close(self) -> None:
        """Let go of the connection; the next call opens it again."""


def open_store(
    url: str,
    *,
    create: bool = True,
    serving: bool = False,
    mends: bool = False,
    keep: float = KEEP_SECONDS,
) -> Store:
    """Return the store at ``url``. Nothing is opened before the first call of a method.

    With ``create`` false a file that does not exist is an error (:class:`StoreError`) instead of
    being made. With ``serving`` requests wait for what is read and for params: if it is away, a
    store on the network is given up after a quarter of a second. With ``mends`` a file that is
    damaged makes room for a new one. What has happened is kept for ``keep`` seconds. Raises
    ``ValueError`` if ``url`` is no address of a store, and :class:`StoreError` if it is a place
    that no store can be in.
    """
    where = address.parse(url)
    if isinstance(where, Path):
        from fastx_list.store.sqlite import SqliteStore
        from fastx_list.store.sqlite_harm import check_place

        check_place(where)
        return SqliteStore(where, create=create, mends=mends, keep=keep)
    from fastx_list.store.redis import RedisStore  # needs the extra "redis"

    return RedisStore(where, serving=serving, keep=keep)
