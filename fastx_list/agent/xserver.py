"""Sessions that are X servers: what is the same for every kind of them. A kind is a file in
``sources/``.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from functools import partial
from operator import methodcaller

from fastx_list.agent.arguments import parse_args as parse_args
from fastx_list.agent.display import Application, Screen, await_first_answers, path_of
from fastx_list.agent.door import Unanswered
from fastx_list.agent.facts import Facts
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.sockets import Sockets, all_of
from fastx_list.agent.start import overrides
from fastx_list.agent.subordinates import Payer
from fastx_list.model.session import GEOMETRY, complete


class XSession:
    """One X server that is a session."""

    window_mode: str | None = "desktop"  # or "rootless"
    owns_display = True  # as opposed to one that shows another session's display
    serves_viewers = True  # as opposed to one whose screen nobody but others shows to viewers
    is_x_server = True  # as opposed to a program that has one beside it

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
        # Serves the session: as a rule the X server.
        self.process = process
        self.display = display
        # Of its command line, by lower-case name.
        self.options = options
        login = machine.logins.of_new(process.uid) or process.uid
        # What explanations call it.
        self.subject = f"session :{display} of {login} (pid {process.pid})"
        # What its launcher said in the environment.
        self._start, self._params = overrides(process, machine, self.subject)
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
        self._application = Application(process)
        # The connections that were checked last, and those of them that are really the process's.
        self._checked: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
        # What was said last, and what of it is the session's own.
        self.said: Facts | None = None
        self._told: Mapping[str, object] = {}

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

    def follow(self, machine: Machine) -> None:
        """Take what the X server has told of its screen."""
        self.screen.follow(machine, self.subject)

    def close(self, machine: Machine) -> None:
        """Let go of an X server that has ended."""
        self.screen.close()
        machine.settle(self.subject)

    def facts(self, machine: Machine) -> Facts:
        """Return what is to be said of it now: the same object as before if nothing has changed."""
        command, app_pid = self._application.look(
            lambda: (each for each in self.applications(machine) if each.uid == self.process.uid)
        )
        connections = self._all_connections(machine)
        login = machine.logins.of(self.process.uid)
        tell = partial(
            Facts,
            identity=self.process.identity,
            login=login or str(self.process.uid),
            has_name=login is not None,
            server_pid=self.process.pid,
            geometry=self.screen.geometry,
            window_mode=self.window_mode,
            started=self.process.started,
            command=command,
            app_pid=app_pid,
            clients=None if connections is None else len(connections),
            connections=connections,
            has_clients=connections is not None or self._is_unknowable(machine),
            params=self._params,
            display=self.display,
        )
        if self.said is None or tell.keywords != self._told:
            self._told = tell.keywords
            self.said = complete(tell(), self._start)
            self._explain_unknown(self.said, machine)
        return self.said

    def _is_unknowable(self, machine: Machine) -> bool:
        """Whether who is connected will not be known another time either."""
        return not machine.sockets(self.process).unanswered and machine.still_runs(self.process)

    def _explain_unknown(self, facts: Facts, machine: Machine) -> None:
        unknown = [
            name for name in ("command", "geometry", "clients") if getattr(facts, name) is None
        ]
        if unknown:
            why = (
                "nothing tells"
                if self.process.may_look_inside
                else "only its user and root may look into its process"
            )
            machine.explain(
                f"{self.subject}, {' and '.join(unknown)}", f"unknown, since {why}", logging.DEBUG
            )

    def _all_connections(self, machine: Machine) -> frozenset[int] | None:
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
        self._sessions: dict[str, XSession] = {}
        # The identities of processes that are not of this kind.
        self._others: set[str] = set()
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

    def session(self, process: Process, machine: Machine) -> XSession | None:
        """Return the session that ``process``, which was recognised, serves; ``None`` if it serves
        none (yet). For each to say."""
        raise NotImplementedError

    def close(self, machine: Machine) -> None:
        """Let go of all X servers."""
        for session in self._sessions.values():
            session.close(machine)
        self._sessions = {}

    def _make(self, process: Process, machine: Machine) -> XSession | None:
        try:
            session = self.session(process, machine)
            if session is None or not session.is_x_server:
                return session
            # Its command line may name any display; who has the display's socket is its X server
            return None if machine.holds_display(process, session.display) is False else session
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

    def _take(self, process: Process, others: set[str], machine: Machine) -> XSession | None:
        """Claim ``process`` if it is of this kind, and return the session that it serves; add it to
        ``others`` if it never will be."""
        identity = process.identity
        session = self._sessions.get(identity)
        if session is None:
            if machine.is_copy(process):
                machine.claimed.add(identity)
                return None
            if identity in self._others or not self.recognises(process, machine):
                if not process.is_young:
                    others.add(identity)
                return None
            new = self._new[process.payer]
            if self.listed and not machine.limits.has_room(process.payer, new):
                machine.claimed.add(identity)
                return None
        # Until its parent takes note of its end it stands among the processes, as it was.
        if not machine.still_runs(process):
            return None
        machine.claimed.add(identity)
        if session is not None or not self.wants(process, machine):
            return session
        session = self._make(process, machine)
        self._new[process.payer] += session is not None
        return session

    def scan(self, machine: Machine) -> Iterable[Facts]:
        sessions = self._find(machine)
        for identity in self._sessions.keys() - sessions.keys():
            self._sessions[identity].close(machine)
        self._sessions = sessions
        machine.limits.count(self, Counter(each.process.payer for each in sessions.values()))
        late = self._late  # and therefore first now
        waiting = sorted(sessions.values(), key=lambda each: each.process.identity not in late)
        asked = self._ask(waiting, methodcaller("follow", machine), machine)
        await_first_answers((each.screen for each in asked), machine.limits)
        told = self._ask(asked, methodcaller("facts", machine), machine)
        self._late = frozenset()
        if len(told) < len(sessions):
            self._late = sessions.keys() - {each.process.identity for each in told}
            machine.unanswered |= {name for name in self._late if sessions[name].said is None}
        return [each.said for each in sessions.values() if each.said is not None]

    def _find(self, machine: Machine) -> dict[str, XSession]:
        """Return the sessions that run now, by the identities of their processes."""
        sessions: dict[str, XSession] = {}
        others: set[str] = set()
        self._new = Counter()
        for process in self.candidates(machine):
            identity = process.identity
            # What was one kind's stays so, whoever could not be asked whether it is theirs
            if identity in machine.claimed or machine.kinds_before.get(identity, self) is not self:
                continue
            session = self._sessions.get(identity)
            try:
                if session is not None or identity in self._others:
                    session = self._take(process, others, machine)
                else:
                    with machine.limits.spending(process.payer):
                        session = self._take(process, others, machine)
            except Unanswered:
                # Nobody else is to take it for one of theirs meanwhile.
                machine.claimed.add(identity)
                machine.unanswered.add(identity)
            except Exception:
                self._explain_failure(process, machine)
            if session is not None:
                sessions[identity] = session
                machine.kinds[identity] = self
                if session.owns_display:
                    machine.claim_display(process, session.display)
        self._others = others
        return sessions

    def _ask(
        self, sessions: Iterable[XSession], call: Callable[[XSession], object], machine: Machine
    ) -> list[XSession]:
        """Make a ``call`` to those of ``sessions`` whose users have time left, and return those
        with which it succeeded. What fails in one costs no other anything."""
        limits, done = machine.limits, []
        limits.start_clock()
        for session in sessions:
            payer = session.process.payer
            if not limits.has_time(payer):
                continue
            limits.spends_on = payer
            try:
                call(session)
                done.append(session)
            except Unanswered:
                pass
            except Exception:
                problem = f"stays as it was: {traceback.format_exc(limit=-4)}"
                machine.explain(session.subject, problem)
            limits.spend(payer)
        limits.spends_on = None
        return done
