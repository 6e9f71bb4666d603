"""Sessions that are X servers: what is the same for every kind of them. A kind is a file in
``sources/``.
"""

from __future__ import annotations

import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from operator import methodcaller

from fastx_list.agent.arguments import parse_args as parse_args
from fastx_list.agent.display import Screen, await_first_answers, path_of
from fastx_list.agent.door import Unanswered
from fastx_list.agent.facts import Facts
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process, young_since
from fastx_list.agent.served import ServedSession
from fastx_list.agent.sockets import Sockets, all_of
from fastx_list.agent.subordinates import Payer
from fastx_list.model.session import GEOMETRY


class XSession(ServedSession):
    """One X server that is a session."""

    display: int
    serves_viewers = True  # as opposed to one whose screen nobody but others shows to viewers

    def __init__(
        self,
        process: Process,
        display: int,
        options: Mapping[str, str],
        machine: Machine,
        *,
        geometry: str | None = None,
        authority: str | None = None,
        lingers: bool,
    ) -> None:
        """``geometry`` and ``authority`` stand in for the options of these names.

        ``lingers``: the X server goes on when its last X client has left it.
        """
        super().__init__(process, display, machine)
        # Of its command line, by lower-case name.
        self.options = options
        size = options.get("geometry", geometry or "")
        authority = authority or path_of(process, options.get("auth"))
        self.screen = Screen(
            process,
            display,
            authority,
            size if re.fullmatch(GEOMETRY, size) else None,
            lingers,
            self.is_x_server,
        )
        # The connections that were checked last, and those of them that are really the process's.
        self._checked: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())

    def connections(self, sockets: Sockets) -> frozenset[int] | None:
        """Return the inodes of the connections of clients; ``None`` if they cannot be known. For
        each kind to say."""
        raise NotImplementedError

    def applications(self, machine: Machine) -> Iterable[Process]:
        """Return the processes that the session may have been started for, the likeliest first: the
        first ones on its display."""
        for process in machine.on_display(self.process, self.display):
            # Its children are the X server's own helpers, such as xkbcomp.
            if process.stat.start >= self.process.stat.start and self.process.pid not in (
                process.pid,
                process.stat.parent,
            ):
                yield process

    def all_connections(self, machine: Machine) -> frozenset[int] | None:
        """Return also those of viewers of programs that show its display."""
        mirrors = machine.mirrors.of(self.process, self.display, machine)
        if not mirrors:
            return self._own_connections(machine)
        viewers = all_of(*(mirror.connections(machine) for mirror in mirrors))
        if not self.serves_viewers:
            return viewers
        return all_of(self._own_connections(machine), viewers)

    def _own_connections(self, machine: Machine) -> frozenset[int] | None:
        connections = self.connections(machine.sockets(self.process))
        if connections is None:
            return None
        if connections != self._checked[0]:
            # Command lines and the paths of sockets are their users' to write: what counts is what
            # a process really has open.
            self._checked = (connections, machine.own_sockets(self.process, connections))
        return self._checked[1]


