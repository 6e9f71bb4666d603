"""What sessions there are in truth, and what has been done to the product: what is right is judged
by this."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Members = Mapping[str, Any]  # of a session or server, as the API has them

LOGINS = ("alice", "bob", "carol")
CROWD = "crowd"  # has the sessions of a spool of many files
OWNER = "root"  # has the real sessions
STARTED = 1_700_000_000_000
TIMES = ("lastConnect", "lastDisconnect")
START = ("cpuPercentage", "videoRam", "sharing")  # what session.json says of a new one
ADDRESSES = "clientAddresses"
MOVES = (ADDRESSES, "idleSince", "cpu", "memory")  # what nobody here has chosen
NOTE = "note"  # the param that is set; each value is greater than the one before
EARLY = 0.7  # of a lease: sessions may end so soon after their agent was last seen to run
SILENT = 0.5  # of a lease: after so long without a word of an agent its sessions may end
# Of a lease: so long no agent is silent that has nothing to keep it, though the store was away for
# nearly a third of it, and longer than from one beat to the next
HEARD = 0.65
FUTURE_SECONDS = 5.0  # that a time may be ahead of ours


@dataclass(eq=False)
class Session:
    """One session. Its ``versions`` are the members that were chosen for it, one after the other;
    their geometry tells which is which. All other members stay what they were first."""

    node: str
    login: str
    command: str | None
    display: int | None = None
    versions: list[dict[str, Any]] = field(default_factory=list)
    written: list[float] = field(default_factory=list)  # when each of them was, by our clock
    notes: list[int] = field(default_factory=list)  # that were set, the last sure one first
    ended: float | None = None  # when
    known: Members | None = None  # as all agreed on it last
    # Since when clients may have come or gone that nobody has agreed on, in milliseconds
    touched: int | None = None
    is_started_anew: bool = False  # whether its params may be those it began with
    # What session.json may have said of it when it began again
    starts: list[Members] = field(default_factory=list)
    # What it has said since, if it may have been broken until then
    later: Members | None = None

    losses: int = 0  # how often its params may have been lost
    # How often they were set since all agreed, and how often that may or may not have been
    params_set: int = 0
    params_tried: int = 0

    @property
    def key(self) -> tuple[str | None, int | None]:
        return self.command, self.display

    @property
    def is_real(self) -> bool:
        return self.command is None

    def change(self, **members: Any) -> None:
        """Note a version that is about to be written."""
        number = len(self.versions) + 1
        before = self.versions[-1] if self.versions else {}
        geometry = {} if self.is_real else {"geometry": f"{number}x600"}
        self.versions.append({**before, **geometry, **members})
        self.written.append(time.monotonic())
        if "clients" in members:
            self.touched = self.touched or round(time.time() * 1000)

    def version_of(self, found: Members) -> int | None:
        """Return which version was found; ``None`` if there never was such a one."""
        for number in range(len(self.versions) - 1, -1, -1):
            if all(found.get(name) == value for name, value in self.versions[number].items()):
                return number
        return None

    def now_differs(self, found: Members, wall: float) -> str | None:
        """Say how what all seem to agree on differs from the truth."""
        starts = [*self.starts, *([self.later] if self.later else [])]
        for name, value in {**(self.known or {}), **self.versions[-1]}.items():
            if name in ("params", "hostname", *MOVES, *TIMES) or (name in START and starts):
                continue
            if found.get(name) != value:
                return f"{name} of {self.key} is {found.get(name)!r}, not {value!r}"
        if found["clients"] == 0 and found.get(ADDRESSES):
            return f"{ADDRESSES} of {self.key} are {found[ADDRESSES]}, and it has no clients"
        if starts and start_of(found) not in map(start_of, [*starts, self.known or {}]):
            return f"{START} of {self.key} are {start_of(found)}, which nobody has said"
        for name in TIMES:
            known = self.known[name] if self.known is not None else None
            if found[name] != known and self.touched is None and self.known is not None:
                return f"{name} of {self.key} is {found[name]!r}, not {known!r}"
            if found[name] is not None and found[name] > (wall + FUTURE_SECONDS) * 1000:
                return f"{name} of {self.key} is {found[name]!r}, which is in the future"
        note = note_of(found)
        wanted = self.notes or [0]
        if note not in wanted and not (note == 0 and self.is_started_anew):
            return f"{NOTE} of {self.key} is {note!r}, not one of {wanted!r}"
        return None

    def learn(self, found: Members) -> None:
        """Take over what all have agreed on."""
        # A viewer that has left and come back at once may be seen later, by the times alone
        if self.known is None or any(found[name] != self.known[name] for name in TIMES):
            self.touched = None
        self.known, self.is_started_anew, self.starts = found, False, []
        if self.later and start_of(found) == start_of(self.later):
            self.later = None  # which holds for its life
        self.notes = [note_of(found)]


def start_of(found: Members) -> tuple[Any, ...]:
    return tuple(found.get(name) for name in START)


def note_of(found: Members) -> int:
    return int(found["params"].get(NOTE, 0))


@dataclass
class Excuses:
    """What a fault may lead to, until all have agreed again."""

    # By server: when its agent was last seen to run, and so when its sessions may end
    away: dict[str, float] = field(default_factory=dict)
    # Those of them that run again
    back: set[str] = field(default_factory=set)
    # The servers whose agents cannot see what is there now: what they said before stays
    blind: set[str] = field(default_factory=set)
    # The servers whose spools were taken away, and their sessions with them
    gone: set[str] = field(default_factory=set)
    closes: set[int] = field(default_factory=set)  # codes with which WebSockets may be closed
    statuses: set[int] = field(default_factory=set)  # that requests may be answered with
    older: bool = False  # whether the store has lost params, or has older ones
    silent: bool = False  # whether nobody answers who is asked
    deaths: set[str] = field(default_factory=set)  # the processes that may end
    complaints: bool = False  # whether logs may hold tracebacks
    clock: bool = False  # whether times may be wrong for now


class Truth:
    """All that is to be."""

    def __init__(self, lease: float) -> None:
        self.lease = lease  # seconds
        # After so many seconds nothing that is over may be shown without a warning
        self.stale = 2 * lease + 3
        # Those that have ended since all agreed, too
        self.sessions: list[Session] = []
        self.excuses = Excuses()
        # When all agreed last, and what WebSockets could be closed with before that. A slow client
        # may have all messages by then, and its connection's end yet to come.
        self.agreed = 0.0
        self.closes_before: set[int] = set()
        self.revoked: list[str] = []  # the ids of tokens that were revoked since all agreed
        self.clocks_set: set[str] = set()  # the servers whose agents had other clocks at some time
        # By server: what its session.json has said. What is broken is not taken, and then the last
        # good one stays in force, but for an agent that has started since and knows of none: what
        # begins then gets what the next good one says
        self.starts: dict[str, list[Members]] = {}
        self.broken: set[str] = set()  # the servers whose session.json was so at some time
        # For how long an agent was silent while others wrote, and for how long one was so that had
        # no reason to: the machine had too much to do
        self.silence: Callable[[str], float] = lambda name: 0.0
        # For how long one waited for a processor after a time
        self.waited_since: Callable[[str, float], float] = lambda name, since: 0.0
        self.starved: dict[str, float] = {}
        self._by_key: dict[object, Session] = {}

    @property
    def count(self) -> int:
        """How many sessions there ever were."""
        return len(self._by_key)

    def add(self, session: Session) -> None:
        self.sessions.append(session)
        self._by_key[session.key] = session

    def find(self, found: Members) -> Session | None:
        command = found.get("command")
        key = (command, None) if command is not None else (None, found.get("display"))
        return self._by_key.get(key)

    def begin_again(self, node: str) -> None:
        """Note that the registered sessions of ``node`` end, and begin again as they were."""
        self.excuses.gone.add(node)
        for session in self.running:
            if session.node == node and not session.is_real:
                session.is_started_anew = True
                session.starts = [{}, *self.starts.get(node, ())]
                session.touched = session.touched or round(time.time() * 1000)

    def take_start(self, node: str, said: Members | None) -> None:
        """Note what session.json of ``node`` says now; ``None`` if it is broken."""
        if said is None:
            self.broken.add(node)
            return
        self.starts.setdefault(node, []).append(said)
        for session in self.running:
            if session.node == node and node in self.broken:
                session.later = said

    @property
    def running(self) -> list[Session]:
        return [session for session in self.sessions if session.ended is None]

    def is_due(self, node: str, since: float, at: float) -> bool:
        """Whether what was so ``since`` then must be known ``at``: the agent had time enough, but
        for that in which the machine did not let it run."""
        age = at - since
        return age > self.stale and age - self.waited_since(node, since) > self.stale

    def may_close(self, code: int, since: float) -> bool:
        """Whether a connection that was there ``since`` then may be closed with ``code`` now."""
        late = since < self.agreed and code in self.closes_before
        return late or code in self.excuses.closes

    def may_end(self, session: Session, at: float) -> bool:
        """Whether anybody may be told at ``at`` that it has ended."""
        if session.ended is not None or session.node in self.excuses.gone:
            return True
        return self.may_be_over(session.node, at)

    def may_be_over(self, node: str, at: float) -> bool:
        """Whether the lease of a server may have run out at ``at``."""
        since = self.excuses.away.get(node)
        if since is not None and at - since > EARLY * self.lease:
            return True
        silence = self.silence(node)
        if since is None and silence > SILENT * self.lease:
            self.starved[node] = max(silence, self.starved.get(node, 0.0))
        return silence > SILENT * self.lease

    def forget(self) -> None:
        """Begin anew: all have agreed."""
        self.starved = {}
        self.sessions = self.running
        self.revoked = []
        for session in self.sessions:
            session.params_set = session.params_tried = 0
            session.losses += self.excuses.older or session.node in self.excuses.gone
        self.agreed, self.closes_before = time.monotonic(), self.excuses.closes
        self.excuses = Excuses()


def differs(sessions: Iterable[Session], found: Iterable[Members], wall: float) -> str | None:
    """Say how what was ``found`` differs from the truth."""
    left = {session.key: session for session in sessions}
    for members in found:
        command = members["command"]
        key = (command, None) if command is not None else (None, members["display"])
        session = left.pop(key, None)
        if session is None:
            return f"{key} is there, and should not be, or not twice"
        if wrong := session.now_differs(members, wall):
            return wrong
    return f"{list(left)} are missing" if left else None
