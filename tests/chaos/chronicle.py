"""Whether events and history tell the truth. Each round what was told since the round before is
read: each thing once, in order, whoever was killed or lost meanwhile."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastx_list.model.event import Event
from fastx_list.store.archive import Archive
from tests.chaos.truth import CROWD, Members, Session, Truth

AT_ONCE = 1000  # events
SLACK_MS = 2000  # by which times that two processes took may differ
VISITS = ("clientConnected", "clientLeft")


@dataclass
class _Told:
    """What events have said of one session."""

    runs: bool = False
    clients: int | None = None  # after the last visit, since it began


@dataclass
class _Connected:
    """What history said of a session when all agreed last."""

    at: int  # ms since the Unix epoch
    ms: int
    clients: int | None


class Chronicle:
    """Use :meth:`check` once all have agreed, before the round's excuses are forgotten."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._place: str | None = None  # the last event that was read
        self._told: dict[str, _Told] = {}
        self._servers: set[str] = set()
        self._connected: dict[str, _Connected] = {}
        self._ids: set[str] = set()  # of all events so far

    def check(
        self, archive: Archive, every: Sequence[Members], past: Sequence[Members], now: int
    ) -> Iterator[str]:
        """Yield what is wrong: ``every`` is what all agreed on, and ``past`` what history said
        ``now``, in milliseconds since the Unix epoch, of the sessions that run or have ended
        lately. Reading the events of very many sessions takes a while after that."""
        excuses, running = self._truth.excuses, {each["id"]: each for each in every}
        try:
            events = list(self._new(archive))
        except LookupError as error:
            if not excuses.older:
                yield str(error)
            events = []
        if excuses.older:  # what was told before may be lost, and is begun once more
            self._place = archive.last_event()
            self._told = {name: _Told(runs=True) for name in running}
            self._servers = {each["serverId"] for each in every}
            self._connected.clear()
        else:
            yield from self._take(events)
            told = {name for name, told in self._told.items() if told.runs}
            if told != running.keys():
                yield f"events say that these run: {told}, and the list {set(running)}"
            yield from self._ends(events, running)
            yield from self._clients(running)
            yield from self._asked_for(events, running)
        if excuses.clock:
            self._connected.clear()
        else:
            yield from self._history(running, past, now)

    def _new(self, archive: Archive) -> Iterator[Event]:
        while True:
            page = archive.events(self._place, AT_ONCE)
            if page.has_gap:
                raise LookupError(f"events after {self._place} are lost")
            if not page.events:
                return
            yield from page.events
            self._place = page.events[-1].id

    def _take(self, events: Sequence[Event]) -> Iterator[str]:
        for event in events:
            if event.id in self._ids:
                yield f"{event} was told before"
            self._ids.add(event.id)
            if event.session is not None:
                told = self._told.setdefault(event.session, _Told())
                yield from self._step(event, told)
            elif event.what == "serverCame":
                self._servers.add(str(event.server_id))
            elif event.what == "serverLost":
                if event.server_id not in self._servers:
                    yield f"{event}: it was not there"
                self._servers.discard(str(event.server_id))

    def _step(self, event: Event, told: _Told) -> Iterator[str]:
        if (event.what == "sessionBegan") == told.runs:
            yield f"{event}: it {'runs' if told.runs else 'does not run'}"
        if event.what == "sessionBegan":
            told.runs, told.clients = True, None
        elif event.what == "sessionEnded":
            told.runs = False
        elif event.what in VISITS:
            told.clients = event.more["clients"]

    def _ends(self, events: Sequence[Event], running: dict[str, Members]) -> Iterator[str]:
        for event in events:
            session = self._truth.find(running.get(str(event.session), {}))
            if event.what == "sessionEnded" and session and self._runs_on(session):
                yield f"{event}: {session.key} runs"

    def _clients(self, running: dict[str, Members]) -> Iterator[str]:
        for name, members in running.items():
            told = self._told[name].clients if name in self._told else None
            if None not in (told, members["clients"]) and told != members["clients"]:
                yield f"events say that {members} has {told} clients"

    def _asked_for(self, events: Sequence[Event], running: dict[str, Members]) -> Iterator[str]:
        """Say which params and revoked tokens were not told of, or too often."""
        told = Counter(event.session for event in events if event.what == "paramsSet")
        for name, members in running.items():
            session = self._truth.find(members)
            if session is None:
                continue
            least, most = session.params_set, session.params_set + session.params_tried
            if not least <= told[name] <= most:
                yield f"{told[name]} events of params of {session.key}, not {least} to {most}"
        tokens = Counter(event.more["token"] for event in events if event.what == "tokenRevoked")
        for jti in self._truth.revoked:
            if tokens[jti] != 1:
                yield f"{tokens[jti]} events of the revoked token {jti}"

    def _history(
        self, running: dict[str, Members], past: Sequence[Members], now: int
    ) -> Iterator[str]:
        offset = time.time() - time.monotonic()
        by_id = {each["id"]: each for each in past}
        if missing := [
            name for name in running if name not in by_id and self._is_own(running[name])
        ]:
            yield f"history lacks {missing}, which run"
        for record in by_id.values():
            session = self._truth.find(record)
            if session is None:
                yield f"history has {record}, which never was a session"
            elif (record["ended"] is None) != (session.ended is None):
                yield f"history says that {session.key} ended {record['ended']}"
            elif session.node not in self._truth.clocks_set:
                yield from self._course(session, record, now, offset)

    def _course(self, session: Session, record: Members, now: int, offset: float) -> Iterator[str]:
        name, is_calm = record["id"], self._runs_on(session)
        if record["started"] is not None and record["began"] != record["started"]:
            yield f"history says that {session.key} began {record['began']}: {record}"
        if session.ended is not None and record["ended"] is not None:
            ended = (session.ended + offset) * 1000
            if record["ended"] > now + SLACK_MS or (is_calm and record["ended"] < ended - SLACK_MS):
                yield f"history says that {session.key} ended {record['ended']}, not {ended:.0f}"
        ms, before = record["connectedSeconds"] * 1000, self._connected.get(name)
        if before is not None:
            passed, more = now - before.at, ms - before.ms
            if not -SLACK_MS <= more <= passed + SLACK_MS:
                yield f"of {passed} ms {session.key} was connected for {more}: {record}"
            # Nobody came or left meanwhile
            same = session.ended is None and session.written[-1] < before.at / 1000 - offset
            if same and is_calm and before.clients is not None:
                wanted = passed if before.clients else 0
                if abs(more - wanted) > SLACK_MS:
                    yield f"{session.key} was connected for {more} ms, not {wanted}: {record}"
        self._connected[name] = _Connected(now, ms, record["clients"])

    def _runs_on(self, session: Session) -> bool:
        """Whether nobody may take it for one that has ended before it does."""
        excuses = self._truth.excuses
        is_away = session.node in excuses.away or session.node in excuses.gone
        return not is_away and not self._truth.starved

    def _is_own(self, members: Members) -> bool:
        found = self._truth.find(members)
        return found is not None and found.login != CROWD
