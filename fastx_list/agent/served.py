"""One session that a process serves: what is the same whether that is an X server or not."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fastx_list.agent.display import Application, Screen
from fastx_list.agent.facts import Facts
from fastx_list.agent.far_ends import FarEnds
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.start import overrides
from fastx_list.model.session import complete


class ServedSession:
    """One session that a process serves."""

    window_mode: str | None = "desktop"  # or "rootless"
    owns_display = True  # as opposed to one that shows another session's display
    is_x_server = True  # as opposed to a program that has one beside it

    has_all_input = True  # its X server, as opposed to one that sees only what is for X clients

    def __init__(self, process: Process, display: int | None, machine: Machine) -> None:
        # Serves the session: as a rule the X server.
        self.process = process
        # That of its X server; None where it has none.
        self.display = display
        login = machine.logins.of_new(process.uid) or process.uid
        # What explanations call it.
        name = "session" if display is None else f"session :{display}"
        self.subject = f"{name} of {login} (pid {process.pid})"
        # What its launcher said in the environment.
        self._start, self._params = overrides(process, machine, self.subject)
        # Its X server's; None while there is none to be asked.
        self.screen: Screen | None = None
        self._application = Application(process)
        self._far_ends = FarEnds(process)
        # The inodes of those of its X server's sockets that the process has open.
        self.held: frozenset[int] = frozenset()
        # Whether the look before has seen that it served nothing yet.
        self.is_new = False
        # What was said last, and what of it may be another in the next look.
        self.said: Facts | None = None
        self._told: tuple[object, ...] = ()

    def applications(self, machine: Machine) -> Iterable[Process]:
        """Return the processes that the session may have been started for, the likeliest first. For
        each kind to say."""
        raise NotImplementedError

    def all_connections(self, machine: Machine) -> frozenset[int] | None:
        """Return the inodes of the connections of clients; ``None`` if they cannot be known. For
        each kind to say."""
        raise NotImplementedError

    def follow(self, machine: Machine) -> None:
        """Take what the X server has told of its screen."""
        if self.screen is not None:
            self.screen.follow(machine, self.subject)

    def close(self, machine: Machine) -> None:
        """Let go of one that has ended."""
        if self.screen is not None:
            self.screen.close()
        machine.settle(self.subject)

    def facts(self, machine: Machine) -> Facts:
        """Return what is to be said of it now: the same object as before if nothing has changed."""
        application = self._application.look(
            lambda: (each for each in self.applications(machine) if each.uid == self.process.uid)
        )
        connections = self.all_connections(machine)
        addresses = self._far_ends.of(connections, machine)
        login, started = machine.logins.of(self.process.uid), self.process.started
        geometry = None if self.screen is None else self.screen.geometry
        idle_since, has_idle = None, True
        if self.screen is not None and self.has_all_input:
            idle_since, has_idle = self.screen.idle_since, self.screen.knows_idle
        used = machine.meter.of(self.process, self.display)
        has_clients = connections is not None or self._is_unknowable(machine)
        # Whatever may be another than in the last look
        now = (
            *(*application, connections, addresses, has_clients, login, started, geometry),
            *(self.window_mode, self.display, used, idle_since, has_idle),
        )
        if self.said is None or now != self._told:
            self._told = now
            command, app_pid = application
            said = Facts(
                identity=self.process.identity,
                login=login or str(self.process.uid),
                has_name=login is not None,
                server_pid=self.process.pid,
                geometry=geometry,
                window_mode=self.window_mode,
                started=started,
                command=command,
                app_pid=app_pid,
                clients=None if connections is None else len(connections),
                connections=connections,
                client_addresses=addresses,
                has_clients=has_clients,
                idle_since=idle_since,
                has_idle=has_idle,
                cpu=None if used is None else used.cpu,
                memory=None if used is None else used.memory,
                is_measured=used is not None,
                params=self._params,
                display=self.display,
                is_new=self.is_new and self.said is None,
            )
            self.said = complete(said, self._start)
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
