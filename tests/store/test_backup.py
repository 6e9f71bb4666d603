"""What a backup holds, and what a restore adds to a store that goes on: run against each store."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from fastx_list.store import EditionLost, Store, StoreError, open_store, sqlite_order
from fastx_list.store import backup as backup_module
from fastx_list.store.archive import PastRecord, Span
from fastx_list.store.backup import BackupError, Counts, back_up, restore
from fastx_list.store.division import UNFINISHED
from tests.redis_server import RedisServer
from tests.store.common import (
    FAR,
    SHORT,
    OpenStore,
    address,
    by_id,
    make_lease,
    make_server,
    make_session,
    params_in,
    running_in,
    until_it_ran_out,
    write_anything,
)


@pytest.fixture
def other(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    """A store of the other kind, which is empty."""
    if url.startswith("sqlite"):
        server: RedisServer = request.getfixturevalue("shared_redis")
        return open_store(f"{server.socket_url}?prefix={secrets.token_hex(8)}")
    return open_store(address(tmp_path / "other.db"))


def _fill(store: Store) -> None:
    store.observe("s1", by_id(make_session(1, started=5), make_session(2)), make_lease())
    store.observe("s2", by_id(make_session(1, "s2")), make_lease("two", seconds=SHORT))
    for name in ("s1-1", "s2-1"):
        store.set_params(name, "alice", {"name": name})
    store.revoke({"token": FAR})
    until_it_ran_out(store, "s2-1")


@pytest.mark.programs
def test_a_store_of_the_other_kind_gets_all_that_agents_cannot_find_out(
    store: Store, other: Store
) -> None:
    _fill(store)
    text, counts = back_up(store)
    assert counts == Counts(3, 1, 1)
    assert restore(other, text) == Counts(3, 1, 1)
    assert dict(other.snapshot().revoked) == {"token": FAR}
    assert running_in(other) == {}  # who runs, agents say
    recalled = {each.id: json.loads(str(each.text)) for each in other.recall("s1")}
    assert recalled["s1-1"]["started"] == 5
    other.observe("s1", by_id(make_session(1, started=5)), make_lease())
    other.observe("s2", by_id(make_session(1, "s2")), make_lease())
    assert params_in(other) == {"name": "s1-1"}
    assert params_in(other, "s2-1") == {"name": "s2-1"}
    assert running_in(other).keys() == {"s1-1", "s2-1"}
    other.close()


def test_what_a_user_writes_into_params_ends_no_line_of_a_backup(store: Store) -> None:
    told = "".join(map(chr, (*range(0x20), 0x7F, 0x85, 0x2028, 0x2029)))
    store.observe("s1", by_id(make_session(1)), make_lease())
    store.set_params("s1-1", "alice", {told: told})
    store.revoke({"token": FAR})
    text, counts = back_up(store)
    assert text.count("\n") == 4 and counts.sessions == 1
    store.set_params("s1-1", "alice", {told: None})
    assert restore(store, text).sessions == 1
    assert params_in(store) == {told: told}


def test_what_was_done_since_the_backup_stays(store: Store) -> None:
    _fill(store)
    text, _ = back_up(store)
    store.set_params("s1-1", "alice", {"name": "later", "more": 1})
    store.revoke({"later": FAR, "token": FAR + 5})
    store.observe("s1", by_id(make_session(1), make_session(3)), make_lease())
    held, edition = store.holder("s1"), store.edition("s1")
    restore(store, text)
    assert dict(store.snapshot().revoked) == {"token": FAR + 5, "later": FAR}
    assert running_in(store).keys() == {"s1-1", "s1-3"}
    assert params_in(store) == {"name": "later", "more": 1}
    assert store.holder("s1") == held
    # Its agent is to write once more, as the backup has sessions that it has not
    assert store.edition("s1") == f"{edition}{UNFINISHED}"


def test_an_agent_that_runs_soon_forgets_what_has_ended_since_the_backup(
    store: Store, other: Store
) -> None:
    """One that starts and cannot look yet would take it for what runs."""
    _fill(store)
    text, _ = back_up(store)
    for one in (store, other):
        running = by_id(make_session(1))
        edition = one.observe("s1", running, make_lease())
        restore(one, text)
        assert one.edition("s1") != edition  # so it writes once more
        with pytest.raises(EditionLost):
            one.heartbeat(make_server("s1"), make_lease(), edition)
        again = one.observe("s1", running, make_lease())
        assert one.heartbeat(make_server("s1"), make_lease(), again) is None
        assert {record.id for record in one.recall("s1")} == {"s1-1"}
        assert {record.id for record in one.recall("s2")} == {"s2-1"}
    other.close()


def test_a_store_that_is_older_than_the_backup_gets_params_of_what_began_in_between(
    store: Store, other: Store
) -> None:
    other.observe("s1", by_id(make_session(2)), make_lease())
    _fill(store)
    restore(other, back_up(store)[0])
    other.observe("s1", by_id(make_session(1), make_session(2)), make_lease())
    assert params_in(other) == {"name": "s1-1"}
    other.close()


def test_params_that_were_lost_come_back_to_sessions_that_run(
    store: Store, opened: OpenStore
) -> None:
    _fill(store)
    text, _ = back_up(store)
    reader = opened()
    store.set_params("s1-1", "alice", {"name": None, "new": 1})
    revision = reader.snapshot().revision
    assert restore(store, text) == Counts(1, 0)
    assert params_in(store) == {"name": "s1-1", "new": 1}
    changes = reader.changes(revision)  # no reader has to start over
    assert changes is not None and [each.id for each in changes.records] == ["s1-1"]
    assert restore(store, text) == Counts(0, 0)


def test_a_session_of_another_login_gets_no_params(store: Store) -> None:
    _fill(store)
    text, _ = back_up(store)
    store.observe("s1", by_id(make_session(1, login="bob")), make_lease())
    store.set_params("s1-1", "bob", {"name": None})
    restore(store, text)
    assert params_in(store) == {}


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: "",
        lambda text: "{}\n",
        lambda text: "\x00" + text,
        lambda text: text.replace('"version":2', '"version":3'),
        lambda text: text.replace('"version":2', '"version":0'),
        lambda text: "".join(text.splitlines(keepends=True)[:-1]),
        lambda text: "".join(text.splitlines(keepends=True)[:3]),
        lambda text: "".join(text.splitlines(keepends=True)[0::2]),
        lambda text: text + text.splitlines(keepends=True)[1],
        lambda text: text[: len(text) // 2],
        lambda text: text + "[" * 100_000,
    ],
)
def test_what_is_no_whole_backup_is_refused_before_anything_is_written(
    store: Store, harm: object
) -> None:
    _fill(store)
    text, _ = back_up(store)
    store.set_params("s1-1", "alice", {"name": None})
    before = store.snapshot().revision
    with pytest.raises(BackupError):
        restore(store, harm(text))  # type: ignore[operator]
    store.heartbeat(make_server(), make_lease())
    assert store.snapshot().revision.number == before.number + 1


@pytest.mark.parametrize("version", [0, 3])
def test_only_a_later_version_is_called_newer(store: Store, version: int) -> None:
    text, _ = back_up(store)
    with pytest.raises(BackupError) as caught:
        restore(store, text.replace('"version":2', f'"version":{version}'))
    assert ("newer" in str(caught.value)) == (version == 3)


def test_a_backup_that_was_cut_off_says_what_to_do(store: Store) -> None:
    _fill(store)
    text, _ = back_up(store)
    with pytest.raises(BackupError, match="copy it again"):
        restore(store, "".join(text.splitlines(keepends=True)[:-1]))


def test_a_backup_of_before_there_was_an_end_is_restored(store: Store, other: Store) -> None:
    _fill(store)
    text, counts = back_up(store)
    head, *lines, _ = text.splitlines(keepends=True)
    older = "".join([head.replace('"version":2', '"version":1'), *lines])
    assert restore(other, older) == counts
    other.close()


class _Meanwhile:
    """A store in which something else is done right after a method was called first."""

    def __init__(self, store: Store, method: str, act: Callable[[], object]) -> None:
        self._store = store
        self._method: str | None = method
        self._act = act

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*arguments: Any) -> Any:
            found = method(*arguments)
            if name == self._method:
                self._method = None
                self._act()
            return found

        return call if callable(method) else method


@pytest.mark.parametrize("method", ["snapshot", "remembered"])
def test_sessions_of_an_agent_that_comes_back_meanwhile_are_in_a_backup(
    store: Store, method: str
) -> None:
    _fill(store)

    def come_back() -> None:
        store.observe("s2", by_id(make_session(1, "s2")), make_lease("two"))

    meanwhile = cast(Store, _Meanwhile(store, method, come_back))
    text, counts = back_up(meanwhile)
    assert counts.sessions == 3 and '"s2-1"' in text


@pytest.mark.parametrize("method", ["snapshot", "remembered"])
def test_sessions_whose_lease_ends_meanwhile_are_in_a_backup(store: Store, method: str) -> None:
    store.observe("s2", by_id(make_session(1, "s2")), make_lease("two", seconds=SHORT))
    meanwhile = cast(Store, _Meanwhile(store, method, lambda: until_it_ran_out(store, "s2-1")))
    text, counts = back_up(meanwhile)
    assert counts.sessions == 1 and '"s2-1"' in text


def test_a_session_that_begins_during_a_restore_gets_its_params(store: Store, other: Store) -> None:
    _fill(store)
    text, _ = back_up(store)

    def begin() -> None:
        other.observe("s1", by_id(make_session(1, started=5), make_session(2)), make_lease())

    counts = restore(cast(Store, _Meanwhile(other, "snapshot", begin)), text)
    assert params_in(other) == {"name": "s1-1"} and counts.sessions == 2
    other.close()


def test_a_store_that_is_not_there_is_not_backed_up(opened: OpenStore, url: str) -> None:
    if url.startswith("sqlite"):
        with pytest.raises(StoreError):
            back_up(opened(create=False))


def _history(store: Store) -> list[PastRecord]:
    return store.archive.read(store.archive.find(Span(None), 0, 100, last_first=False))


@pytest.mark.programs
def test_a_store_of_the_other_kind_gets_the_history(store: Store, other: Store) -> None:
    ended = make_session(1, clients=1, last_connect=7, started=5, client_addresses=("::1",))
    store.observe("s1", by_id(ended, make_session(2), make_session(3, login="bob")), make_lease())
    store.observe("s1", by_id(make_session(2)), make_lease())
    before = [record for record in _history(store) if record.past.ended is not None]
    assert {record.id for record in before} == {"s1-1", "s1-3"}
    assert before[0].past.addresses
    text, counts = back_up(store)
    assert counts.past == 2
    other.observe("s1", by_id(make_session(2)), make_lease())
    place = other.archive.last_event()
    for added in (2, 0):
        assert restore(other, text).past == added
        assert [each for each in _history(other) if each.past.ended is not None] == before
    assert len(_history(other)) == 3
    assert other.archive.events(place, 100).events == []  # nobody is told of it again
    assert other.archive.find(Span("bob"), 0, 9, last_first=False) == ["s1-3"]
    assert other.archive.erase("bob") == 1 and restore(other, text).past == 1
    other.close()


def test_of_very_much_history_the_last_is_in_a_backup(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is too long to be restored would be none."""
    monkeypatch.setattr(backup_module, "divide", lambda ids: [[each] for each in ids])
    for number in range(1, 5):
        store.observe("s1", by_id(make_session(number)), make_lease())
    store.observe("s1", {}, make_lease())
    whole, counts = back_up(store)
    lines = [line for line in whole.splitlines() if line.startswith('{"past"')]
    assert counts.past == len(lines) == 4
    monkeypatch.setattr(backup_module, "MAX_PAST_BYTES", sum(map(len, lines)) - len(lines[0]) - 1)
    some, counts = back_up(store)
    assert counts.past == 2
    assert [line for line in some.splitlines() if line.startswith('{"past"')] == lines[2:]


