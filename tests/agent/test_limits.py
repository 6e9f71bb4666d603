"""What one login may cost."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from fastx_list.agent import pids as pids_module
from fastx_list.agent import processes as processes_module
from fastx_list.agent.door import Unanswered, door
from fastx_list.agent.limits import (
    LASTING,
    LOGIN_SECONDS,
    MAX_LINES,
    SAYING_SECONDS,
    SESSION_SECONDS,
    Connections,
    Limits,
)
from fastx_list.agent.look import OVER_SECONDS, Look, Seen
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import TICKS, Process, Stat
from fastx_list.agent.processes import MAX_YOUNG, TURNS
from fastx_list.agent.start import SessionJson
from fastx_list.config import Settings
from tests.agent.scripted import Scripted, facts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of what is spent: ``now`` counts its seconds."""
    clock = SimpleNamespace(now=0.0)
    for name in ("thread_time", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: clock.now)
    return clock


class Holder:
    """Holds a connection to ``display`` of ``uid``."""

    def __init__(self, connections: Connections, uid: int, display: int) -> None:
        self._connections, self.uid, self.display = connections, uid, display
        self.holds = connections.enter(uid, display, self)

    def close(self) -> None:
        self._connections.leave(self.uid, self.display, self)
        self.holds = False


def test_there_is_one_connection_to_each_display_and_a_bound_for_each_login() -> None:
    connections = Connections(most=100, per_login=2)
    first = Holder(connections, 5, 1)
    assert first.holds and not Holder(connections, 5, 1).holds
    second = Holder(connections, 5, 2)
    assert second.holds and not Holder(connections, 5, 3).holds
    assert Holder(connections, 6, 1).holds
    second.close()
    second.close()
    assert Holder(connections, 5, 3).holds
    assert not connections.is_full


def test_where_there_is_no_room_who_has_most_gives_way() -> None:
    connections = Connections(most=4, per_login=10)
    many = [Holder(connections, 5, display) for display in range(5)]
    assert [each.holds for each in many] == [True] * 4 + [False]
    one, two = Holder(connections, 6, 1), Holder(connections, 6, 2)
    assert connections.is_full and one.holds and two.holds
    assert [each.holds for each in many] == [True, True, False, False, False]
    assert not Holder(connections, 6, 3).holds and not Holder(connections, 5, 6).holds
    assert Holder(connections, 7, 1).holds


def process(pid: int, uid: int, start: int) -> Process:
    return Process(pid, uid, Stat("Xvnc", "S", 1, start))


def test_of_very_many_processes_the_oldest_are_looked_at() -> None:
    limits = Limits(sessions=2)
    processes = [process(pid, 5, start=1000 - pid) for pid in range(10)]
    processes += [process(pid, 6, start=2000) for pid in range(10, 14)]
    assert limits.choose(processes) == {0, 1, 2, 3, 4, 5}
    assert limits.over == {5}


def test_there_is_room_for_so_many_sessions_of_all_kinds_together() -> None:
    limits = Limits(sessions=3)
    limits.count("one kind", Counter({5: 1}))
    limits.count("another", Counter({5: 1, 6: 2}))
    assert limits.has_room(5, 0) and not limits.has_room(5, 1)
    limits.count("another", Counter())
    assert limits.has_room(5, 1) and limits.over == {5}


def test_who_has_used_up_their_time_has_their_turn_in_the_next_look(clock: SimpleNamespace) -> None:
    limits = Limits()
    limits.begin(is_first=True)
    for _ in range(2):  # the first look is not to miss anything
        with limits.spending(5):
            clock.now += 10
    limits.begin(is_first=False)
    with limits.spending(5):
        clock.now += LOGIN_SECONDS * 1.5
    with pytest.raises(Unanswered), limits.spending(5):
        raise AssertionError
    with limits.spending(6):
        clock.now += 0.001
    # Those who have many sessions have more.
    limits.count("a kind", Counter({5: round(LOGIN_SECONDS / SESSION_SECONDS)}))
    with limits.spending(5):
        clock.now += LOGIN_SECONDS
    with pytest.raises(Unanswered), limits.spending(5):
        raise AssertionError
    limits.begin(is_first=False)
    with limits.spending(5):
        pass


def test_who_takes_all_their_time_in_look_after_look_gets_less(clock: SimpleNamespace) -> None:
    limits = Limits()
    for _ in range(100):
        limits.begin(is_first=False)
        with suppress(Unanswered):
            while True:
                with limits.spending(5):
                    clock.now += LOGIN_SECONDS / 8
        with limits.spending(6):  # who takes little always has their turn
            clock.now += LOGIN_SECONDS * LASTING * 0.9
    theirs = clock.now - 100 * LOGIN_SECONDS * LASTING * 0.9
    assert theirs < 100 * LOGIN_SECONDS * (LASTING + 0.05)
    # Once is no reason to wait for long.
    limits = Limits()
    limits.begin(is_first=False)
    with limits.spending(5):
        clock.now += 1000 * LOGIN_SECONDS
    for _ in range(5):
        limits.begin(is_first=False)
    with limits.spending(5):
        pass


