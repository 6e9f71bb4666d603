"""The replica and a store that has become an older one."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastx_list.model.session import Session
from fastx_list.replica.doubt import FIRST_LOOK_SECONDS
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Change
from fastx_list.replica.view import Entry
from fastx_list.store import AT_ONCE, REFILL_SECONDS, Lease, Store
from tests.replica.stores import (
    FAR,
    Wrapped,
    beat,
    entry_of,
    ids_of,
    numbered,
    observe,
    remove_database,
)
from tests.store.common import before_each_step
from tests.support import wait_for


def _back_up(database: Path, to: Path) -> None:
    source, target = sqlite3.connect(database), sqlite3.connect(to)
    source.backup(target)
    source.close()
    target.close()


def _write(agent: Store, *sessions: Session) -> None:
    observe(agent, *sessions)
    beat(agent)


@pytest.fixture
def restored(agent: Store, replica: Replica[Entry], database: Path, tmp_path: Path) -> None:
    """The replica knows sessions 1 and 3, and the store has become one with 1 and 2."""
    _write(agent, numbered(1), numbered(2))
    _back_up(database, tmp_path / "copy")
    _write(agent, numbered(1), numbered(3))
    replica.follow(0)
    _back_up(tmp_path / "copy", database)


@pytest.mark.usefixtures("restored")
def test_what_an_older_store_says_of_sessions_is_not_believed_until_their_agent_has_written(
    agent: Store, replica: Replica[Entry]
) -> None:
    for _ in range(2):
        assert replica.follow(0) == []
        assert "lost what it had" in str(replica.problem)
        assert ids_of(replica, "alice") == {"s1", "s3"}
    _write(agent, numbered(1), numbered(3), numbered(4))
    assert replica.follow(0) == [Change("s4", "alice", entry_of(numbered(4)), None)]
    assert replica.problem is None


@pytest.mark.usefixtures("restored")
def test_what_an_older_store_says_is_not_believed_of_an_agent_that_has_only_read_it(
    agent: Store, replica: Replica[Entry]
) -> None:
    replica.follow(0)
    _write(agent, numbered(1), numbered(2))
    beat(agent, last_look=None)
    assert replica.follow(0) == [] and ids_of(replica, "alice") == {"s1", "s3"}
    _write(agent, numbered(1))
    assert replica.follow(0) == [Change("s3", "alice", None, entry_of(numbered(3)))]


def test_an_older_store_is_not_believed_while_its_agent_has_written_a_part(
    agent: Store,
    replica: Replica[Entry],
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lease = Lease("agent", "1", "host", 3600)
    many = {session.id: session for session in map(numbered, range(2 * AT_ONCE))}
    for sessions in (many, {"s1": many["s1"]}):
        agent.observe("server", sessions, lease)
        beat(agent)
        _back_up(database, tmp_path / f"copy of {len(sessions)}")
    replica.follow(0)
    _back_up(tmp_path / f"copy of {len(many)}", database)
    told, problems = list[object](), list[str | None]()

    def follow() -> None:
        told.extend(replica.follow(0))
        while replica.is_behind:
            told.extend(replica.follow(0))
        problems.append(replica.problem)

    before_each_step(agent, monkeypatch, follow)
    agent.observe("server", {"s1": many["s1"]}, lease)
    assert len(problems) > 1 and all("lost what it had" in str(each) for each in problems)
    follow()
    assert problems[-1] is None and told == [] and ids_of(replica, "alice") == {"s1"}


@pytest.mark.usefixtures("restored")
def test_who_was_stopped_while_reading_an_older_store_looks_again_soon(
    agent: Store, store: Wrapped, replica: Replica[Entry], clock: SimpleNamespace
) -> None:
    store.reading_takes = lambda: setattr(clock, "now", clock.now + 3600)
    replica.follow(0)
    assert "lost what it had" in str(replica.problem)
    _write(agent, numbered(1), numbered(3))
    store.reading_takes = lambda: None
    clock.now += REFILL_SECONDS
    replica.refresh()
    assert replica.problem is None


@pytest.mark.usefixtures("restored")
def test_an_agent_whose_first_look_hangs_keeps_nobody_in_doubt_for_long(
    agent: Store, replica: Replica[Entry], clock: SimpleNamespace
) -> None:
    while ids_of(replica, "alice") != {"s1", "s2"}:
        beat(agent, last_look=None)
        replica.refresh()
        clock.now += 1.1
    assert FIRST_LOOK_SECONDS <= clock.now - 1000 < 1.5 * FIRST_LOOK_SECONDS
    assert replica.problem is None


def test_an_older_store_that_says_the_same_is_no_reason_for_doubt(
    agent: Store, store: Wrapped, database: Path, tmp_path: Path
) -> None:
    replica = Replica(store, Entry, hides_ours=True)
    _write(agent, numbered(1))
    _back_up(database, tmp_path / "copy")
    _write(agent, numbered(1), numbered(2))
    replica.follow(0)
    _write(agent, numbered(1))
    replica.follow(0)
    _back_up(tmp_path / "copy", database)
    assert replica.follow(0) == [] and replica.problem is None


@pytest.mark.usefixtures("restored")
def test_an_older_store_is_not_believed_if_one_that_is_older_still_takes_its_place(
    agent: Store, replica: Replica[Entry], database: Path, tmp_path: Path
) -> None:
    _back_up(database, tmp_path / "copy")
    beat(agent)  # the copy's last beat is another one than that which the replica saw
    _back_up(database, tmp_path / "later copy")
    replica.follow(0)
    _back_up(tmp_path / "copy", database)
    assert ids_of(replica, "alice") == {"s1", "s2"}  # its agent says that it is so
    _write(agent, numbered(1), numbered(3))
    replica.follow(0)
    _back_up(tmp_path / "later copy", database)
    assert replica.follow(0) == []
    _back_up(tmp_path / "copy", database)
    assert replica.follow(0) == []
    assert ids_of(replica, "alice") == {"s1", "s3"}


def test_servers_are_waited_for_while_the_store_takes_no_writes(
    agent: Store, store: Wrapped, replica: Replica[Entry], database: Path, clock: SimpleNamespace
) -> None:
    _write(agent, numbered(1))
    replica.refresh()
    remove_database(database)
    store.is_full = True
    for _ in range(3):
        replica.refresh()
        assert ids_of(replica, "alice") == {"s1"}
        clock.now += REFILL_SECONDS
    store.is_full = False
    for expected in ({"s1"}, {"s1"}, set()):
        replica.refresh()
        assert ids_of(replica, "alice") == expected
        clock.now += REFILL_SECONDS / 2


@pytest.mark.parametrize("is_read_at_once", [False, True])
def test_a_later_copy_that_takes_the_place_of_an_older_one_is_no_news(
    agent: Store, replica: Replica[Entry], database: Path, tmp_path: Path, is_read_at_once: bool
) -> None:
    """Though all that it has came after what the older one has, in steps that the replica was told
    of or came past."""
    _write(agent)
    _back_up(database, tmp_path / "older")
    _write(agent, numbered(1))
    _back_up(database, tmp_path / "later")
    if not is_read_at_once:
        replica.follow(0)
    _write(agent)
    replica.follow(0)
    _back_up(tmp_path / "older", database)
    assert replica.follow(0) == [] and replica.problem is None
    _back_up(tmp_path / "later", database)
    assert replica.follow(0) == []
    assert ids_of(replica, "alice") == set() and "lost what it had" in str(replica.problem)
    _write(agent)
    assert replica.follow(0) == [] and replica.problem is None
    observe(agent, numbered(2))
    assert replica.follow(0) == [Change("s2", "alice", entry_of(numbered(2)), None)]


def test_a_revoked_token_is_written_again_as_often_as_it_is_lost(
    agent: Store, store: Wrapped, database: Path, tmp_path: Path
) -> None:
    replica = Replica(store, Entry, lambda call: call())
    _write(agent)
    _back_up(database, tmp_path / "copy")
    agent.revoke({"token": FAR})
    replica.follow(0)
    for _ in range(3):
        _back_up(tmp_path / "copy", database)
        replica.follow(0)
        assert "token" in agent.snapshot().revoked
        replica.follow(0)  # and reads it


def test_a_revoked_token_is_written_again_until_it_was_read(
    agent: Store, replica: Replica[Entry], database: Path, tmp_path: Path
) -> None:
    """The store may be restored once more right after it was written."""

    def is_written() -> bool:
        return "token" in agent.snapshot().revoked

    def is_written_again() -> bool:
        replica.follow(0)
        return is_written()

    _write(agent)
    _back_up(database, tmp_path / "copy")
    agent.revoke({"token": FAR})
    replica.follow(0)
    _back_up(tmp_path / "copy", database)
    replica.follow(0)
    wait_for("the token", is_written)
    _back_up(tmp_path / "copy", database)
    wait_for("the token once more", is_written_again)
    assert "token" in replica.revoked
