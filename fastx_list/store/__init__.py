"""The store: where agents write what they see and readers follow it. This file is its contract.

Every change has a place in one order, its revision. A reader takes a snapshot once and then asks for the changes after the last
revision that it has seen; nothing between the two can be missed. One that has fallen off the kept history is told to take a
snapshot again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from fastx_list.session import Session

HISTORY_SECONDS = 600  # how long the end of a session stays in the order


class StoreError(Exception):
    """The store cannot be reached or written now; the message says why. Trying again later may help."""


class SnapshotNeeded(Exception):
    """The reader's revision is older than the history that is kept."""


class Record(NamedTuple):
    """A session as the store keeps it: ``text`` is its JSON, ``None`` once it has ended."""

    id: str
    login: str
    server_id: str
    text: str | None


@dataclass(frozen=True)
class Changes:
    """What was written up to ``revision``: the sessions changed or ended, and the tokens revoked (jti: expiry, in seconds)."""

    revision: int
    records: Sequence[Record] = ()
    revoked: Mapping[str, int] = field(default_factory=dict)


class Store(Protocol):
    """What a store does. Every method may raise :class:`StoreError`."""

    def observe(self, server_id: str, sessions: Mapping[str, Session]) -> None:
        """Take a server's complete view, atomically: what is new or changed is written, what is missing has ended."""

    def set_params(self, session_id: str, login: str, patch: Mapping[str, Any]) -> str | None:
        """Merge ``patch`` into the params of ``login``'s session; return its JSON, or ``None`` if there is no such session.

        Raises :class:`fastx_list.session.ParamsError` if the result would be too much.
        """

    def revoke(self, jti: str, expires: int) -> None:
        """Revoke the token ``jti``; it is remembered until ``expires``, in seconds since the Unix epoch."""

    def snapshot(self) -> Changes:
        """Return all sessions that run and all tokens that are revoked."""

    def changes(self, revision: int, timeout: float = 0) -> Changes | None:
        """Return what was written after ``revision``; ``None`` if nothing was within ``timeout`` seconds.

        Raises :class:`SnapshotNeeded` if what followed ``revision`` is no longer kept.
        """

    def close(self) -> None:
        """Let go of the connection; the next call opens it again."""


def open_store(url: str, *, create: bool = True) -> Store:
    """Return the store at ``url``. Nothing is opened before the first call of a method.

    With ``create`` false a store that does not exist is an error (:class:`StoreError`) instead of being made.
    """
    from fastx_list.store.sqlite import SqliteStore

    return SqliteStore(url, create=create)
