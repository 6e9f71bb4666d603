"""The model: what is true, what was confirmed, and what may therefore be said to whom."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fastx_list.agent.facts import Facts
from fastx_list.agent.merge import session_id
from fastx_list.replica.topics import Everything, Topic
from fastx_list.store import Revision
from tests.simulation.clock import clock

PARAM = "p"  # the one that is set here, to higher and higher numbers


class Violation(AssertionError):
    """What was promised does not hold."""


class Said(NamedTuple):
    """What a text says of a session."""

    id: str
    login: str
    server: str
    version: int
    param: int
    was_used: bool  # whether a client is known to have connected

    def __repr__(self) -> str:
        return f"{self.id[:6]} of {self.login}, version {self.version}, param {self.param}"


@lru_cache(20_000)
def read(text: bytes) -> Said:
    """Return what the JSON of a session says."""
    members = json.loads(text)
    version = int(members["geometry"].partition("x")[0])
    param = members["params"].get(PARAM, 0)
    was_used = members["lastConnect"] is not None
    return Said(members["id"], members["login"], members["serverId"], version, param, was_used)


@dataclass(repr=False)
class Session:
    """A session that runs, or that ran."""

    id: str
    server: str
    facts: Facts  # what its agent sees at the next look
    version: int = 1  # counts its changes
    has_ended: bool = False
    params: set[int] = field(default_factory=lambda: {0})  # the values that the param may have
    is_being_set: bool = False  # the param, just now

    @property
    def login(self) -> str:
        return self.facts.login

    def __repr__(self) -> str:
        state = "ended" if self.has_ended else "runs"
        return (
            f"{self.facts.identity} of {self.login}, which {state}, version {self.version},"
            f" params {self.params}"
        )

    def change(self, clients: int) -> None:
        self.version += 1
        geometry = f"{self.version}x1"
        self.facts = replace(self.facts, clients=clients, geometry=geometry)


@dataclass
class Written:
    """What an agent has written and knows to be written, by the sessions' ids."""

    running: dict[str, int]  # with their versions
    ended: set[str]


class Copy(NamedTuple):
    """A copy of the store, and what it holds."""

    path: Path
    revision: Revision | None  # the last one in it
    params: dict[str, set[int]]
    revoked: dict[str, float]
    holders: list[tuple[int, float]]  # which names of the agents it has, how long silent


@dataclass
class Silence:
    """For how long an agent has said nothing while others would have heard it."""

    server: str
    lease: float
    longest: float  # how many seconds count of a gap: nobody else ran, or nobody could write
    counted: float = 0.0  # the seconds that count
    said_at: float = 0.0  # when it last said something, by those
    lapses: int = 0  # how often its sessions could have ended
    _gap: float = 0.0  # the seconds of the gap that goes on
    _is_over: bool = False

    def is_over(self) -> bool:
        """Whether its sessions may have ended."""
        if not self._is_over and self.counted - self.said_at >= self.lease - 1e-6:
            self.end()
        return self._is_over

    def end(self) -> None:
        """Let its sessions end until it has spoken again."""
        self._is_over = True
        self.lapses += 1

    def told(self) -> int:
        """Return for how many lapses ends have been told where all has been told."""
        is_over = self.is_over()
        return self.lapses - is_over

    def said(self, at: float) -> None:
        self.is_over()
        self.said_at, self._is_over, self._gap = at, False, 0.0

    @property
    def lasts(self) -> float:
        return self.counted - self.said_at

    def remember(self, silent: float) -> None:
        """Let the store be one in which it had been silent for so long, before a gap."""
        self.is_over()
        self.said_at = min(self.said_at, self.counted - silent - self.longest)

    def advance(self, seconds: float, is_gap: bool) -> None:
        if is_gap:
            before, self._gap = self._gap, self._gap + seconds
            seconds = max(0.0, min(self._gap, self.longest) - before)
        else:
            self._gap = 0.0
        self.counted += seconds


class Truth:
    """What runs, and what is confirmed."""

    def __init__(self, servers: Iterable[str], lease: float, longest: float) -> None:
        self.sessions: dict[str, Session] = {}
        self.revoked: dict[str, float] = {}  # when they expire
        self.written: dict[str, Written | None] = dict.fromkeys(servers)
        self.silence = {server: Silence(server, lease, longest) for server in servers}
        self.restores = 0  # how often the store became an older one
        # How often the agent of each server began, and the sidecar under its name
        self.starts = Counter[str]()

    def begin(self, server: str, login: str, started: int) -> None:
        identity = f"{server}{len(self.sessions)}"
        name = session_id(server, identity)
        facts = Facts(identity=identity, login=login, clients=0, started=started, geometry="1x1")
        self.sessions[name] = Session(name, server, facts)

    def running(self, server: str | None = None) -> list[Session]:
        return [
            each
            for each in self.sessions.values()
            if not each.has_ended and server in (None, each.server)
        ]

    # What readers hold

    def check_list(self, who: str, texts: Iterable[bytes], topic: Topic) -> None:
        """Check what a reader answers without a warning, which it has just read."""
        listed = {said.id: said for said in map(read, texts)}
        for said in listed.values():
            session = self.sessions[said.id]
            if topic is not Everything.SESSIONS and said.login != topic:
                raise Violation(f"{who}: {said} is listed for {topic}")
            if said.version > session.version:
                raise Violation(f"{who}: {said} is newer than the truth, {session}")
        for server, written in self.written.items():
            if written is None or self.silence[server].is_over():
                continue
            for name, version in written.running.items():
                if topic is not Everything.SESSIONS and self.sessions[name].login != topic:
                    continue
                if name not in listed:
                    raise Violation(f"{who}: {self.sessions[name]} is not listed")
                if listed[name].version < version:
                    raise Violation(f"{who}: {listed[name]} is older than version {version}")
                if listed[name].param not in self.sessions[name].params:
                    raise Violation(f"{who}: {listed[name]} lost params: {self.sessions[name]}")
            for name in written.ended & listed.keys():
                raise Violation(f"{who}: {listed[name]} has ended, and is listed")

    def check_revoked(self, who: str, revoked: Collection[str]) -> None:
        if lost := self.lost(revoked):
            raise Violation(f"{who}: takes revoked tokens for good: {sorted(lost)}")

    def lost(self, revoked: Collection[str]) -> set[str]:
        """Return which tokens are revoked, would be good else, and are not among ``revoked``."""
        if not self.revoked:
            return set()
        now = clock.time()
        return {each for each, until in self.revoked.items() if until > now} - set(revoked)