def test_who_has_yet_to_make_up_for_earlier_looks_has_no_part_in_one_for_others(
    clock: SimpleNamespace,
) -> None:
    limits = Limits()
    limits.begin(is_first=False)
    with limits.spending(5):
        clock.now += 3 * LOGIN_SECONDS
    limits.begin(is_first=False)  # in which there is no time for them
    for made_for in ({6}, {7}):
        limits.begin(is_first=False, made_for=made_for)
        assert limits.left_out == {5}
    limits.begin(is_first=False, made_for={5, 6})
    assert not limits.left_out


def test_who_is_asked_through_the_door_pays_for_the_work_of_that() -> None:
    def work() -> None:
        end = time.thread_time() + 2 * LOGIN_SECONDS
        while time.thread_time() < end:
            pass

    limits = Limits()
    limits.begin(is_first=False)
    with limits.spending(5):
        door.ask("somebody", "something", work, seconds=60)
    with pytest.raises(Unanswered), limits.spending(5):
        raise AssertionError


def test_there_are_so_many_lines_about_what_is_a_logins_and_no_more(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    for number in range(2 * MAX_LINES):
        with machine.limits.spending(5):
            machine.explain(f"session {number}", "is odd")
        machine.explain(f"file {number}", "is odd", owner=6)
    machine.explain("another one's", "is odd", owner=7)
    machine.explain("nobody's", "is odd")
    said = [record.getMessage().split()[0] for record in caplog.records]
    assert Counter(said) == {"session": MAX_LINES, "file": MAX_LINES, "another": 1, "nobody's:": 1}
    later = time.monotonic() + SAYING_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    machine.explain("file", "is odd", owner=6)
    assert len(caplog.records) == len(said) + 1


@pytest.fixture
def look_at(settings: Settings) -> Any:
    def make(*sources: Scripted) -> Look:
        named = {str(number): source for number, source in enumerate(sources)}
        return Look(named, SessionJson(settings.session_json), Limits(sessions=3))

    return make


def listed(seen: Seen) -> set[str]:
    return {each.identity for each in seen.facts}


def test_of_each_login_the_oldest_sessions_are_listed_and_stay(
    look_at: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Scripted(*(facts(f"{number}", started=number) for number in (9, 8, 7)))
    two = Scripted(facts("bob's", login="bob", started=99))
    look = look_at(one, two)
    assert listed(look.take()) == {"7", "8", "9", "bob's"}
    two.facts += [facts("new", started=10), facts("pretends to be old", started=1)]
    seen = look.take()
    assert listed(seen) == {"7", "8", "9", "bob's"}
    [problem] = seen.problems
    assert problem.startswith("sessions of alice: more than 3: the oldest are listed")
    one.facts = one.facts[1:]
    assert listed(look.take()) == {"7", "8", "pretends to be old", "bob's"}
    two.facts = two.facts[:2]
    assert listed(look.take()) == {"7", "8", "new", "bob's"} and not look.take().problems
    # It is said once, and once more when it has been over for long.
    two.facts += [facts("another", started=11)]
    look.take()
    assert caplog.text.count("sessions of alice: more than 3") == 1
    two.facts = two.facts[:2]
    look.take()
    later = time.monotonic() + OVER_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    look.take()
    two.facts += [facts("another", started=11)]
    look.take()
    assert caplog.text.count("sessions of alice: more than 3") == 2


def test_what_somebody_says_who_is_trusted_does_not_count(look_at: Any) -> None:
    vouched = [facts(f"v{number}", is_vouched=True) for number in range(10)]
    look = look_at(Scripted(*vouched, *(facts(f"{number}") for number in range(4))))
    seen = look.take()
    assert len(seen.facts) == 13 and len(seen.problems) == 1


def test_of_a_user_with_very_many_young_processes_not_all_are_looked_at_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    start = round(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)

    def read(pid: int) -> Stat:
        asked.append(pid)
        return Stat("worker", "S", 1, start)

    many, few = range(1, 5 * MAX_YOUNG), range(20_000, 20_010)
    monkeypatch.setattr("os.listdir", lambda path: [str(pid) for pid in (*many, *few)])
    monkeypatch.setattr(processes_module, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(pids_module, "count", lambda: None)
    monkeypatch.setattr(processes_module, "read_stat", read)
    monkeypatch.setattr(processes_module, "read_uid", lambda pid: 5 if pid in many else 6)
    machine = Machine()
    machine.look()
    assert len(machine.processes) == len(asked) == len(many) + len(few)
    seen: set[int] = set()
    for _ in range(TURNS):
        asked.clear()
        machine.look()
        assert len(asked) <= MAX_YOUNG + len(many) / TURNS + len(few) + 1
        assert {*few} <= {*asked}
        seen.update(asked)
    assert seen == {*many, *few}


def test_who_pays_goes_on_paying_after_what_was_anothers_in_between() -> None:
    limits = Limits()
    limits.begin(is_first=False)
    assert limits.has_time()  # of nobody
    with limits.spending(5):
        with limits.spending(6):
            pass
        until = time.thread_time() + 2 * LOGIN_SECONDS
        while time.thread_time() < until:
            pass
        assert not limits.has_time()
    assert limits.has_spent_all(5) and not limits.has_spent_all(6)
