"""What takes long is worked out in parts, between which others have their turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pytest
from greenlet import getcurrent, greenlet

from fastx_list.web.turns import Turn, in_parts


class Worker:
    """Lets its greenlets have their turns, and notes what they do."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._hub = getcurrent()
        self._working: deque[greenlet] = deque()

    def parts(self, name: str, count: int) -> Iterator[None]:
        for number in range(count):
            self.done.append(f"{name}{number}")
            yield

    def ask(self, whose: str, name: str, count: int) -> None:
        Turn(in_parts, self._let_others).switch(whose, self.parts(name, count))

    def _let_others(self) -> None:
        self._working.append(getcurrent())
        self._hub.switch()

    def go_on(self) -> None:
        while self._working:
            self._working.popleft().switch()


def test_others_have_their_turn_after_each_part() -> None:
    worker = Worker()
    worker.ask("mallory", "m", 3)
    worker.ask("alice", "a", 2)
    worker.go_on()
    assert worker.done == ["m0", "a0", "m1", "a1", "m2"]


def test_who_asks_much_at_once_has_one_turn_as_others_have() -> None:
    worker = Worker()
    worker.ask("mallory", "m", 2)
    worker.ask("mallory", "n", 2)
    worker.ask("alice", "a", 3)
    worker.go_on()
    assert worker.done == ["m0", "a0", "m1", "a1", "n0", "a2", "n1"]


def test_one_that_fails_keeps_nobody_else_waiting() -> None:
    worker = Worker()

    def broken() -> Iterator[None]:
        yield
        raise ZeroDivisionError

    Turn(in_parts, worker._let_others).switch("mallory", broken())
    worker.ask("mallory", "m", 1)
    with pytest.raises(ZeroDivisionError):
        worker.go_on()
    worker.go_on()
    assert worker.done == ["m0"]


def test_where_nobody_waits_nothing_is_done_in_parts() -> None:
    worker = Worker()
    in_parts("alice", worker.parts("a", 3))
    assert worker.done == []
