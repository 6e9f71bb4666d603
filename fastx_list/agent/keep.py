"""The agent's loop: what the sources see, made into sessions and written to the store when it has
changed."""

from __future__ import annotations

import gc
import hashlib
import logging
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from fastx_list.agent import identity
from fastx_list.agent.display import STARTING_SECONDS
from fastx_list.agent.facts import Facts, Source
from fastx_list.agent.load import Load
from fastx_list.agent.machine import Machine
from fastx_list.agent.sources import load_sources
from fastx_list.agent.start import SessionJson
from fastx_list.config import PREFIX, Settings
from fastx_list.model.params import check_params
from fastx_list.model.session import Session, decode
from fastx_list.store import Lease, ServerTaken, Store, StoreError

BEATS_PER_LEASE = 4  # so that a lease outlives a few heartbeats that came to nothing
MAX_BEAT_SECONDS = 15.0
# In which a source that fails from the beginning may still find a session that no process tells of
PATIENCE_SECONDS = 60.0
# In which no session that was known before ends while its process runs: one look can miss what a
# second sees
FIRST_SECONDS = 5.0

T = TypeVar("T")

log = logging.getLogger(__name__)


class Agent:
    """Reconciles what runs on this machine with the store."""

    def __init__(
        self, settings: Settings, store: Store, sources: Sequence[Source] | None = None
    ) -> None:
        self._server_id = settings.server_id
        self._interval = settings.scan_interval
        self._store = store
        self._sources: Sequence[Source] = load_sources(settings) if sources is None else sources
        self._facts: dict[Source, list[Facts]] = {}
        self._failing: set[Source] = set()
        self._session_json = SessionJson(settings.session_json)
        self._machine = Machine()
        self._hostname = socket.gethostname()
        self._view: dict[str, tuple[Facts | None, Session]] | None = None
        self._load = Load(settings, self._hostname)
        self._lease = Lease(
            identity.read(settings),
            secrets.token_hex(8),
            host=self._hostname,
            seconds=settings.server_expiry,
        )
        self._beat_interval = min(settings.server_expiry / BEATS_PER_LEASE, MAX_BEAT_SECONDS)
        self._next_beat = 0.0
        # How many sessions and logins the last heartbeat told of; none while the lease is not ours.
        self._told: tuple[int, int] | None = None
        self._rival: str | None = None
        self._written: str | None = None  # the edition that was written last
        self._unwritten = True
        self._found: list[Facts] = []
        self._seen: dict[str, Facts] = {}
        self._unmerged = True  # whether what was seen is not in the view yet
        self._began = time.monotonic()
        self.problem: str | None = None  # why the store could not be written at the last scan

    def run(self, stopped: Callable[[float], bool]) -> None:
        """Scan at every interval until ``stopped(seconds)``, which waits that long, returns
        true."""
        while True:
            next_scan = time.monotonic() + self._interval
            self.scan()
            while True:
                now = time.monotonic()
                if stopped(max(0.0, min(next_scan, now + self._beat_interval) - now)):
                    return
                if time.monotonic() >= next_scan:
                    break
                self._exchange()  # a lease may be shorter than what lies between two looks

    def scan(self) -> int:
        """Look once, write what has changed, and return how many sessions there are.

        A store that cannot be written is reported once; what was seen meanwhile is kept and written
        when it can be.
        """
        previous_look = self._machine.last_look
        self._machine.look()
        found = [facts for source in self._sources for facts in self._ask(source)]
        if found != self._found:  # as a rule they are the same objects, which compare in no time
            self._found, self._unmerged = found, True
            self._seen = {session_id(self._server_id, facts.identity): facts for facts in found}
        self._exchange(previous_look)
        return len(self._seen)

    def _exchange(self, previous_look: float | None = None) -> None:
        """Bring the store up to date with what was seen."""
        try:
            if self._view is None:
                self._view = self._recall()
            if self._unmerged:
                is_new = self._is_new
                self._update(self._view, self._seen, previous_look)
                self._unmerged = is_new
            if self._written is not None and self._store.edition(self._server_id) != self._written:
                # The store has lost the view, or let it run out. Sessions come first, so that
                # nobody sees the server without them.
                self._write(self._view)
                self._next_beat = 0.0
            if self._beat(self._view) and (self._unwritten or self._written is None):
                self._write(self._view)
            if self.problem is not None and self._told is not None:
                log.warning("the store can be written again")
                self.problem = None
        except StoreError as error:
            if isinstance(error, ServerTaken):
                self._told, self._written, self._next_beat = (
                    None,
                    None,
                    time.monotonic() + self._beat_interval,
                )
            if self.problem != str(error):
                log.error("%s; will try again", error)
                self.problem = str(error)

    def _beat(self, view: dict[str, tuple[Facts | None, Session]]) -> bool:
        """Renew the lease when it is time to, telling what the machine is like; return whether it
        is ours."""
        now = time.monotonic()
        counts = len(view), len({session.login for _, session in view.values()})
        if now < self._next_beat and (self._told is None or counts == self._told):
            return self._told is not None
        rival = self._store.heartbeat(self._load.describe(*counts), self._lease)
        if rival is not None and rival != self._rival:
            log.error(
                "another agent, on %s, also calls itself %r, and is refused; give one of the two"
                " another %sSERVER_ID",
                rival,
                self._server_id,
                PREFIX,
            )
        self._rival, self._told, self._next_beat = rival, counts, now + self._beat_interval
        return True

    def _write(self, view: dict[str, tuple[Facts | None, Session]]) -> None:
        sessions = {name: session for name, (_, session) in view.items()}
        self._written = self._store.observe(self._server_id, sessions, self._lease)
        self._unwritten = False
        # What is known now stays for long, so the garbage collector need not walk over it at every
        # scan.
        gc.collect()
        gc.freeze()

    def _ask(self, source: Source) -> list[Facts]:
        """Return what ``source`` sees. One that fails costs the others nothing, and its sessions
        stay as they were."""
        try:
            self._facts[source] = list(source.scan(self._machine))
        except Exception:
            if source not in self._failing:
                log.exception(
                    "the source %s failed; its sessions stay as they were", type(source).__name__
                )
            self._failing.add(source)
        else:
            self._failing.discard(source)
        return self._facts.get(source, [])

    def _recall(self) -> dict[str, tuple[Facts | None, Session]]:
        """Return what the store knows of this server: when clients came and went, which no process
        can tell."""
        view: dict[str, tuple[Facts | None, Session]] = {}
        for record in self._store.recall(self._server_id):
            if record.text is not None:
                view[record.id] = (None, decode(record.text))
        return view

    def _update(
        self,
        view: dict[str, tuple[Facts | None, Session]],
        seen: dict[str, Facts],
        previous_look: float | None,
    ) -> None:
        now = round(time.time() * 1000)
        for name, facts in seen.items():
            known = view.get(name)
            if known is not None and known[0] is facts:
                continue
            try:
                session = self._make_session(name, facts, known, now, previous_look)
                changed = session.digest != (known[1].digest if known is not None else None)
            # Another package's source says what no session can be
            except (TypeError, ValueError, OverflowError) as error:
                self._machine.explain(f"session {facts.identity!r}", f"skipped: {error}")
                continue
            view[name] = (facts, session)
            self._unwritten = self._unwritten or changed
        for name in view.keys() - seen.keys():
            if not self._may_still_be_found(*view[name]):
                del view[name]
                self._unwritten = True

    @property
    def _has_unanswered(self) -> bool:
        """Whether a source has not succeeded yet since this process started."""
        return any(source not in self._facts for source in self._sources)

    @property
    def _is_new(self) -> bool:
        """Whether what was not seen yet may still be there: what has ended is decided when this is
        over."""
        return self._has_unanswered or time.monotonic() - self._began < FIRST_SECONDS

    def _may_still_be_found(self, facts: Facts | None, session: Session) -> bool:
        """Whether a session that only a former agent saw runs on, as far as can be told from the
        process that serves it."""
        if facts is not None or not self._is_new:
            return False
        if session.server_pid is None:
            return self._has_unanswered and time.monotonic() - self._began < PATIENCE_SECONDS
        process = self._machine.processes.get(session.server_pid)
        if process is None:
            return False
        if session_id(self._server_id, process.identity) == session.id:
            return True
        # Its identity may be another than the process's, but not with a process that is younger
        # than the session.
        return (
            self._has_unanswered
            and process.started <= (session.started or process.started) + STARTING_SECONDS * 1000
        )

    def _make_session(
        self,
        name: str,
        facts: Facts,
        known: tuple[Facts | None, Session] | None,
        now: int,
        previous_look: float | None,
    ) -> Session:
        if known is None:
            check_params(facts.params)
        # What a session was started with holds for its life: later edits of the file touch new
        # sessions only.
        start = self._session_json.read(self._machine) if known is None else known[1]
        session = Session(
            id=name,
            login=facts.login,
            server_id=self._server_id,
            hostname=self._hostname,
            server_pid=facts.server_pid,
            geometry=facts.geometry,
            window_mode=facts.window_mode,
            started=facts.started,
            command=facts.command,
            app_pid=facts.app_pid,
            clients=facts.clients,
            params=facts.params,
            display=facts.display,
            cpu_percentage=_first(facts.cpu_percentage, start.cpu_percentage),
            video_ram=_first(facts.video_ram, start.video_ram),
            sharing=_first(facts.sharing, start.sharing),
            disconnect_timeout=_first(facts.disconnect_timeout, start.disconnect_timeout),
        )
        if known is None:
            # Clients of a session that started since the last look have come since then; of an
            # older one nobody knows when.
            is_fresh = (
                previous_look is not None
                and facts.started is not None
                and facts.started >= previous_look * 1000 - 1000
            )
            return replace(session, last_connect=now) if facts.clients and is_fresh else session
        before_facts, before = known
        came, left = _traffic(before_facts, before, facts)
        settled = before.started is not None and now - before.started > STARTING_SECONDS * 1000
        keep_command = (
            not facts.stated and before.app_pid is not None and (settled or facts.app_pid is None)
        )
        return replace(
            session,
            started=_first(before.started, facts.started),
            last_connect=now if came else before.last_connect,
            last_disconnect=now if left else before.last_disconnect,
            command=before.command if keep_command else facts.command,
            app_pid=before.app_pid if keep_command else facts.app_pid,
        )


def session_id(server_id: str, identity: str) -> str:
    """Return the id of session ``identity`` of server ``server_id``: the same after a restart,
    another on every other server."""
    return hashlib.blake2b(
        f"{server_id}\0{identity}".encode("utf-8", "surrogateescape"), digest_size=16
    ).hexdigest()


def _first(value: T | None, otherwise: T | None) -> T | None:
    return otherwise if value is None else value


def _traffic(before_facts: Facts | None, before: Session, facts: Facts) -> tuple[bool, bool]:
    """Return whether a client has come and whether one has left."""
    if (
        before_facts is not None
        and before_facts.connections is not None
        and facts.connections is not None
    ):
        return bool(facts.connections - before_facts.connections), bool(
            before_facts.connections - facts.connections
        )
    if before.clients is None or facts.clients is None:
        return False, False
    return facts.clients > before.clients, facts.clients < before.clients
