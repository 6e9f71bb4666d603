"""What noting the past costs the SQLite store, in instructions of its own machine, which no other
program's load changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fastx_list.store import sqlite_archive, sqlite_past
from fastx_list.store.archive import EventSpan, Span
from fastx_list.store.sqlite import SqliteStore
from fastx_list.store.sqlite_order import FORGET_AFTER
from tests.store.common import PassTime, by_id, make_lease, make_session, write_anything

MANY = 5000
LEASE = make_lease()


def _work(store: SqliteStore, call: Callable[[], object]) -> int:
    """Return how many tens of instructions ``call`` takes."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    with store._file.reading() as db:
        db.set_progress_handler(tick, 10)
    call()
    with store._file.reading() as db:
        db.set_progress_handler(None, 0)
    return count


def _of_an_end(store: SqliteStore, number: int) -> int:
    session = make_session(number)
    store.observe("s1", by_id(session), LEASE)
    return _work(store, lambda: store.observe("s1", {}, LEASE))


def _add_many(store: SqliteStore) -> None:
    with store._file.writing() as db:
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO past (id, login, place, began, ended, connected, addresses, kept)"
            " SELECT 'old' || i, 'alice', 10000 + i, 1, 10000 + i, 0, '[]', 2e9 FROM n",
            (MANY,),
        )
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO event (name, at, kept, what, login)"
            " SELECT printf('%016x', i), 1000 * i, 2e9, 'tokenIssued', 'alice' FROM n",
            (MANY,),
        )


@pytest.fixture
def few_and_many(tmp_path: Path) -> tuple[SqliteStore, SqliteStore]:
    stores = SqliteStore(tmp_path / "few.db"), SqliteStore(tmp_path / "many.db")
    for store in stores:
        store.observe("s1", {}, LEASE)
    _add_many(stores[1])
    return stores


def test_an_end_costs_the_same_however_much_has_happened(
    few_and_many: tuple[SqliteStore, SqliteStore],
) -> None:
    few, many = (min(_of_an_end(store, number) for number in range(3)) for store in few_and_many)
    assert many < 1.3 * few


def test_what_is_too_much_is_forgotten_after_some_changes_or_in_another_hour(
    few_and_many: tuple[SqliteStore, SqliteStore],
    monkeypatch: pytest.MonkeyPatch,
    pass_time: PassTime,
) -> None:
    _, full = few_and_many
    monkeypatch.setattr(sqlite_past, "MAX_KEPT", MANY - 10)

    def kept() -> int:
        return full.archive.count(Span(None)) or 0

    for _ in range(FORGET_AFTER):
        write_anything(full)
    assert kept() == MANY - 10
    monkeypatch.setattr(sqlite_past, "MAX_KEPT", MANY - 20)
    write_anything(full)
    assert kept() == MANY - 10
    pass_time(3600)
    write_anything(full)
    assert kept() == MANY - 20


def test_to_see_what_is_too_much_nobody_looks_at_all(
    few_and_many: tuple[SqliteStore, SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_past, "COUNT_AFTER", 1)
    few, many = few_and_many
    with many._file.writing() as db:
        db.execute("UPDATE past SET login = 'bob'")
        db.execute("UPDATE event SET login = 'bob'")
    assert _of_an_end(many, 0) < 1.3 * _of_an_end(few, 0)


def test_a_page_costs_the_same_however_much_has_happened(
    few_and_many: tuple[SqliteStore, SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_archive, "MAX_COUNT", 100)
    _, many = few_and_many
    for call, most in (
        (lambda: many.archive.count(Span(None)), 200),
        (lambda: many.archive.find(Span(None), 0, 100, True), 500),
        (lambda: many.archive.events(None, 100, EventSpan("alice", 4_000_000, 4_100_000)), 500),
        (lambda: many.archive.events(None, 100, EventSpan(None, 4_000_000, None, True)), 500),
    ):
        assert _work(many, call) < most
