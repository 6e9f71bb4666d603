from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from fastx_list.agent import accounts
from fastx_list.agent import door as module
from fastx_list.agent.door import ALL_SECONDS, OWNER_SECONDS, Door, Unanswered
from tests.support import wait_for


class Hung:
    """A call that hangs until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        self.go.wait()
        return "late"


@pytest.fixture
def hung() -> Iterator[Hung]:
    hung = Hung()
    yield hung
    hung.go.set()


def ask(door: Door, owner: int | str = 1) -> str:
    return door.ask(owner, "a question", lambda: "answer")


def refuses(door: Door, owner: int | str = 1) -> bool:
    try:
        ask(door, owner)
    except Unanswered:
        return True
    return False


def couriers() -> int:
    return sum(thread.name == "courier" for thread in threading.enumerate())


def test_it_returns_what_the_call_returns_and_raises_what_it_raises() -> None:
    def fail() -> None:
        raise KeyError("x")

    door = Door()
    before = couriers()
    for _ in range(100):
        assert ask(door) == "answer"
        with pytest.raises(KeyError, match="x"):
            door.ask(2, "a question", fail)
    assert couriers() == before + 1 and door.unanswered() == {}


def test_one_that_hangs_is_not_asked_again_until_it_answers_and_others_are(hung: Hung) -> None:
    door = Door()
    with pytest.raises(Unanswered, match="a file"):
        door.ask(1, "a file", hung)
    [told] = door.unanswered().values()
    assert told.startswith("a file, since ")
    for _ in range(3):
        with pytest.raises(Unanswered):
            door.ask(1, "more", hung)
        assert ask(door, 2) == "answer"
    assert hung.calls == 1
    hung.go.set()
    assert wait_for("its answer", lambda: not refuses(door)) and door.unanswered() == {}


def test_an_owner_who_is_slow_again_and_again_gets_a_small_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    door = Door()

    def slow() -> None:
        nonlocal now
        now += OWNER_SECONDS / 2

    for _ in range(2):
        door.ask(1, "a file", slow)
    assert refuses(door) and not refuses(door, 2)
    now += 1
    door.ask(1, "a file", slow)
    assert refuses(door)


def test_many_who_are_slow_do_not_use_up_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    door = Door()

    def slow() -> None:
        nonlocal now
        now += OWNER_SECONDS

    asked = 0
    for owner in range(100):
        try:
            door.ask(owner, "a file", slow)
            asked += 1
        except Unanswered:
            pass
    assert asked * OWNER_SECONDS <= 2 * ALL_SECONDS


def test_so_many_and_no_more_are_waited_for(monkeypatch: pytest.MonkeyPatch, hung: Hung) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    monkeypatch.setattr(module, "OWNER_SECONDS", 0.03)
    door = Door()
    for owner in range(5):
        with pytest.raises(Unanswered):
            door.ask(owner, "a file", hung)
    assert len(door.unanswered()) == 3 and refuses(door, 9)
    hung.go.set()
    wait_for("room", lambda: not refuses(door, 9))


def test_what_those_who_run_the_machine_own_has_its_time_in_each_look(hung: Hung) -> None:
    door = Door()
    for _ in range(20):
        door.ask("spool", "its files", lambda: time.sleep(0.03), 10)
    with pytest.raises(Unanswered):
        door.ask("spool", "its files", hung, 0.05)


@pytest.fixture
def busy() -> Iterator[None]:
    """Lets this process have one processor, and one that is wanted by many others."""
    may = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(may)})
    try:
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(12)]
        yield
        for each in others:
            each.kill()
            each.wait()
    finally:
        os.sched_setaffinity(0, may)


@pytest.mark.usefixtures("busy")
def test_nobody_pays_for_a_busy_machine() -> None:
    def work() -> str:
        end = time.thread_time() + OWNER_SECONDS / 50
        while time.thread_time() < end:
            pass
        return "answer"

    door = Door()
    for _ in range(12):
        assert door.ask(1, "a file", work) == "answer"


def test_accounts_that_are_full_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MAX_OWNERS", 4)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    door = Door()
    for owner in range(100):
        now += 60
        ask(door, owner)
    assert len(door._accounts._accounts) <= 5
