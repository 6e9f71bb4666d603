"""Which processes are new and which have gone, by what the kernel counts: invented ones, and real
ones."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import threading
from collections.abc import Iterator

import pytest

from fastx_list.agent import pids as module
from fastx_list.agent.pids import MARGIN, MAX_YOUNG, Count, Pids
from tests.support import wait_for

MANY = 400


class Kernel:
    """Gives out pids: each thread has the pid of its process."""

    def __init__(self) -> None:
        self.threads = {pid: pid for pid in range(1, MANY + 1)}
        self.last = MANY
        self.listings = 0

    def begin(self, process: int | None = None) -> int:
        """Begin a process, or a thread of one."""
        self.last += 1
        self.threads[self.last] = self.last if process is None else process
        return self.last

    def end(self, process: int) -> None:
        self.threads = {pid: whose for pid, whose in self.threads.items() if whose != process}

    @property
    def processes(self) -> set[int]:
        return set(self.threads.values())

    def listdir(self, path: str) -> list[str]:
        self.listings += 1
        return [*map(str, self.processes), "self", "uptime"]

    def count(self) -> Count:
        return Count(len(self.threads), self.last)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(os, "listdir", kernel.listdir)
    monkeypatch.setattr(module, "count", kernel.count)
    monkeypatch.setattr(module, "_is_there", lambda pid: pid in kernel.threads)
    monkeypatch.setattr(module, "_is_process", lambda pid: kernel.threads.get(pid) == pid)
    return kernel


def look(pids: Pids) -> tuple[set[int], set[int]]:
    told = pids.look(is_doubted=False)
    pids.take(told, ())
    return {*told.new}, {*told.missing}


@pytest.fixture
def pids(kernel: Kernel) -> Pids:
    pids = Pids()
    assert look(pids) == (kernel.processes, set())
    look(pids)
    kernel.listings = 0
    return pids


def test_what_was_just_beginning_while_they_were_listed_is_new(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted and not listed, and there by the time that threads are asked for."""
    begins, thread = kernel.begin(), kernel.begin(7)

    def listdir(path: str) -> list[str]:
        return [name for name in kernel.listdir(path) if name != str(begins)]

    monkeypatch.setattr(os, "listdir", listdir)
    pids = Pids()
    assert look(pids) == (kernel.processes, set()) and thread not in kernel.processes
    assert look(pids) == look(pids) == (set(), set())


def test_what_begins_and_ends_again_is_told_without_listing_all(kernel: Kernel, pids: Pids) -> None:
    process = kernel.begin()
    thread = kernel.begin(process)
    for _ in range(50):
        kernel.end(kernel.begin())
    assert look(pids) == ({process}, set())
    assert look(pids) == look(pids) == (set(), set())
    kernel.end(process)
    assert thread not in kernel.threads
    assert look(pids) == (set(), {process})
    assert kernel.listings == 0


def test_the_end_of_an_old_one_is_told(kernel: Kernel, pids: Pids) -> None:
    kernel.end(7)
    new = kernel.begin()  # there are as many as before
    assert look(pids) == ({new}, {7}) and kernel.listings == 1


def test_one_that_had_its_pid_before_it_was_there_is_told(kernel: Kernel, pids: Pids) -> None:
    kernel.last += 1
    assert look(pids) == look(pids) == (set(), set())
    kernel.threads[kernel.last] = kernel.last
    assert look(pids) == ({kernel.last}, set())


def test_more_than_it_takes_to_list_all_are_listed(kernel: Kernel, pids: Pids) -> None:
    for _ in range(MANY):
        kernel.end(kernel.begin())
    new = kernel.begin()
    assert look(pids) == ({new}, set()) and kernel.listings == 1


def test_when_pids_begin_anew_all_are_listed(kernel: Kernel, pids: Pids) -> None:
    kernel.end(7)
    kernel.last = 6
    assert kernel.begin() == 7
    assert look(pids) == (set(), set()) and kernel.listings == 1


def test_what_was_not_taken_is_told_again(kernel: Kernel, pids: Pids) -> None:
    new = kernel.begin()
    assert pids.look(is_doubted=False).new == {new}
    assert look(pids) == ({new}, set())
    kernel.end(7)
    assert pids.look(is_doubted=False).missing == {7}
    assert look(pids) == (set(), {7})


def test_what_cannot_be_asked_for_is_listed(
    kernel: Kernel, pids: Pids, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> bool:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(module, "_is_process", refuse)
    new = kernel.begin()
    assert look(pids) == ({new}, set())


@pytest.mark.parametrize("seed", range(6))
def test_at_each_look_it_is_what_there_is(kernel: Kernel, pids: Pids, seed: int) -> None:
    chance = random.Random(seed)
    known = kernel.processes
    for _ in range(200):
        for _ in range(chance.choice((0, 0, 1, 5, 40))):
            begins = chance.random() < 0.5
            process = chance.choice(sorted(kernel.processes)[-2 * MAX_YOUNG :])
            if begins:
                kernel.begin(chance.choice((None, None, process)))
            elif process > MARGIN:
                kernel.end(process)
        new, missing = look(pids)
        assert not new & known and missing <= known
        known = known - missing | new
        assert known == kernel.processes
    assert kernel.listings < 190


def test_real_ones_are_found_though_others_begin_and_end() -> None:
    pids = Pids()
    look(pids)
    known: set[int] = set()

    def follow() -> set[int]:
        new, missing = look(pids)
        known.update(new)
        known.difference_update(missing)
        return known

    running = threading.Event()
    thread = threading.Thread(target=running.wait)
    thread.start()
    with subprocess.Popen(["sleep", "600"]) as process:
        wait_for("it", lambda: process.pid in follow())
        assert thread.native_id not in known
        process.kill()
    wait_for("its end", lambda: process.pid not in follow())
    running.set()
    thread.join()


@pytest.fixture(autouse=True)
def counted_here() -> Iterator[None]:
    module._counts_here.cache_clear()
    yield
    module._counts_here.cache_clear()


def test_where_nobody_counts_all_are_listed(
    kernel: Kernel, pids: Pids, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "count", lambda: None)
    new = kernel.begin()
    assert look(pids) == ({new}, set())
    assert look(pids) == (set(), set()) and kernel.listings == 2
