"""All that there is is read in parts, and is as it was at one moment all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from fastx_list.store import AT_ONCE, Changes, OrderLost, Store
from tests.redis_server import RedisServer
from tests.store.common import (
    FAR,
    OpenStore,
    Raw,
    by_id,
    make_lease,
    make_server,
    make_session,
    write_anything,
)

MANY = 3 * AT_ONCE + 10
TOKENS = 2 * AT_ONCE


@pytest.fixture
def copy(url: str, request: pytest.FixtureRequest) -> Callable[[], Callable[[], None]]:
    """Makes a copy of the store; what that returns puts it in the place of what is there."""
    if url.startswith("sqlite"):
        database: Path = request.getfixturevalue("database")

        def of_file() -> Callable[[], None]:
            kept = sqlite3.connect(":memory:")
            with sqlite3.connect(database) as source:
                source.backup(kept)

            def restore() -> None:
                with sqlite3.connect(database) as target:
                    kept.backup(target)

            return restore

        return of_file
    server: RedisServer = request.getfixturevalue("shared_redis")

    def of_keys() -> Callable[[], None]:
        raw = Raw(server.client(), url.rpartition("=")[2])
        kept = {key: raw.client.dump(key) for key in raw.all_keys()}

        def restore() -> None:
            raw.empty()
            for key, value in kept.items():
                raw.client.restore(key, 0, value)
            raw.client.close()

        return restore

    return of_keys


def read_on(reading: Generator[None, None, Changes]) -> Changes | None:
    """Read one part more; return all if it was the last one."""
    try:
        next(reading)
    except StopIteration as end:
        found: Changes = end.value
        return found
    return None


def fill(writer: Store) -> None:
    writer.observe("s1", by_id(*map(make_session, range(MANY))), make_lease())
    writer.heartbeat(make_server("s1"), make_lease())
    writer.revoke({f"token {number}": FAR for number in range(TOKENS)})


def test_very_much_is_read_in_parts_and_what_changes_between_them_is_in_it(
    opened: OpenStore,
) -> None:
    writer, reader = opened(), opened()
    fill(writer)
    reading, parts, found = reader.read_all(), 0, None
    while found is None:
        found, parts = read_on(reading), parts + 1
        changed = make_session(MANY - parts, clients=parts), make_session(parts, clients=parts)
        if parts == 2:
            writer.set_params("s1-7", "alice", {"a": 1})
            writer.revoke({"one more": FAR})
            writer.observe("s2", by_id(make_session(1, "s2")), make_lease())
        elif parts < 4:
            left = by_id(*map(make_session, range(10 * parts, MANY)), *changed)
            writer.observe("s1", left, make_lease())
    assert parts > MANY // AT_ONCE  # none has more than so many sessions
    later = reader.changes(found.revision)
    now = writer.snapshot()
    known = {record.id: record for record in found.records}
    for record in later.records if later is not None else ():
        known[record.id] = record
    assert {name: each for name, each in known.items() if each.text is not None} == {
        record.id: record for record in now.records
    }
    assert found.revoked == now.revoked and len(now.revoked) == TOKENS + 1
    assert {server.id for server in found.servers} == {"s1"}


def test_between_two_parts_the_reader_may_write_and_reads_that_as_well(opened: OpenStore) -> None:
    writer, reader = opened(), opened()
    fill(writer)
    reading = reader.read_all()
    assert read_on(reading) is None
    assert reader.set_params("s1-0", "alice", {"mine": 1}) is not None
    found = None
    while found is None:
        found = read_on(reading)
    [text] = [record.text for record in found.records if record.id == "s1-0"]
    assert text is not None and '"params":{"mine":1}' in text
    assert reader.changes(found.revision) is None


def test_a_store_that_becomes_an_older_one_between_two_parts_is_not_mixed_with_that(
    opened: OpenStore, copy: Callable[[], Callable[[], None]]
) -> None:
    """A session that had changed was left for the end; in the older store it never did."""
    writer, reader = opened(), opened()
    fill(writer)
    restore = copy()
    reading = reader.read_all()
    assert read_on(reading) is None
    changed = make_session(MANY - 1, clients=1)
    left = by_id(*map(make_session, range(MANY - 1)), changed)
    writer.observe("s1", left, make_lease())
    assert read_on(reading) is None
    restore()
    write_anything(writer)
    with pytest.raises(OrderLost):
        while read_on(reading) is None:
            pass
    assert len(reader.snapshot().records) == MANY
