"""An agent's lease of its server id, and what it writes to the store under it."""

from __future__ import annotations

import gc
import logging
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import replace

from fastx_list.agent import identity
from fastx_list.agent.load import Load
from fastx_list.agent.look import Looked
from fastx_list.config import PREFIX, Settings, fingerprint
from fastx_list.model.session import Session, decode
from fastx_list.store import EditionLost, Lease, ServerTaken, Store, StoreError

BEATS_PER_LEASE = 4  # so that a lease outlives a few heartbeats that came to nothing
MAX_BEAT_SECONDS = 15.0
MAX_PROBLEMS = 16  # are told of

log = logging.getLogger(__name__)


class Keeper:
    """Keeps the store up to date with this server's sessions, under a lease.

    A store that cannot be written is reported once; what has changed meanwhile is written when it
    can be.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._server_id = settings.server_id
        self._store = store
        holder = identity.read(settings)
        # Measures the machine for the heartbeats.
        self._load = Load(settings, fingerprint(settings, holder))
        # Our claim to be the one that writes for this server.
        self._lease = Lease(
            holder,
            f"{identity.place(settings)}-{secrets.token_hex(8)}",
            host=socket.gethostname(),
            seconds=settings.server_expiry,
        )
        # Seconds between two heartbeats while nothing changes.
        self.beat_interval = min(settings.server_expiry / BEATS_PER_LEASE, MAX_BEAT_SECONDS)
        # When the next heartbeat is due, by the monotonic clock.
        self._next_beat = 0.0
        # The host's name, sessions, logins and problems that the last heartbeat told of; None while
        # the lease is not ours.
        self._told: tuple[str, int, int, tuple[str, ...]] | None = None
        # The host of another agent that wants our lease, as the last heartbeat found it.
        self._rival: str | None = None
        # The edition that was written last; None if none was, or another agent's has replaced it.
        self._edition: str | None = None
        # Whether the sessions are others than those written last.
        self._is_unwritten = True
        # Why the store could not be read or written the last time; None if it could.
        self.problem: str | None = None

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew the lease, or to ask for it again."""
        return time.monotonic() >= self._next_beat

    def recall(self) -> dict[str, Session] | None:
        """Return what the store knows of this server: when clients came and went, which no process
        can tell; ``None`` while it cannot be read."""
        try:
            return {
                record.id: decode(record.text)
                for record in self._store.recall(self._server_id)
                if record.text is not None
            }
        except StoreError as error:
            self._report(error)
            return None

    def is_known(self) -> bool:
        """Whether the store has anything of this server, as far as it can be read."""
        try:
            return self._store.edition(self._server_id) is not None
        except StoreError as error:
            self._report(error)
            return False

    def keep(
        self,
        hostname: str,
        sessions: Mapping[str, Session],
        has_changed: bool,
        problems: tuple[str, ...],
        looked: Looked | None,
    ) -> None:
        """Write ``sessions`` if they have changed or the store has lost them, and renew the lease
        when it is time to. ``hostname`` is the name of the host now, ``problems`` keep us from
        seeing all, and ``looked`` is the last look."""
        if hostname != self._lease.host:
            self._lease = replace(self._lease, host=hostname)
        self._is_unwritten = self._is_unwritten or has_changed
        try:
            if self._edition is not None and self._store.edition(self._server_id) != self._edition:
                # The store has lost the sessions, or let them run out
                self._edition, self._next_beat = None, 0.0
            if self._told is not None or self.is_due:
                # They come first: so nobody sees the server without them, and a beat says that all
                # is written, though on a full disk there may be room for a beat alone.
                if self._is_unwritten or self._edition is None:
                    self._write(sessions)
                self._beat(hostname, sessions, problems, looked)
            if self.problem is not None and self._told is not None:
                log.warning("the store can be written again")
                self.problem = None
        except EditionLost:  # since it was asked for: all is written at the next turn
            self._edition, self._next_beat = None, 0.0
        except StoreError as error:
            self._report(error)

    def _beat(
        self,
        hostname: str,
        sessions: Mapping[str, Session],
        problems: tuple[str, ...],
        looked: Looked | None,
    ) -> None:
        """Renew the lease when it is time to, telling what the machine is like."""
        now = time.monotonic()
        logins = len({session.login for session in sessions.values()})
        now_so = hostname, len(sessions), logins, problems[:MAX_PROBLEMS]
        if now < self._next_beat and now_so == self._told:
            return
        # A look of its own makes no beat, or there would be one for each
        server = self._load.describe(*now_so, looked)
        rival = self._store.heartbeat(server, self._lease, self._edition)
        if rival is not None and rival != self._rival:
            log.error(
                "another agent, on %s, also calls itself %r, and is refused; give one of the two"
                " another %sSERVER_ID",
                rival,
                self._server_id,
                PREFIX,
            )
        self._rival, self._told, self._next_beat = rival, now_so, now + self.beat_interval

    def _write(self, sessions: Mapping[str, Session]) -> None:
        self._edition = self._store.observe(self._server_id, sessions, self._lease)
        self._is_unwritten = False
        # What is known now stays for long, so the garbage collector need not walk over it at every
        # scan.
        gc.collect()
        gc.freeze()

    def _report(self, error: StoreError) -> None:
        if isinstance(error, ServerTaken):
            self._told, self._edition = None, None
            self._next_beat = time.monotonic() + self.beat_interval
        if self.problem != str(error):
            log.error("%s; will try again", error)
            self.problem = str(error)