@dataclass
class Heard:
    """What a subscriber was told of a session."""

    said: Said
    lapses: int  # of its server, that its ends were told for
    is_there: bool = True
    is_over: bool = False  # whether it has ended for good


class Messages:
    """What one subscriber makes of its messages, each of which is checked against all before."""

    def __init__(self, who: str, truth: Truth, topic: Topic) -> None:
        self.who = who
        self._truth = truth
        self._topic = topic
        self.heard: dict[str, Heard] = {}
        # What was told last, over reconnections, and by which of those that began
        self._newest: dict[str, tuple[Said, tuple[int, int]]] = {}
        self._restores: dict[str, int] = {}  # after how many of them an older state was told
        self._lapses = dict.fromkeys(truth.silence, 0)  # at the last connection
        self.is_slow = False
        self._starts_then = truth.starts.copy()  # when it became slow
        self._announced: set[str] = set()  # what is to be sent, and may be known from before

    def reconnect(self, snapshot: Iterable[str]) -> None:
        """Begin anew with these sessions, which are sent unless they end before."""
        self.heard.clear()
        self._announced = set(snapshot)
        self._lapses = {name: silence.told() for name, silence in self._truth.silence.items()}

    def be_slow(self, is_slow: bool) -> None:
        if not self.is_slow:
            self._starts_then = self._truth.starts.copy()
        self.is_slow = is_slow

    def take(self, frame: bytes) -> None:
        payload = frame[frame.index(b"{") :]
        name, _, text = payload[7:-1].partition(b'","data":')
        if text == b"null":
            self._end(name.decode())
        else:
            self._show(read(text))

    def _fail(self, what: str, name: str) -> Violation:
        session = self._truth.sessions[name]
        return Violation(f"{self.who}: {what}: {session}, heard {self.heard.get(name)}")

    @staticmethod
    def _starts(server: str, starts: Counter[str]) -> tuple[int, int]:
        """Return how often those began who know what of the server's sessions was told."""
        return starts[server], starts["sidecar"]

    def _silence(self, name: str) -> Silence:
        return self._truth.silence[self._truth.sessions[name].server]

    def _show(self, said: Said) -> None:
        session = self._truth.sessions[said.id]
        if self._topic is not Everything.SESSIONS and said.login != self._topic:
            raise self._fail("told of another login's", said.id)
        before, now = self.heard.get(said.id), self._starts(said.server, self._truth.starts)
        old, then = self._newest.get(said.id, (said, now))
        # Params nobody has but the store, all else who has not begun since
        is_older = said.version < old.version or said.was_used < old.was_used
        if is_older or said.param < old.param:
            is_once = self._restores.get(said.id, 0) < self._truth.restores
            if not is_once or (is_older and now == then):
                raise self._fail(f"{said} is older than {old}", said.id)
            self._restores[said.id] = self._truth.restores
        if before is not None and before.is_over:
            raise self._fail("began twice", said.id)
        # A slow one takes later what was told before somebody began, maybe
        noted = self._starts(said.server, self._starts_then) if self.is_slow else now
        self._newest[said.id] = said, noted
        self._announced.discard(said.id)
        silence = self._silence(said.id)
        lapses = silence.told()
        if self.is_slow:  # it may be about a time before the last lapse
            lapses = self._lapses[silence.server] if before is None else before.lapses
        self.heard[said.id] = Heard(said, lapses)
        if said.version > session.version:
            raise self._fail(f"{said} is newer than the truth", said.id)

    def _end(self, name: str) -> None:
        heard = self.heard.get(name)
        if heard is None and name in self._announced:
            self._announced.remove(name)
            return
        if heard is None or not heard.is_there:
            raise self._fail("told of an end that had no beginning", name)
        heard.is_there = False
        silence = self._silence(name)
        silence.is_over()
        if silence.lapses > heard.lapses:
            heard.lapses += 1  # it may come back
        elif self._truth.sessions[name].has_ended:
            heard.is_over = True
        else:
            raise self._fail("told of an end, and it runs", name)

    def now(self) -> dict[str, Said]:
        """Return the sessions that are there, as far as the messages say."""
        return {name: each.said for name, each in self.heard.items() if each.is_there}
