"""What the workers of one sidecar know of each other."""

from __future__ import annotations

import pytest

from fastx_list.api.counters import NOW, WORKERS, Counters
from fastx_list.live.tally import NEAR, Tally


class Workers:
    """Workers that share what is counted, of which this process is one after the other."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.tally = Tally(self.counters)

    def at(self, part: int) -> Tally:
        """Be the worker that has this part."""
        self.counters.part = part
        return self.tally


@pytest.fixture
def workers() -> Workers:
    return Workers()


def test_a_login_is_counted_over_all_other_workers(workers: Workers) -> None:
    for part, number in enumerate((3, 4, 5)):
        workers.at(part).note("alice", number)
        workers.tally.note("bob", 1)
        workers.counters.add("webSockets", number)
    assert [workers.at(part).elsewhere("alice") for part in range(3)] == [9, 8, 7]
    workers.at(2).note("alice", 0)
    assert workers.at(0).elsewhere("alice") == 4
    assert workers.tally.elsewhere("carol") == 0


def test_what_is_counted_is_the_sum_over_all(workers: Workers) -> None:
    workers.at(0)
    workers.counters.add("webSockets", 3)
    workers.at(WORKERS - 1)
    workers.counters.add("webSockets", 4)
    workers.counters.add("slowClientsDropped")
    assert workers.counters.total("webSockets") == 7
    assert workers.counters.total("slowClientsDropped") == 1


def test_a_worker_that_has_ended_has_nothing_and_what_it_counted_stays(workers: Workers) -> None:
    workers.at(1).note("alice", 2)
    for name in (*NOW, "slowClientsDropped"):
        workers.counters.add(name, 2)
    workers.counters.has_ended(1)
    workers.tally.clear(1)
    assert workers.at(0).elsewhere("alice") == 0
    assert [workers.counters.total(name) for name in NOW] == [0, 0]
    assert workers.counters.total("slowClientsDropped") == 2


def test_places_are_used_again(workers: Workers) -> None:
    workers.at(1)
    workers.counters.add("webSockets")
    for number in range(100_000):
        workers.at(1).note(f"user{number}", 1)
        if number % 10_000 == 0:
            assert workers.at(0).elsewhere(f"user{number}") == 1
        workers.at(1).note(f"user{number}", 0)


def test_logins_with_one_home_do_not_count_as_each_other(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.tally, "_look_up", lambda login: (int(login), 7))
    workers.at(1)
    workers.counters.add("webSockets")
    for name in range(1, NEAR + 2):
        workers.tally.note(str(name), name)
    found = [workers.at(0).elsewhere(str(name)) for name in range(1, NEAR + 2)]
    assert found == [*range(1, NEAR + 1), 0]  # the last has no place
