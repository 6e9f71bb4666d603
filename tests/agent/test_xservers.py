"""What is the same for every kind of X server, with sessions that do what a test says. Real ones
are in tests/system."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Set
from types import SimpleNamespace
from typing import Any

import pytest

from fastx_list.agent.door import Unanswered
from fastx_list.agent.facts import Facts
from fastx_list.agent.limits import LOGIN_SECONDS, OTHERS_SECONDS, Limits
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import TICKS, YOUNG_SECONDS, Process, Stat
from fastx_list.agent.sources.tigervnc import VncSession
from fastx_list.agent.xserver import XServers
from tests.agent.scripted import facts
from tests.support import started

HOSTILE, OTHER = 5, 9  # users


class Fake:
    """A session that does what ``Kind.does`` says when it is asked."""

    is_x_server, owns_display = False, False

    def __init__(self, kind: Kind, process: Process) -> None:
        self._kind, self.process = kind, process
        self.subject = f"session of {process.uid}"
        self.screen = SimpleNamespace(is_new=False)
        self.said: Facts | None = None
        self.held: frozenset[int] = frozenset()

    def follow(self, machine: Machine) -> None:
        pass

    def close(self, machine: Machine) -> None:
        pass

    def facts(self, machine: Machine) -> None:
        self._kind.asked.append(self.process.pid)
        if self.process.uid == HOSTILE:
            self._kind.does()
        self.said = facts(str(self.process.pid), clients=self._kind.clients)


class Kind(XServers):
    programs = ("Xvnc",)

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.clients = 0
        self.does: Any = lambda: None

    def recognises(self, process: Process, machine: Machine) -> bool:
        return True

    def session(self, process: Process, machine: Machine) -> Any:
        return Fake(self, process)


@pytest.fixture
def kind() -> Kind:
    return Kind()


def look(machine: Machine, *users: int, made_for: Set[int] = frozenset()) -> None:
    """Let ``machine`` see a process of each of ``users``, the oldest first, by pids from 1 on."""
    machine.limits.begin(is_first=False, made_for=made_for)
    machine.claimed, machine.unanswered = set(), set()
    machine.listing.take(
        {pid: Process(pid, uid, Stat("Xvnc", "S", 0, pid)) for pid, uid in enumerate(users, 1)}
    )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(Limits(sessions=3), Kind.programs)
    monkeypatch.setattr(machine, "still_runs", lambda process: True)
    monkeypatch.setattr(machine, "is_copy", lambda process: False)
    return machine


def clients(kind: Kind, machine: Machine) -> dict[str, int | None]:
    return {each.identity: each.clients for each in kind.scan(machine)}


def test_a_session_that_fails_stays_as_it_was_and_costs_no_other_one_anything(
    kind: Kind, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    look(machine, HOSTILE, OTHER)
    assert clients(kind, machine) == {"1": 0, "2": 0}
    kind.clients, kind.does = 1, lambda: 1 / 0
    for _ in range(2):
        look(machine, HOSTILE, OTHER)
        assert clients(kind, machine) == {"1": 0, "2": 1}
    assert caplog.text.count("Traceback") == 1
    kind.does = lambda: None
    look(machine, HOSTILE, OTHER)
    assert clients(kind, machine) == {"1": 1, "2": 1}


def test_sessions_of_who_has_no_time_left_have_their_turn_in_the_next_look(
    kind: Kind, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def take_long() -> None:
        nonlocal now
        now += LOGIN_SECONDS + 1

    for clock in ("thread_time", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: now)
    kind.does = take_long
    look(machine, HOSTILE, HOSTILE, OTHER)
    assert clients(kind, machine) == {"1": 0, "3": 0}
    # What an earlier agent knew of it is not to end.
    assert machine.unanswered == {machine.processes[2].identity}
    kind.clients = 1
    look(machine, HOSTILE, HOSTILE, OTHER)
    assert clients(kind, machine) == {"1": 0, "2": 1, "3": 1} and not machine.unanswered
    kind.clients = 2
    look(machine, HOSTILE, HOSTILE, OTHER)
    assert clients(kind, machine) == {"1": 2, "2": 1, "3": 2}


def test_a_look_for_one_login_leaves_out_another_whose_sessions_take_long(
    kind: Kind, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def take_some_time() -> None:
        nonlocal now
        now += OTHERS_SECONDS

    for clock in ("thread_time", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: now)
    kind.does = take_some_time
    look(machine, HOSTILE, HOSTILE, OTHER)
    assert clients(kind, machine) == {"1": 0, "2": 0, "3": 0}
    kind.clients = 1
    look(machine, HOSTILE, HOSTILE, OTHER, HOSTILE, OTHER, made_for={OTHER})
    assert clients(kind, machine) == {"1": 0, "2": 0, "3": 1, "5": 1}
    # What an earlier agent knew of it is not to end, and nobody else is to take it.
    new = machine.processes[4].identity
    assert new in machine.unanswered and new in machine.claimed
    # Those who take little are looked at in every look.
    kind.clients = 2
    look(machine, made_for={HOSTILE})
    assert set(clients(kind, machine).values()) == {2}
    kind.clients = 3
    look(machine)
    assert set(clients(kind, machine).values()) == {3}


def test_who_was_left_out_of_a_look_ends_in_it_all_the_same(
    kind: Kind, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(machine, HOSTILE, OTHER)
    assert clients(kind, machine) == {"1": 0, "2": 0}
    look(machine, HOSTILE, OTHER)
    machine.limits.left_out = {HOSTILE}
    monkeypatch.setattr(machine, "still_runs", lambda process: process.uid != HOSTILE)
    assert clients(kind, machine) == {"2": 0}


def test_the_oldest_sessions_of_a_login_have_its_room_and_others_are_not_looked_at(
    kind: Kind, machine: Machine
) -> None:
    look(machine, *[HOSTILE] * 20, OTHER)
    assert clients(kind, machine).keys() == {"1", "2", "3", "21"}
    assert set(kind.asked) == {1, 2, 3, 21} and machine.limits.over == {HOSTILE}
    look(machine, *[HOSTILE] * 20, OTHER)
    machine.listing.take({2: None, 3: None})
    clients(kind, machine)
    look(machine, *[HOSTILE] * 20, OTHER)
    machine.listing.take({2: None, 3: None})
    assert clients(kind, machine).keys() == {"1", "4", "5", "21"}


def test_what_was_another_program_while_it_was_young_served_nothing_then(
    kind: Kind, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "clock_gettime", lambda clock: now)
    look(machine)
    shell = Process(1, OTHER, Stat("sh", "S", 0, round((now - YOUNG_SECONDS + 1) * TICKS)))
    machine.listing.take({1: shell, 2: Process(2, OTHER, Stat("sh", "S", 0, 2))})
    assert clients(kind, machine) == {}
    now += YOUNG_SECONDS  # a look may take so long on a busy machine
    look(machine)
    for pid, start in ((1, shell.stat.start), (2, 2)):
        machine.listing.take({pid: Process(pid, OTHER, Stat("Xvnc", "S", 0, start))})
    assert clients(kind, machine) == {"1": 0, "2": 0}
    # When the second one became a server nobody knows
    assert [each.is_new for each in kind._sessions.values()] == [False, True]


def test_a_session_stays_its_kinds_while_another_kind_cannot_ask_whose_it_is(
    kind: Kind, machine: Machine
) -> None:
    class Before(Kind):
        def recognises(self, process: Process, machine: Machine) -> bool:
            raise Unanswered("whose it is")

    look(machine, OTHER)
    assert clients(kind, machine) == {"1": 0}
    machine.kinds_before, kind.clients = machine.kinds, 1
    look(machine, OTHER)
    assert clients(Before(), machine) == {} and clients(kind, machine) == {"1": 1}


def test_who_certainly_runs_is_not_asked_for_and_of_any_other_it_is_asked_whether_they_do(
    kind: Kind, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(machine, OTHER, OTHER, OTHER)
    assert clients(kind, machine).keys() == {"1", "2", "3"}
    asked = []

    def still_runs(process: Process) -> bool:
        asked.append(process.pid)
        return process.pid == 2

    monkeypatch.setattr(machine, "still_runs", still_runs)
    look(machine, OTHER, OTHER, OTHER)
    machine.running = {machine.processes[1].identity}
    assert clients(kind, machine).keys() == {"1", "2"} and asked == [2, 3]


def test_of_a_server_that_has_just_ended_nobody_can_tell_any_more_who_was_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine()
    with started(subprocess.Popen(["sleep", "60"])) as server:
        machine.look()
        session = VncSession(machine.processes[server.pid], 7, {}, machine)
        # As where it says what nobody may know, and as where its descriptors are gone
        monkeypatch.setattr(session, "_own_connections", lambda machine: None)
        assert session.facts(machine).has_clients
        server.kill()
    ended = session.facts(machine)
    assert ended.clients is None and not ended.has_clients  # so what was known stays
