from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fastx_list.agent import ends as module
from fastx_list.agent.ends import Ends
from fastx_list.agent.look import Seen
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process, Stat
from fastx_list.agent.signs import Change
from fastx_list.model.session import Start
from tests.agent.scripted import facts
from tests.support import started, wait_for


@contextmanager
def sleeping(count: int = 1) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = [started(subprocess.Popen(["sleep", "600"])) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def descriptors(number: int) -> Iterator[None]:
    """Let this process have so many open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, number), hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def seen(*pids: int) -> Seen:
    processes = {
        pid: Process(pid, 1000 + number, Stat("", "S", 1, 1)) for number, pid in enumerate(pids)
    }
    listed = [facts(str(pid), server_pid=pid) for pid in pids]
    return Seen(listed, None, processes, True, set(), set(), (), Start(), {}, 0.0)


def seen_now(*pids: int) -> Seen:
    machine = Machine()
    machine.look()
    return seen(*pids)._replace(processes=machine.processes)


def identities(seen: Seen, *pids: int) -> set[str]:
    assert seen.processes is not None
    return {seen.processes[pid].identity for pid in pids}


def ended(uid: int) -> Change:
    return Change("the end of a session's server", uid)


@pytest.mark.parametrize("is_reaped", [False, True], ids=["not reaped", "reaped"])
def test_the_end_of_a_process_is_told_once_with_whose_it_was(is_reaped: bool) -> None:
    ends = Ends(10)
    with sleeping(2) as (first, second):
        ends.follow(seen(first.pid, second.pid))
        assert ends.changes() == set()
        second.kill()
        if is_reaped:
            second.wait()
        wait_for("its end", lambda: ends.changes() == {ended(1001)})
        assert ends.changes() == set()
    ends.close()


def test_the_end_of_a_process_before_it_could_be_followed_is_told_as_well() -> None:
    ends = Ends(10)
    with sleeping() as [process]:
        pass
    now = seen(process.pid)
    assert ends.follow(now) == {ended(1000)} and ends.problem is None
    assert ends.follow(now) == ends.changes() == set()
    ends.close()


def test_who_serves_no_session_any_more_is_followed_no_longer() -> None:
    before, ends = len(os.listdir("/proc/self/fd")), Ends(10)
    with sleeping(3) as processes:
        ends.follow(seen(*(each.pid for each in processes)))
        assert len(os.listdir("/proc/self/fd")) == before + 4
        ends.follow(seen(processes[0].pid))
        assert len(os.listdir("/proc/self/fd")) == before + 2
        processes[1].kill()
        processes[1].wait()
        assert ends.changes() == set()
    ends.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_those_that_have_not_ended_run_and_no_others() -> None:
    ends = Ends(10)
    assert ends.running() == set()
    with sleeping(3) as processes:
        pids = [each.pid for each in processes]
        now = seen_now(*pids)
        ends.follow(now)
        assert ends.running() == identities(now, *pids)
        processes[0].kill()  # a zombie, of which nobody has taken note yet
        wait_for("its end", lambda: ends.running() == identities(now, *pids[1:]))
        ends.changes()
        processes[1].kill()
        processes[1].wait()
        assert ends.running() == identities(now, pids[2])
        ends.follow(now._replace(facts=[]))
        assert ends.running() == set()
    ends.close()


def test_a_pid_that_was_used_again_before_it_was_followed_says_nothing_of_who_had_it() -> None:
    ends = Ends(10)
    with sleeping() as [process]:
        now = seen(process.pid)  # one that began at another time
        ends.follow(now)
        assert ends.running() == set()
    ends.close()


def test_of_very_many_that_end_at_once_none_is_taken_to_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = 1024  # that epoll(7) tells of, unless it is asked for more
    ends = Ends(2 * most)
    with sleeping() as [process]:
        now = seen_now(process.pid)
        assert now.processes is not None
        one = now.processes[process.pid]
        # The same one under many pids, each with a descriptor of its own
        opens = module._open
        assert opens is not None
        monkeypatch.setattr(module, "_open", lambda pid: opens(one.pid))
        monkeypatch.setattr(module, "read_stat", lambda pid: one.stat)
        with descriptors(3 * most):
            pids = range(1_000_000, 1_000_000 + most + 100)
            many = {pid: Process(pid, one.uid, one.stat) for pid in pids}
            ends.follow(seen(*pids)._replace(processes=many))
            assert len(ends.running()) == len(pids)
            process.kill()
            process.wait()
            assert ends.running() == set()
            ends.close()


def test_where_there_are_too_few_descriptors_it_says_so_and_goes_on() -> None:
    ends = Ends(1)
    with sleeping(2) as processes:
        ends.follow(seen(*(each.pid for each in processes)))
        assert ends.problem == "there are descriptors for 1 processes"
        for process in processes:
            process.kill()
        wait_for("an end", ends.changes)
        assert ends.changes() == set()
    ends.close()


def test_where_the_kernel_cannot_say_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(10)
    with sleeping() as [process]:
        monkeypatch.setattr(module, "_open", None)
        ends.follow(seen(process.pid))
        assert ends.problem == "this Python has no pidfd_open" and ends.changes() == set()
    ends.close()