def test_a_session_that_is_back_is_not_ended_by_a_restore(store: Store) -> None:
    store.observe("s1", by_id(make_session(1)), make_lease())
    store.observe("s1", {}, make_lease())
    text, counts = back_up(store)
    assert counts.past == 1
    store.observe("s1", by_id(make_session(1)), make_lease())
    assert restore(store, text).past == 0
    [record] = _history(store)
    assert record.past.ended is None


def test_what_is_restored_is_kept_no_longer_than_it_would_have_been(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_order, "FORGET_AFTER", 1)
    store.observe("s1", by_id(make_session(1)), make_lease())
    store.observe("s1", {}, make_lease())
    text, _ = back_up(store)
    old = re.sub(r'"age":[0-9]+', f'"age":{31 * 86_400}', text)
    assert old != text
    store.archive.erase("alice")
    assert restore(store, old).past == 1
    write_anything(store)
    assert _history(store) == []


@pytest.mark.parametrize("harm", ["NaN", "1e999", '"\\ud800"'])
def test_a_backup_with_what_no_store_takes_is_refused_before_anything_is_written(
    store: Store, other: Store, harm: str
) -> None:
    _fill(store)
    text, _ = back_up(store)
    for old in ('"name":"s1-1"', '"addresses":[]', '"revoked":"token"'):
        lying = text.replace(old, f"{old.partition(':')[0]}:{harm}", 1)
        assert lying != text
        with pytest.raises(BackupError, match="damaged in line"):
            restore(other, lying)
        assert not other.snapshot().revoked and not other.recall("s1")
    other.close()


@pytest.mark.parametrize("harm", ['"ended":null', '"ended":"x"', '"ended":-1', '"ended":1e300'])
def test_history_in_a_backup_that_is_none_is_left_out(store: Store, harm: str) -> None:
    store.observe("s1", by_id(make_session(1)), make_lease())
    store.observe("s1", {}, make_lease())
    text, _ = back_up(store)
    store.archive.erase("alice")
    assert restore(store, re.sub('"ended":[0-9]+', harm, text)).past == 0
