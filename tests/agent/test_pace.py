from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from fastx_list.agent.facts import Facts
from fastx_list.agent.keep import Agent
from fastx_list.agent.look import Look, Looker, Seen, Stopped
from fastx_list.agent.machine import Machine
from fastx_list.agent.occasions import ASK_SECONDS, Occasions
from fastx_list.agent.signs import Change
from fastx_list.agent.subordinates import Payer
from fastx_list.config import Settings
from fastx_list.store import Store
from tests.agent.scripted import Scripted, facts

MOST_WAITS = 2000


class Pace:
    """Runs an agent by a clock that only its waits, and its looks, move on, and notes when it does
    what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, settings: Settings, store: Store) -> None:
        self.now = 1000.0
        self.looks: list[float] = []
        self.made_for: list[frozenset[Payer | None]] = []
        self.beats: list[float] = []
        self.waits: list[float] = []
        self.look_seconds = 0.0
        self._seconds = 0.0
        self._store = store
        self._settings = settings
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        heartbeat = store.heartbeat

        def beat(*arguments: Any) -> str | None:
            self.beats.append(self.now - 1000)
            return heartbeat(*arguments)

        monkeypatch.setattr(store, "heartbeat", beat)

    def scan(self, machine: Machine) -> Iterable[Facts]:
        self.looks.append(self.now - 1000)
        self.made_for.append(frozenset(machine.made_for))
        self.now += self.look_seconds
        return [facts()]

    def run(self, seconds: float, happens_at: Iterable[float] | None = None) -> None:
        self._seconds = seconds
        agent = Agent(self._settings, self._store, {"source": self})
        occasions = None if happens_at is None else Foreseen(self, happens_at)
        agent.run(Clockwork(self, agent.look), occasions)

    def wait(self, seconds: float) -> None:
        """Let the clock go on; raises :class:`Stopped` once it has gone on for long enough."""
        self.waits.append(seconds)
        self.now += seconds
        if self.now - 1000 > self._seconds or len(self.waits) > MOST_WAITS:
            raise Stopped


class Clockwork(Looker):
    """Looks at once, and lets the clock go on instead of waiting."""

    def __init__(self, pace: Pace, look: Look) -> None:
        super().__init__(look)
        self._pace, self._seen = pace, list[Seen]()

    def start(self) -> None:
        self._seen.append(self._look.take())

    def wait(self, seconds: float) -> Seen | None:
        if self._seen:
            return self._seen.pop()
        self._pace.wait(seconds)
        return None


class Foreseen(Occasions):
    """Tells what happens at moments that a test says."""

    def __init__(self, pace: Pace, happens_at: Iterable[float]) -> None:
        super().__init__(0)
        self._pace, self._happens_at = pace, sorted(happens_at)

    def rest(self, seconds: float) -> None:
        self._pace.wait(min(seconds, ASK_SECONDS))

    def is_due(self) -> bool:
        now = self._pace.now - 1000
        is_due = bool(self._happens_at) and now >= self._happens_at[0]
        self.causes = {Change("something", 5)} if is_due else set()
        self._happens_at = [each for each in self._happens_at if each > now]
        return is_due


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch, settings: Settings, store: Store) -> Callable[..., Pace]:
    return lambda **more: Pace(monkeypatch, replace(settings, **more), store)


def test_looks_begin_an_interval_apart_however_long_one_takes(pace: Callable[..., Pace]) -> None:
    quick = pace(scan_interval=1.0)
    quick.look_seconds = 0.25
    quick.run(5.0)
    assert quick.looks == [0, 1, 2, 3, 4, 5] and quick.waits == [0.75] * 6


def test_a_look_that_takes_longer_than_the_interval_is_followed_by_the_next_one(
    pace: Callable[..., Pace],
) -> None:
    slow = pace(scan_interval=1.0)
    slow.look_seconds = 2.5
    slow.run(9.0)
    assert slow.looks == [0, 2.5, 5, 7.5] and slow.waits == [0] * 4


def test_between_looks_that_are_far_apart_the_lease_is_renewed_in_time(
    pace: Callable[..., Pace],
) -> None:
    rare = pace(scan_interval=40.0, server_expiry=60.0)
    rare.run(90.0)
    assert rare.looks == [0, 40, 80]
    assert rare.waits == [15, 15, 10, 15, 15, 10, 15]
    # A look in between puts a heartbeat off, but never by half the lease.
    assert rare.beats == [0, 15, 30, 55, 70]


def test_a_short_lease_is_renewed_four_times_while_it_lasts(pace: Callable[..., Pace]) -> None:
    short = pace(scan_interval=100.0, server_expiry=2.0)
    short.run(2.0)
    assert short.looks == [0] and short.waits == [0.5] * 5
    assert short.beats == [0, 0.5, 1, 1.5, 2]


def test_what_happens_is_looked_at_at_once_and_puts_off_no_look_for_everybody(
    pace: Callable[..., Pace],
) -> None:
    told = pace(scan_interval=1.0)
    told.run(4.5, happens_at=[0.5, 2.75])
    assert told.looks == pytest.approx([0, 0.5, 1, 2, 2.75, 3, 4], abs=ASK_SECONDS)
    assert max(told.waits) <= ASK_SECONDS


def test_what_happens_does_not_wait_for_what_is_looked_for_at_each_interval(
    pace: Callable[..., Pace],
) -> None:
    """Which may be very much, of somebody who has nothing to do with it."""
    told = pace(scan_interval=1.0)
    told.run(1.5, happens_at=[0.5, 0.97, 1.2])
    assert told.looks == pytest.approx([0, 0.5, 1, 1, 1.2], abs=ASK_SECONDS)
    somebody = frozenset({5})
    assert told.made_for == [frozenset(), somebody, somebody, frozenset(), somebody]


def test_without_any_event_it_looks_at_each_interval(pace: Callable[..., Pace]) -> None:
    quiet = pace(scan_interval=1.0)
    quiet.run(3.5, happens_at=[])
    assert quiet.looks == pytest.approx([0, 1, 2, 3], abs=ASK_SECONDS)


def test_while_it_waits_for_events_the_lease_is_renewed_in_time(pace: Callable[..., Pace]) -> None:
    short = pace(scan_interval=20.0, server_expiry=2.0)
    short.run(2.0, happens_at=[])
    assert short.looks == [0]
    assert short.beats == pytest.approx([0, 0.5, 1, 1.5, 2], abs=2 * ASK_SECONDS)


def test_it_looks_again_and_again_until_it_is_stopped(settings: Settings, store: Store) -> None:
    looks: list[float] = []

    class Counting(Scripted):
        def scan(self, machine: Machine) -> Iterable[Facts]:
            looks.append(time.monotonic())
            if len(looks) == 3:
                looker.stop()
            return super().scan(machine)

    agent = Agent(replace(settings, scan_interval=0.1), store, {"source": Counting(facts())})
    looker = Looker(agent.look)
    thread = threading.Thread(target=agent.run, args=[looker])
    began = time.monotonic()
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and len(looks) == 3
    assert looks[-1] - began >= 0.2


def test_a_look_is_made_for_everybody_at_least_at_each_interval(pace: Callable[..., Pace]) -> None:
    told = pace(scan_interval=1.0)
    told.run(3.5, happens_at=[number / 4 for number in range(1, 20)])
    for_all = [at for at, made_for in zip(told.looks, told.made_for, strict=True) if not made_for]
    assert all(later - sooner < 1.3 for sooner, later in pairwise(for_all)) and len(for_all) >= 3
    assert {frozenset({5}), frozenset()} == {*told.made_for}
