"""What the workers of one sidecar know of each other."""

from __future__ import annotations

import pytest

from fastx_list.api.counters import WORKERS
from fastx_list.live.tally import NEAR, Tally


def at(tally: Tally, part: int) -> Tally:
    """Be the worker that has this part."""
    tally.part = part
    return tally


def test_a_login_is_counted_over_all_other_workers() -> None:
    tally = Tally()
    for part, number in enumerate((3, 4, 5)):
        at(tally, part).count("connections", number)
        tally.note("alice", number)
        tally.note("bob", 1)
    assert [at(tally, part).elsewhere("alice") for part in range(3)] == [9, 8, 7]
    at(tally, 2).note("alice", 0)
    assert at(tally, 0).elsewhere("alice") == 4
    assert tally.elsewhere("carol") == 0


def test_what_is_counted_is_the_sum_over_all() -> None:
    tally = Tally()
    at(tally, 0).count("connections", 3)
    at(tally, WORKERS - 1).count("connections", 4)
    tally.count("slowClientsDropped", 1)
    assert dict(tally) == {"connections": 7, "slowClientsDropped": 1}


def test_a_worker_that_has_ended_has_nothing() -> None:
    tally = Tally()
    at(tally, 1).count("connections", 2)
    tally.note("alice", 2)
    tally.clear(1)
    assert at(tally, 0).elsewhere("alice") == 0 and tally["connections"] == 0


def test_places_are_used_again() -> None:
    tally = Tally()
    at(tally, 1).count("connections", 1)
    for number in range(100_000):
        at(tally, 1).note(f"user{number}", 1)
        if number % 10_000 == 0:
            assert at(tally, 0).elsewhere(f"user{number}") == 1
        at(tally, 1).note(f"user{number}", 0)


def test_logins_with_one_home_do_not_count_as_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    monkeypatch.setattr(tally, "_look_up", lambda login: (int(login), 7))
    at(tally, 1).count("connections", 1)
    for name in range(1, NEAR + 2):
        tally.note(str(name), name)
    found = [at(tally, 0).elsewhere(str(name)) for name in range(1, NEAR + 2)]
    assert found == [*range(1, NEAR + 1), 0]  # the last has no place
