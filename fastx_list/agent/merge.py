"""Merging: what was seen now, against what is known from before, made into sessions.

Nothing here has a clock, a store or a state of its own, so that everything can be tried without
them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fastx_list.agent.clock import STEP_SECONDS
from fastx_list.agent.display import STARTING_SECONDS
from fastx_list.agent.facts import Facts
from fastx_list.agent.idle import JITTER_SECONDS
from fastx_list.agent.process import Process
from fastx_list.agent.steady import steady
from fastx_list.model.params import check_params
from fastx_list.model.session import Session, Start, complete, session_of
from fastx_list.store import AT_ONCE

# In which no session that was known before ends while its process runs, nor with the first look
# however long that takes: one look can miss what a second sees
FIRST_SECONDS = 5.0
# By which a session may seem older than it is: some launchers say its start in whole seconds
ROUNDING_SECONDS = 1.0


class Known(NamedTuple):
    """What is known of a session, and the facts that say so; ``None`` where only a former agent has
    seen them."""

    facts: Facts | None
    session: Session
    # Whether it is not known yet what it was started with
    lacks_start: bool = False


@dataclass(frozen=True)
class Moment:
    """When and where something was seen."""

    server_id: str
    hostname: str
    now: int  # milliseconds since the Unix epoch
    # By how many milliseconds the clock was set since what is known was
    set_by: int
    previous_look: float | None  # seconds since the Unix epoch; None for the agent's first look
    age: float  # seconds since the agent began
    all_answered: bool  # whether every source has succeeded since then
    processes: Mapping[int, Process] | None  # that run now, by pid; None if nobody could tell yet
    # Returns what a session that starts now starts with; None while that is not known
    start: Callable[[], Start | None]
    # Identities of processes, and names of sources, that could not be asked now
    unanswered: Set[str] = frozenset()
    # The names of the sources, by the identities of what they saw
    kinds: Mapping[str, str] = field(default_factory=dict)
    # The logins of whose sessions some may be in what has never been readable; None is anybody
    unread: Set[str | None] = frozenset()

    @property
    def is_early(self) -> bool:
        """Whether what was not seen may still be there: what has ended is decided when this is
        over."""
        is_first = self.previous_look is None or self.age < FIRST_SECONDS
        return not self.all_answered or is_first


@dataclass
class Merged:
    """The outcome."""

    known: dict[str, Known]  # by the sessions' ids
    has_changed: bool = False  # whether the sessions are others than before
    refused: dict[str, str] = field(default_factory=dict)  # identities: why these are no sessions


def merge(
    known: Mapping[str, Known],
    seen: Mapping[str, Facts],
    moment: Moment,
    meanwhile: Callable[[], object] = lambda: None,
) -> Merged:
    """Return what is known now that ``seen``, facts by the sessions' ids, was seen. Of very many
    sessions it takes longer than a lease may last on a busy machine, so ``meanwhile`` is called now
    and then."""
    merged, made = Merged(dict(known)), 0
    for name, facts in seen.items():
        before = known.get(name)
        if (
            before is not None
            and before.facts is facts
            and before.session.hostname == moment.hostname
            and not moment.set_by
            and not (before.lacks_start and moment.start() is not None)
        ):
            continue
        made += 1
        if made % AT_ONCE == 0:
            meanwhile()
        try:
            session = _make_session(name, facts, before, moment)
            digest = session.digest
        # Another package's source says what no session can be
        except (TypeError, ValueError, OverflowError) as error:
            merged.refused[facts.identity] = str(error)
            continue
        lacks_start = (before is None or before.lacks_start) and moment.start() is None
        merged.known[name] = Known(facts, session, lacks_start)
        if before is None or digest != before.session.digest:
            merged.has_changed = True
    for name in known.keys() - seen.keys():
        if not _may_still_be_found(known[name], moment):
            del merged.known[name]
            merged.has_changed = True
    return merged


def session_id(server_id: str, identity: str) -> str:
    """Return the id of session ``identity`` of server ``server_id``: the same after a restart,
    another on every other server."""
    return hashlib.blake2b(
        f"{server_id}\0{identity}".encode("utf-8", "surrogateescape"), digest_size=16
    ).hexdigest()


def _may_still_be_found(known: Known, moment: Moment) -> bool:
    """Whether a session that was not seen runs on, as far as can be told from the process that
    serves it: one that only a former agent saw, or one that no kind can be told of now."""
    session = known.session
    processes = moment.processes or {}
    process = processes.get(session.server_pid) if session.server_pid else None
    if process is not None and process.identity in moment.unanswered:
        return True
    if known.facts is not None:
        return False
    if moment.processes is None:
        return True
    all_answered = moment.all_answered and moment.unread.isdisjoint({None, session.login})
    if session.server_pid is None:
        return not all_answered
    if process is None or (all_answered and not moment.is_early):
        return False
    if session_id(moment.server_id, process.identity) == session.id:
        return True
    # Its identity may be another than the process's, but not with a process that is younger than
    # the session.
    return (
        not all_answered
        and process.started <= (session.started or process.started) + STARTING_SECONDS * 1000
    )


def _make_session(name: str, facts: Facts, before: Known | None, moment: Moment) -> Session:
    if before is None:
        check_params(facts.params)
    # What a session was started with holds for its life: later edits of the file touch new sessions
    # only.
    start: Start = Start() if before is None else before.session
    if before is None or before.lacks_start:
        start = complete(start, moment.start() or Start())
    session = session_of(
        complete(facts, start),
        id=name,
        server_id=moment.server_id,
        hostname=moment.hostname,
        kind=moment.kinds.get(facts.identity),
    )
    if before is None:
        return _begin(session, facts, moment)
    return _continue(session, facts, before, moment)


def _begin(session: Session, facts: Facts, moment: Moment) -> Session:
    """Return a session that was not known before. If it started or began to serve since the
    previous look, its clients have come since then; of an older one nobody knows when they did."""
    is_fresh = facts.is_new or (
        moment.previous_look is not None
        and session.started is not None
        and session.started >= (moment.previous_look - ROUNDING_SECONDS) * 1000
    )
    return replace(session, last_connect=moment.now) if session.clients and is_fresh else session


def _continue(session: Session, facts: Facts, before: Known, moment: Moment) -> Session:
    """Return a session that was known, with what holds for its life, and with the moment if clients
    have come or left."""
    known = _by_the_clock_now(before, facts, moment)
    came, left = _traffic(before, facts)
    is_settled = known.started is not None and moment.now > known.started + STARTING_SECONDS * 1000
    keep_command = (
        not facts.stated and known.app_pid is not None and (is_settled or facts.app_pid is None)
    )
    memory, cpu = _used(known, facts)
    return replace(
        session,
        # A name that was said once holds until another one is: name services may be away.
        login=session.login if facts.has_name else known.login,
        clients=session.clients if facts.has_clients else known.clients,
        client_addresses=(
            session.client_addresses if facts.has_clients else known.client_addresses
        ),
        idle_since=_idle_since(known, facts),
        cpu=cpu,
        memory=memory,
        started=known.started,
        last_connect=moment.now if came else known.last_connect,
        last_disconnect=moment.now if left else known.last_disconnect,
        command=known.command if keep_command else facts.command,
        app_pid=known.app_pid if keep_command else facts.app_pid,
    )


def _used(known: Session, facts: Facts) -> tuple[int | None, int | None]:
    """Return memory and processor time of a session that was known: as they were until they are
    measured, the second of which takes two times, and differ."""
    memory, cpu = facts.memory, facts.cpu
    if not facts.is_measured:
        return known.memory, known.cpu
    if facts.stated or memory is None:
        return memory, cpu
    memory = round(steady("memory", known.memory, memory))
    return memory, known.cpu if cpu is None else round(steady("cpu", known.cpu, cpu))


def _idle_since(known: Session, facts: Facts) -> int | None:
    """Return since when a session that was known is idle: another moment only if it is one."""
    was, now = known.idle_since, facts.idle_since
    if not facts.has_idle or (
        was is not None and now is not None and abs(now - was) <= JITTER_SECONDS * 1000
    ):
        return was
    return now


def _by_the_clock_now(before: Known, facts: Facts, moment: Moment) -> Session:
    """Return a session that was known, with its moments by the clock as it is set now."""
    known, shift = before.session, moment.set_by
    started = facts.started if known.started is None else known.started
    if facts.started is not None and started is not None and _is_set(facts.started - started):
        if before.facts is None:
            # A former agent has written all of them by the clock that it had
            shift = facts.started - started
        started = facts.started
    left, _ = _set_by(shift, known.last_disconnect, moment.now)
    came, is_ahead = _set_by(shift, known.last_connect, moment.now)
    if is_ahead and left is not None and facts.clients == 0:
        came = left  # the last one came before it left
    idle, _ = _set_by(shift, known.idle_since, moment.now)
    return replace(known, started=started, last_connect=came, last_disconnect=left, idle_since=idle)


def _set_by(shift: int, known: int | None, now: int) -> tuple[int | None, bool]:
    """Return the moment ``known`` by the clock that was set by ``shift``, and whether it would be
    ahead of that clock: then it is now."""
    if known is None:
        return None, False
    moment = max(0, known + shift)
    return (now, True) if moment > now and _is_set(moment - now) else (moment, False)


def _is_set(by: int) -> bool:
    """Whether a difference of so many milliseconds shows that the clock was set."""
    return abs(by) > STEP_SECONDS * 1000


def _traffic(before: Known, facts: Facts) -> tuple[bool, bool]:
    """Return whether a client has come and whether one has left."""
    known = before.facts.connections if before.facts is not None else None
    if known is not None and facts.connections is not None:
        return bool(facts.connections - known), bool(known - facts.connections)
    if before.session.clients is None or facts.clients is None:
        return False, False  # of an unknown number nobody knows how it came about
    return facts.clients > before.session.clients, facts.clients < before.session.clients
