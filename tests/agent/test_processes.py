from __future__ import annotations

import errno
import time
from collections.abc import Callable

import pytest

from fastx_list.agent import pids as pids_module
from fastx_list.agent import processes as processes_module
from fastx_list.agent.door import Unanswered
from fastx_list.agent.pids import Count
from fastx_list.agent.process import NOBODY, TICKS, Process, Stat
from fastx_list.agent.processes import TURNS, Processes


class Proc:
    """What proc(5) shows: the names, parents and starts of processes, all of them user 7's."""

    def __init__(self, **names: str) -> None:
        # In the first ten seconds of this machine: none of them is young, however new it is
        self.stats = {int(pid[1:]): Stat(name, "S", 1, int(pid[1:])) for pid, name in names.items()}
        self.listed = list(self.stats)
        self.asked: list[int] = []

    def read_stat(self, pid: int) -> Stat | None:
        self.asked.append(pid)
        stat = self.stats.get(pid)
        return None if stat is None or stat.has_ended else stat


@pytest.fixture
def proc(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Proc]:
    def make(**names: str) -> Proc:
        made = Proc(**names)
        monkeypatch.setattr(
            "os.listdir", lambda path: [*map(str, made.listed), "self", "net", "uptime"]
        )
        monkeypatch.setattr(pids_module, "count", lambda: None)
        for name in ("_is_there", "_is_process"):  # this machine may have these pids as well
            monkeypatch.setattr(pids_module, name, lambda pid: pid in made.stats)
        monkeypatch.setattr(processes_module, "read_stat", made.read_stat)
        monkeypatch.setattr(processes_module, "read_uid", lambda pid: 7)
        monkeypatch.setattr(processes_module, "TURN_SECONDS", 0.0)
        return made

    return make


def pids(processes: list[Process]) -> list[int]:
    return [process.pid for process in processes]


def test_who_has_which_name_user_and_parent_is_as_of_the_last_look(
    proc: Callable[..., Proc],
) -> None:
    made, processes = proc(p2="sh", p3="Xvnc", p4="Xvnc"), Processes()
    processes.look()
    assert pids(processes.by_name.of("Xvnc")) == [3, 4] and pids(processes.by_user.of(7)) == [
        *(2, 3, 4)
    ]
    same = processes.by_name.of("Xvnc")
    made.stats[2] = Stat("sleep", "S", 3, 2)
    del made.stats[4]
    made.listed.remove(4)
    for _ in range(TURNS):
        processes.look()
    assert pids(processes.by_name.of("Xvnc")) == [3] and pids(processes.by_parent.of(3)) == [2]
    assert processes.by_name.of("sh") == [] and pids(same) == [3, 4]
    assert processes.by_name.of("Xvnc") is processes.by_name.of("Xvnc")


def test_what_belongs_to_several_users_has_no_name_and_a_title_has_its_first_word(
    proc: Callable[..., Proc], monkeypatch: pytest.MonkeyPatch
) -> None:
    proc(p2="/usr/bin/xpra start", p3="su")
    monkeypatch.setattr(processes_module, "read_uid", lambda pid: NOBODY if pid == 3 else 7)
    processes = Processes()
    processes.look()
    assert processes.by_name.keys() == {"xpra"} and processes.by_pid.keys() == {2, 3}


def test_of_who_has_begun_to_wait_at_a_socket_old_processes_are_looked_at_at_once(
    proc: Callable[..., Proc],
) -> None:
    made, processes = proc(**{f"p{pid}": "sh" for pid in range(2, 60)}), Processes()
    processes.look()
    for pid in made.stats:
        made.stats[pid] = Stat("Xvnc", "S", 1, pid)
    processes.look({8})
    assert len(processes.by_name.of("Xvnc")) < 10
    processes.look({7})
    assert len(processes.by_name.of("Xvnc")) == 58


def test_what_is_young_is_not_looked_at_again_for_others(proc: Callable[..., Proc]) -> None:
    made, processes = proc(p19="sh"), Processes()
    now = round(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)
    made.stats[19] = Stat("sh", "S", 1, now)
    processes.look()
    made.stats[19] = Stat("Xvnc", "S", 1, now)
    for _ in range(TURNS // 2):  # before it is its turn
        processes.look(left_out={7})
    assert not processes.by_name.of("Xvnc")
    processes.look()
    assert pids(processes.by_name.of("Xvnc")) == [19]


def test_a_look_asks_only_for_what_is_new_or_young_and_whose_turn_it_is(
    proc: Callable[..., Proc],
) -> None:
    made, processes = proc(**{f"p{pid}": "worker" for pid in range(1, 1001)}), Processes()
    processes.look()
    now = round(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)
    made.stats[2000] = Stat("sh", "S", 1, now)
    made.listed.append(2000)
    for _ in range(3):
        made.asked.clear()
        processes.look()
        assert len(made.asked) <= 1000 / TURNS + 1 and 2000 in made.asked


def test_a_process_that_was_counted_before_it_was_listed_is_found_at_the_next_look(
    proc: Callable[..., Proc], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, processes = proc(p7="worker"), Processes()
    monkeypatch.setattr(processes_module, "TURN_SECONDS", 3600.0)
    monkeypatch.setattr(pids_module, "count", lambda: Count(2, 8))
    processes.look()
    made.stats[8] = Stat("worker", "S", 1, 8)
    made.listed.append(8)
    processes.look()
    assert 8 in processes.by_pid


def test_what_has_begun_since_the_look_can_be_asked_for_and_is_found_by_the_next_one(
    proc: Callable[..., Proc], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, processes = proc(p1="init"), Processes()
    processes.look()
    made.stats[2] = Stat("xrdp", "S", 1, 2)
    made.listed += [2, 3]  # the second has ended meanwhile
    assert pids(processes.newer()) == [2] and list(processes.by_pid) == [1]
    processes.look()
    assert processes.newer() == [] and list(processes.by_pid) == [1, 2]

    def full(path: str) -> list[str]:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr("os.listdir", full)
    with pytest.raises(Unanswered):
        processes.newer()


def test_what_only_changes_what_it_does_stays_the_same_process(proc: Callable[..., Proc]) -> None:
    made, processes = proc(p2="sh"), Processes()
    processes.look()
    before = processes.by_pid[2]
    made.stats[2] = made.stats[2]._replace(state="R")
    for _ in range(TURNS):
        processes.look()
    assert processes.by_pid[2] is before


def test_the_pid_of_one_that_has_ended_may_soon_be_anothers(proc: Callable[..., Proc]) -> None:
    made, processes = proc(p2="sh"), Processes()
    made.stats[2] = made.stats[2]._replace(state="Z")
    processes.look()
    assert not processes.by_pid
    made.stats[2] = Stat("Xvnc", "S", 1, 900)
    for _ in range(TURNS):
        processes.look()
    assert pids(processes.by_name.of("Xvnc")) == [2]
