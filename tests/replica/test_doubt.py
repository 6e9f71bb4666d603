"""A store that can be read and may not say what there is."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from fastx_list.replica.replica import Replica
from fastx_list.replica.view import Entry
from fastx_list.store import REFILL_SECONDS, Changes, Store, StoreError
from tests.replica.stores import Wrapped, beat, ids_of, numbered, observe, remove_database


class Doubtful(Wrapped):
    """Says that agents have written nothing for too long, or that it is new."""

    late: Sequence[str] = ()
    age = 0.0

    @property
    def overdue(self) -> Sequence[str]:
        return self.late

    def read_all(self) -> Generator[None, None, Changes]:
        return replace((yield from super().read_all()), age=self.age)


@pytest.fixture
def doubtful(agent: Store, store: Wrapped) -> Doubtful:
    store.__class__ = Doubtful
    assert isinstance(store, Doubtful)
    store.age = REFILL_SECONDS
    return store


def test_what_an_agent_wrote_that_is_silent_stays_and_may_be_over(
    agent: Store,
    doubtful: Doubtful,
    replica: Replica[Entry],
    clock: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    observe(agent, numbered(1))
    replica.refresh()
    assert replica.problem is None
    doubtful.late = ["server"]
    for number in (2, 3):
        observe(agent, numbered(number))
        replica.refresh()  # goes on reading, and need not wait
        assert ids_of(replica, "alice") == {f"s{number}"}
        assert "the agent of server has written nothing" in str(replica.problem)
    doubtful.late = ["a", "b", "c", "d\x1b"]
    replica.refresh()
    assert "the agent of a, b, c, … has" in str(replica.problem)
    doubtful.late = []
    replica.refresh()
    assert replica.problem is None
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_who_finds_a_new_store_does_not_know_who_is_missing_yet(
    agent: Store, doubtful: Doubtful, replica: Replica[Entry], clock: SimpleNamespace
) -> None:
    observe(agent, numbered(1))
    doubtful.age = 4.0
    replica.refresh()
    clock.now += REFILL_SECONDS - 4.1
    replica.refresh()
    assert ids_of(replica, "alice") == {"s1"} and "just been begun" in str(replica.problem)
    clock.now += 0.1
    replica.refresh()
    assert replica.problem is None


def test_while_nobody_can_write_a_new_store_nobody_knows_who_is_missing(
    doubtful: Doubtful,
    replica: Replica[Entry],
    clock: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a Redis that is empty and cannot save refuses all writes."""
    doubtful.age = 0.0
    replica.refresh()
    with monkeypatch.context() as patched:
        patched.setattr(doubtful, "end_leases", Mock(side_effect=StoreError("it cannot save")))
        for _ in range(3):
            clock.now += REFILL_SECONDS
            replica.refresh()
            assert str(replica.problem).endswith("agents cannot write it: it cannot save")
    clock.now += REFILL_SECONDS - 0.1
    replica.refresh()
    assert "may not have written it yet" in str(replica.problem)
    clock.now += 0.1
    replica.refresh()
    assert replica.problem is None


def test_who_has_followed_a_store_knows_who_is_missing_in_a_new_one(
    agent: Store, doubtful: Doubtful, replica: Replica[Entry], database: Path
) -> None:
    observe(agent, numbered(1))
    beat(agent)
    replica.refresh()
    doubtful.age = 0.0
    remove_database(database)
    replica.refresh()
    assert "has lost what it had" in str(replica.problem)
    observe(agent, numbered(1))
    beat(agent)
    replica.follow(0)
    assert replica.problem is None


@pytest.mark.parametrize("takes", [0.2, 0.9, 3.0])
def test_servers_that_stay_away_are_waited_for_no_longer_than_is_said(
    agent: Store,
    store: Wrapped,
    replica: Replica[Entry],
    database: Path,
    clock: SimpleNamespace,
    takes: float,
) -> None:
    """However long it takes to read the store."""
    beat(agent)
    replica.refresh()
    remove_database(database)
    store.reading_takes = lambda: setattr(clock, "now", clock.now + takes)
    began = clock.now
    replica.refresh()
    while replica.problem is not None:
        clock.now += max(0.01, replica.pause)
        replica.refresh()
    assert REFILL_SECONDS - takes <= clock.now - began <= REFILL_SECONDS + takes


def test_a_store_that_cannot_be_read_yet_is_left_alone_for_a_while(
    store: Wrapped, replica: Replica[Entry], clock: SimpleNamespace
) -> None:
    assert replica.pause <= 0
    store.failing = "no such disk"
    with pytest.raises(StoreError):
        replica.refresh()
    assert replica.pause == 1
    clock.now += 1
    assert replica.pause <= 0