class XServers:
    """A source that finds its sessions by the programs that serve them. Of several sources the
    first to claim a process has it."""

    # The names of the programs that serve its sessions, and maybe others'.
    programs: tuple[str, ...] = ()
    # Those that run only where this kind of session is used, if they are others than `programs`.
    own_programs: tuple[str, ...] = ()

    def __init__(self, listed: bool = True) -> None:
        """A source that is not ``listed`` still claims its processes, so that no other kind takes
        them for its own."""
        self.listed = listed
        # Those that run, by the identities of their processes.
        self._sessions: dict[str, ServedSession] = {}
        # The identities of processes that are not of this kind, and never will be.
        self._others: set[str] = set()
        # Those of processes that are and serve nothing yet, and of those of which that cannot be
        # told, in this look and in the last one: None if that was none.
        self._has_looked = False
        self._idle: set[str] = set()
        self._idle_before: set[str] | None = None
        self._unsure: set[str] = set()
        self._unsure_before: set[str] = set()
        # Since when those had started that were young, likewise.
        self._young_since = self._young_since_before = 0.0
        # Those of processes for whose sessions there is no room, in this look and in the last one.
        self._roomless: set[str] = set()
        self._roomless_before: set[str] = set()
        # How many sessions of each user this look has found that are new.
        self._new: Counter[Payer] = Counter()
        # The identities of sessions that had no turn in the last look, or failed.
        self._late: Set[str] = set()

    def candidates(self, machine: Machine) -> Iterable[Process]:
        """Return the processes that may serve a session of this kind."""
        return machine.named(self.programs)

    def recognises(self, process: Process, machine: Machine) -> bool:
        """Return whether ``process``, one of :meth:`candidates`, belongs to a session of this kind.
        For each to say."""
        raise NotImplementedError

    def wants(self, process: Process, machine: Machine) -> bool:
        """Return whether the session of ``process``, which was recognised, is to be listed."""
        return self.listed

    def session(self, process: Process, machine: Machine) -> ServedSession | None:
        """Return the session that ``process``, which was recognised, serves; ``None`` if it serves
        none (yet). For each to say."""
        raise NotImplementedError

    def close(self, machine: Machine) -> None:
        """Let go of all X servers."""
        for session in self._sessions.values():
            session.close(machine)
        self._sessions = {}

    def _make(self, process: Process, machine: Machine) -> ServedSession | None:
        try:
            session = self.session(process, machine)
            if not isinstance(session, XSession) or not session.is_x_server:
                return session
            # Its command line may name any display; who has the display's socket is its X server
            held = machine.sockets_of_display(process, session.display)
            session.held = held or frozenset()
            return None if held == frozenset() else session
        except Unanswered:
            raise
        except Exception:
            # Much of what a session says is its user's to write: one that cannot be understood must
            # not hide the others.
            self._explain_failure(process, machine)
            return None

    def _explain_failure(self, process: Process, machine: Machine) -> None:
        problem = (
            "skipped, since it cannot be understood:"
            f" {traceback.format_exc(limit=-1).strip().splitlines()[-1][:200]}"
        )
        owner = machine.logins.of(process.uid) or process.uid
        machine.explain(f"process {process.pid} of {owner}", problem)

    def _take(self, process: Process, others: set[str], machine: Machine) -> ServedSession | None:
        """Claim ``process``, which serves no session that is known, if it is of this kind, and
        return the session that it serves; add it to ``others`` if it never will be."""
        identity = process.identity
        if machine.is_copy(process):
            machine.claimed.add(identity)
            return None
        if not self.recognises(process, machine):
            if not process.is_young:
                others.add(identity)
            return None
        if self.listed and not self._has_room(process, machine):
            self._leave_out(process, machine)
            return None
        if not machine.still_runs(process):
            return None
        machine.claimed.add(identity)
        session = self._make(process, machine) if self.wants(process, machine) else None
        if session is None:
            self._idle.add(identity)
        else:
            session.is_new = self._served_nothing(process)
            self._new[process.payer] += 1
        return session

    def _has_room(self, process: Process, machine: Machine) -> bool:
        return machine.limits.has_room(process.payer, self._new[process.payer])

    def _is_still_roomless(self, process: Process, machine: Machine) -> bool:
        if process.identity not in self._roomless_before:
            return False
        return process.payer in machine.limits.left_out or not self._has_room(process, machine)

    def _leave_out(self, process: Process, machine: Machine) -> None:
        """Claim ``process``, for whose session there is no room."""
        machine.claimed.add(process.identity)
        self._unsure.add(process.identity)
        self._roomless.add(process.identity)

    def _pass_over(self, process: Process, machine: Machine) -> None:
        """Leave to a later look what ``process`` serves: nobody else is to take it meanwhile."""
        identity = process.identity
        machine.claimed.add(identity)
        machine.unanswered.add(identity)
        for now, before in (
            (self._idle, self._idle_before or ()),
            (self._unsure, self._unsure_before),
        ):
            if identity in before:
                now.add(identity)

    def _served_nothing(self, process: Process) -> bool:
        """Return whether the last look has seen that ``process`` served nothing yet, maybe since it
        was another program: those that were young then were looked at."""
        if self._idle_before is None or process.identity in self._unsure_before:
            return False
        was_young = process.stat.start > self._young_since_before
        return was_young or process.identity in self._idle_before

    def scan(self, machine: Machine) -> Iterable[Facts]:
        sessions = self._find(machine)
        for identity in self._sessions.keys() - sessions.keys():
            self._sessions[identity].close(machine)
        self._sessions = sessions
        machine.limits.count(self, Counter(each.process.payer for each in sessions.values()))
        late, left_out = self._late, machine.limits.left_out
        waiting = [each for each in sessions.values() if each.process.payer not in left_out]
        if late:  # and therefore first now
            waiting.sort(key=lambda each: each.process.identity not in late)
        asked = self._ask(waiting, methodcaller("follow", machine), machine)
        await_first_answers((each.screen for each in asked if each.screen), machine.limits)
        told = self._ask(asked, methodcaller("facts", machine), machine)
        self._late = frozenset()
        if len(told) < len(sessions):
            untold = sessions.keys() - {each.process.identity for each in told}
            self._late = {
                name
                for name in untold
                if name in late or sessions[name].process.payer not in left_out
            }
            for name in self._late:
                self._note_late(sessions[name].process, machine)
            machine.unanswered |= {name for name in untold if sessions[name].said is None}
        return [each.said for each in sessions.values() if each.said is not None]

    def _note_late(self, process: Process, machine: Machine) -> None:
        limits = machine.limits
        if process.payer not in limits.left_out and limits.has_spent_all(process.payer):
            machine.late.add(process.uid)

    def _find(self, machine: Machine) -> dict[str, ServedSession]:
        """Return the sessions that run now, by the identities of their processes."""
        sessions: dict[str, ServedSession] = {}
        others: set[str] = set()
        self._idle_before, self._idle = self._idle if self._has_looked else None, set()
        self._has_looked = True
        self._unsure_before, self._unsure = self._unsure, set()
        self._roomless_before, self._roomless = self._roomless, set()
        self._young_since_before, self._young_since = self._young_since, young_since()
        self._new = Counter()
        left_out = machine.limits.left_out
        for process in self.candidates(machine):
            identity = process.identity
            # What was one kind's stays so, whoever could not be asked whether it is theirs
            if identity in machine.claimed or machine.kinds_before.get(identity, self) is not self:
                continue
            if identity in self._others:
                others.add(identity)
                continue
            session = self._sessions.get(identity)
            try:
                if session is None and self._is_still_roomless(process, machine):
                    self._leave_out(process, machine)
                elif session is None and process.payer in left_out:
                    self._pass_over(process, machine)
                elif session is None:
                    with machine.limits.spending(process.payer):
                        session = self._take(process, others, machine)
                # Until its parent takes note of its end it stands among the processes, as it was
                elif identity in machine.running or machine.still_runs(process):
                    machine.claimed.add(identity)
                else:
                    session = None
            except Unanswered:
                # Nobody else is to take it for one of theirs meanwhile.
                machine.claimed.add(identity)
                machine.unanswered.add(identity)
                self._unsure.add(identity)
                self._note_late(process, machine)
            except Exception:
                self._unsure.add(identity)
                self._explain_failure(process, machine)
            if session is not None:
                sessions[identity] = session
                machine.kinds[identity] = self
                machine.held |= session.held
                if session.owns_display and session.display is not None:
                    machine.claim_display(process, session.display)
        self._others = others
        return sessions

    def _ask(
        self,
        sessions: Iterable[ServedSession],
        call: Callable[[ServedSession], object],
        machine: Machine,
    ) -> list[ServedSession]:
        """Make a ``call`` to those of ``sessions`` whose users have time left, and return those
        with which it succeeded. What fails in one costs no other anything."""
        limits, done = machine.limits, []
        for session in sessions:
            if session.process.payer != limits.spends_on:
                limits.spend_on(session.process.payer)
            if not limits.has_time():
                continue
            try:
                call(session)
                done.append(session)
            except Unanswered:
                pass
            except Exception:
                problem = f"stays as it was: {traceback.format_exc(limit=-4)}"
                machine.explain(session.subject, problem)
        limits.spend_on(None)
        return done
