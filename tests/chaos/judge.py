"""Judges all that the product says, message by message and answer by answer, against the truth.

Of each subscriber the whole history counts, over all its connections.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.truth import Members, Session, Truth, note_of

MOST_WRONG = 20  # are told of, for the first one tells the most


@dataclass(frozen=True)
class Question:
    """What is asked of a list, or subscribed to at a sidecar: ``may_see`` says what belongs to
    it."""

    name: str
    path: str
    login: str
    may_see: Callable[[Members], bool] = lambda members: True
    parameters: str = ""
    admin: bool = False

    @property
    def of_servers(self) -> bool:
        return self.path.endswith("/server")


@dataclass
class Seen:
    """What one subscriber has seen so far of one session."""

    version: int = -1
    note: int = 0
    losses: int = 0  # how often its params had been lost by then
    has_ended: bool = False  # and that the session has ended in truth, too


@dataclass
class History:
    """What one subscriber was told, over all its connections."""

    name: str
    question: Question
    has_snapshot: bool = True
    resumes: bool = False  # whether it asks for no more than what it has missed
    # What it takes for true by the messages of its present connection, by id; None without one
    state: dict[str, Members] | None = None
    seen: dict[str, Seen] = field(default_factory=dict)
    messages: int = 0
    # Up to where it was told all, and what it took for true when its last connection ended
    revision: str | None = None
    left_with: dict[str, Members] = field(default_factory=dict)
    # When its present connection began, and of which sessions it has heard the end alone since
    began: float = 0.0
    ended_unheard: set[str] = field(default_factory=set)
    # Whether it is just told what it has missed, of which it may know some
    is_coming_back: bool = False
    # What it was not told, but learnt when all agreed: that may have been on its way
    assumed: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """Take note of a new connection."""
        self.began, self.ended_unheard = time.monotonic(), set()
        self.is_coming_back = self.revision is not None
        self.state = dict(self.left_with) if self.is_coming_back else {}

    def end(self) -> None:
        """Take note that it has none any more."""
        if self.state is not None:
            self.left_with, self.state = self.state, None

    def mark(self, revision: str | None) -> None:
        """Take over a bookmark; without a revision all that there is follows."""
        assert self.state is not None
        self.revision, self.is_coming_back = revision, False
        if revision is None:
            self.state.clear()


class Judge:
    """Notes all that is wrong."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.wrong: list[str] = []
        self._by_id: dict[str, Session] = {}
        self._lock = threading.Lock()

    def blame(self, text: str) -> None:
        with self._lock:
            if len(self.wrong) < MOST_WRONG:
                self.wrong.append(f"{time.strftime('%H:%M:%S')} {text}")

    def message(self, history: History, message: Mapping[str, Any]) -> None:
        """Take over what a subscriber was told."""
        state = history.state
        assert state is not None
        history.messages += 1
        if history.resumes and message.keys() == {"revision"}:
            history.mark(message["revision"])
            return
        if message.keys() != {"id", "data"}:
            self.blame(f"{history.name} was told {message}")
            return
        name, data = message["id"], message["data"]
        judge = self._server if history.question.of_servers else self._session
        if wrong := judge(history, name, data):
            self.blame(f"{history.name} was told {message}: {wrong}; it had {state.get(name)}")
        history.assumed.discard(name)
        if data is None:
            state.pop(name, None)
        else:
            state[name] = data

    def _server(self, history: History, name: str, data: Members | None) -> str | None:
        assert history.state is not None
        if data is not None:
            return None if data["id"] == name else "its data have another id"
        if name not in history.state and history.has_snapshot and not history.is_coming_back:
            return "it was not there"
        return None if self.truth.may_be_over(name, time.monotonic()) else "its agent runs"

    def _session(self, history: History, name: str, data: Members | None) -> str | None:
        assert history.state is not None
        seen = history.seen.setdefault(name, Seen())
        if data is None:
            return self._end(history, name, seen)
        if data["id"] != name:
            return "its data have another id"
        session = self.truth.find(data)
        if session is None:
            return "there never was such a session"
        if self._by_id.setdefault(name, session) is not session:
            return "its id is another session's"
        if not history.question.may_see(data):
            return "it is not for this one to see"
        if history.state.get(name) == data and not (
            history.is_coming_back
            or name in history.assumed
            # Of what has ended and come back a slow one is told the last state alone
            or self.truth.may_be_over(session.node, time.monotonic())
        ):
            return "it was told so before"
        excuses = self.truth.excuses
        version = session.version_of(data)
        if version is None and session.is_real and data["clients"] is None:
            # Nobody may know how many clients one has that is new: docs/sessions.md has it. In the
            # end all have to.
            was = history.state.get(name, data)["clients"]
            is_new = session.known is None or session.node in excuses.blind
            if was is None and is_new:
                version = seen.version
        if version is None:
            return f"it never was so; at last it is {session.versions[-1]}"
        if seen.losses != session.losses:
            seen.losses, seen.note = session.losses, 0
        try:
            if not session.is_real and version < seen.version:
                return f"version {seen.version} was seen before"
            if (
                note_of(data) < seen.note
                and note_of(data) not in session.notes[1:]
                and not excuses.older
                and session.node not in excuses.gone
            ):
                return f"note {seen.note} was seen before"
            # With a lease it may end and come back, also where its agent is yet to see its end
            if (
                seen.has_ended
                and session.node not in excuses.gone
                and not self.truth.may_be_over(session.node, time.monotonic())
            ):
                return "its end was told before, and it has ended"
        finally:
            seen.version = max(version, seen.version)
            seen.note = note_of(data)
            seen.has_ended = False
        return None

    def _end(self, history: History, name: str, seen: Seen) -> str | None:
        assert history.state is not None
        session = self._by_id.get(name)
        if name not in history.state and history.is_coming_back:
            return None  # it may have begun and ended meanwhile
        if name not in history.state and history.has_snapshot:
            if name in history.ended_unheard or not self._was_announced(history, session):
                return "it was not there"
            history.ended_unheard.add(name)
        if session is None:
            # Of one that was never seen only who has no snapshot may be told
            return None if not history.has_snapshot else "there never was such a session"
        if self.truth.may_end(session, time.monotonic()):
            seen.has_ended = session.ended is not None
            return None
        if self._has_left_the_filter(history, session, seen):
            return None
        return f"{session.key} runs"

    def _was_announced(self, history: History, session: Session | None) -> bool:
        """Whether it may have been there when the connection began, and have ended before that was
        sent: who knows it from elsewhere has to hear of its end."""
        if session is None or session.written[0] > history.began:
            return False
        ended = session.ended
        return ended is None or not self.truth.is_due(session.node, ended, history.began)

    def _has_left_the_filter(self, history: History, session: Session, seen: Seen) -> bool:
        base = {"login": session.login}
        return not all(
            history.question.may_see({**base, **version})
            for version in session.versions[max(seen.version, 0) :]
        )

    def answer(self, who: str, question: Question, asked: float, found: Sequence[Members]) -> None:
        """Judge a list that was given as the present one, without a warning; it was ``asked`` for
        at this time, by our clock."""
        sessions: dict[Session, Members] = {}
        for members in found:
            session = self.truth.find(members)
            if session is None:
                self.blame(f"{who}: {members} never was a session")
            elif not question.may_see(members):
                self.blame(f"{who}: {members} is not for {question.name} to see")
            elif session in sessions:
                self.blame(f"{who}: {session.key} is there twice")
            else:
                sessions[session] = members
        excuses = self.truth.excuses
        for session, members in sessions.items():
            if wrong := self._is_old(session, members, asked):
                self.blame(f"{who} shows {session.key} as current, though {wrong}: {members}")
        if question.parameters:
            return
        for session in list(self.truth.sessions):
            if (
                session not in sessions
                and question.may_see({"login": session.login, **session.versions[-1]})
                and session.ended is None
                and self.truth.is_due(session.node, session.written[0], asked)
                and session.node not in excuses.blind
                and not self.truth.may_end(session, time.monotonic())
            ):
                self.blame(f"{who} lacks {session.key}, which runs, without a warning")

    def _is_old(self, session: Session, members: Members, asked: float) -> str | None:
        excuses, stale = self.truth.excuses, self.truth.stale
        if session.node in excuses.blind or session.node in excuses.gone:
            return None
        since = excuses.away.get(session.node)
        if since is not None:
            if asked - since > stale and session.node not in excuses.back:
                return f"its agent has not run for {asked - since:.1f} s"
            return None
        if session.ended is not None and self.truth.is_due(session.node, session.ended, asked):
            return f"it ended {asked - session.ended:.1f} s ago"
        version = session.version_of(members)
        if version is None and not (session.is_real and members["clients"] is None):
            return f"it never was so; at last it is {session.versions[-1]}"
        if version is not None and not session.is_real and version + 1 < len(session.versions):
            since = session.written[version + 1]
            if self.truth.is_due(session.node, since, asked):
                return f"there is a newer state since {asked - since:.1f} s"
        return None


def by_id(found: Iterable[Members]) -> dict[str, Members]:
    return {members["id"]: members for members in found}
