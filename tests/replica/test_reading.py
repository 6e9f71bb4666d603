"""A store that is read anew in parts: until all is read, the last copy is what is answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fastx_list.replica import replica as replica_module
from fastx_list.replica.replica import Replica
from fastx_list.replica.view import Entry
from fastx_list.store import (
    Changes,
    OrderLost,
    Revision,
    SnapshotNeeded,
    Store,
    StoreError,
    sqlite_order,
    sqlite_reader,
)
from tests.replica.stores import Wrapped, beat, ids_of, numbered, observe

PART = 10  # sessions
MANY = 35


@pytest.fixture(autouse=True)
def one_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_reader, "AT_ONCE", PART)
    monkeypatch.setattr(replica_module, "CATCH_UP_SECONDS", -1)


@pytest.fixture
def left(store: Wrapped, monkeypatch: pytest.MonkeyPatch) -> list[SnapshotNeeded]:
    """Why the history that a reader knows is gone, the next times that it asks."""
    reasons: list[SnapshotNeeded] = []
    changes = store.changes

    def of_no_history(revision: Revision, timeout: float = 0) -> Changes | None:
        if reasons:
            raise reasons.pop()
        return changes(revision, timeout)

    monkeypatch.setattr(store, "changes", of_no_history)
    return reasons


def refreshes(replica: Replica[Entry]) -> Iterator[tuple[set[str], str | None]]:
    """Yield what a list answers, and its problem, until it has none."""
    while True:
        replica.refresh()
        yield ids_of(replica, "alice"), replica.problem
        if replica.problem is None:
            return


def test_a_worker_without_a_copy_reads_all_before_it_answers(
    agent: Store, replica: Replica[Entry], store: Wrapped
) -> None:
    observe(agent, *map(numbered, range(MANY)))
    replica.refresh()
    assert len(ids_of(replica, "alice")) == MANY and replica.problem is None
    assert not replica.is_behind and store.calls == ["read_all"]


@pytest.mark.parametrize("reason", [SnapshotNeeded, OrderLost])
def test_who_starts_over_answers_with_a_warning_and_the_last_copy_until_all_is_read(
    agent: Store, replica: Replica[Entry], left: list[SnapshotNeeded], reason: type[SnapshotNeeded]
) -> None:
    observe(agent, *map(numbered, range(MANY)))
    beat(agent)
    replica.refresh()
    before = ids_of(replica, "alice")
    observe(agent, *map(numbered, range(20, 20 + MANY)))
    beat(agent)
    left.append(reason())
    answers = list(refreshes(replica))
    assert len(answers) > MANY / PART
    assert all(problem is not None and ids == before for ids, problem in answers[:-2])
    assert answers[-1] == ({f"s{number}" for number in range(20, 20 + MANY)}, None)


def test_what_is_lost_while_all_is_read_is_read_once_more(
    agent: Store,
    replica: Replica[Entry],
    store: Wrapped,
    left: list[SnapshotNeeded],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    observe(agent, *map(numbered, range(MANY)))
    beat(agent)
    replica.refresh()
    observe(agent, *map(numbered, range(1, MANY)))
    beat(agent)
    check, checks = sqlite_order.check, 0

    def lose_at_the_third(*arguments: Any) -> None:
        nonlocal checks
        checks += 1
        if checks == 3:
            raise OrderLost
        check(*arguments)

    monkeypatch.setattr(sqlite_order, "check", lose_at_the_third)
    left.append(SnapshotNeeded())
    store.calls.clear()
    answers = list(refreshes(replica))
    assert store.calls.count("read_all") == 2
    assert {len(ids) for ids, _ in answers} == {MANY, MANY - 1}
    assert len(answers[-1][0]) == MANY - 1


def test_a_store_whose_order_never_holds_is_not_read_for_ever(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    observe(agent, *map(numbered, range(MANY)))

    def lose(*arguments: Any) -> None:
        raise OrderLost

    monkeypatch.setattr(sqlite_order, "check", lose)
    with pytest.raises(StoreError, match="changes faster than it can be read"):
        replica.refresh()
    assert replica.pause > 0
