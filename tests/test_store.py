"""The store's contract, run against each implementation, and below it what only the SQLite store has to stand."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest

from fastx_list.session import MAX_PARAMS, MAX_PARAMS_BYTES, ParamsError, Session, encode, to_json
from fastx_list.store import HISTORY_SECONDS, Changes, Record, SnapshotNeeded, Store, StoreError, open_store, sqlite
from tests.support import needs_root

SPAWN = multiprocessing.get_context("spawn")  # processes of their own: none shares an open database with its parent
NOW = 1_700_000_000
FAR = 2**40  # an expiry that no clock reaches here: what has expired may be forgotten before it was seen
NOBODY = 65534
PATIENCE = 60.0  # seconds until a test gives up on what should happen at once


class OpenStore(Protocol):
    """Opens the store under test once more, as another process would."""

    def __call__(self, *, create: bool = True) -> Store: ...


@pytest.fixture(params=["sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store that does not exist yet. One more implementation is one more param here."""
    return {"sqlite": _url(tmp_path / "sessions.db")}[request.param]


@pytest.fixture
def opened(url: str) -> Iterator[OpenStore]:
    stores: list[Store] = []

    def open_again(*, create: bool = True) -> Store:
        stores.append(open_store(url, create=create))
        return stores[-1]

    yield open_again
    for each in stores:
        each.close()


@pytest.fixture
def store(opened: OpenStore) -> Store:
    return opened()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the SQLite store of :func:`opened` keeps its file."""
    return tmp_path / "sessions.db"


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the wall clock of the store, and nobody else's."""
    clock = SimpleNamespace(now=float(NOW))
    times = SimpleNamespace(time=lambda: clock.now, monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr(sqlite, "time", times)

    def forward(seconds: float) -> None:
        clock.now += seconds

    return forward


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Processes of their own, kept over the tests because each takes a while to start."""
    with ProcessPoolExecutor(4, mp_context=SPAWN) as pool:
        yield pool


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """A directory that every user may pass through, unlike those of tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def _url(path: Path) -> str:
    return f"sqlite:///{path}"


def _session(number: int = 1, server_id: str = "s1", login: str = "alice", **facts: Any) -> Session:
    return Session(id=f"{server_id}-{number}", login=login, server_id=server_id, hostname="host", **facts)


def _view(*sessions: Session) -> dict[str, Session]:
    return {session.id: session for session in sessions}


def _running(store: Store) -> dict[str, Any]:
    return {record.id: json.loads(record.text or "null") for record in store.snapshot().records}


def _params(store: Store, session_id: str = "s1-1") -> Any:
    return _running(store)[session_id]["params"]


def _in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function`` in a process that is not used again; what it raises is raised here."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(function, *arguments).result(PATIENCE)


# What there is, and what observe does with it.


def test_opening_a_store_touches_nothing(opened: OpenStore, database: Path) -> None:
    opened()
    assert not database.exists()


def test_a_new_store_is_empty(store: Store) -> None:
    snapshot = store.snapshot()
    assert list(snapshot.records) == []
    assert dict(snapshot.revoked) == {}
    assert store.changes(snapshot.revision) is None


def test_it_writes_new_sessions(store: Store) -> None:
    one, two = _session(1, clients=2, started=5), _session(2, login="bob", params={"a": 1})
    store.observe("s1", _view(one, two))
    assert set(store.snapshot().records) == {
        Record("s1-1", "alice", "s1", encode(one, {})), Record("s1-2", "bob", "s1", encode(two, {"a": 1})),
    }


def test_it_writes_text_of_any_script(store: Store) -> None:
    session = _session(command='xterm -T "Ünïcode \N{PILE OF POO} \0 \\"', login="żółw")
    store.observe("s1", _view(session))
    assert _running(store)["s1-1"]["command"] == session.command
    assert store.set_params("s1-1", "żółw", {"ключ": "値"}) is not None
    assert _params(store) == {"ключ": "値"}


def test_it_writes_changed_sessions(store: Store) -> None:
    store.observe("s1", _view(_session(clients=0)))
    store.observe("s1", _view(_session(clients=1)))
    assert _running(store)["s1-1"]["clients"] == 1


def test_it_ends_the_sessions_that_are_missing(store: Store) -> None:
    store.observe("s1", _view(_session(1), _session(2)))
    before = store.snapshot().revision
    store.observe("s1", _view(_session(2)))
    assert _running(store).keys() == {"s1-2"}
    changes = store.changes(before)
    assert changes is not None
    assert list(changes.records) == [Record("s1-1", "alice", "s1", None)]


def test_an_empty_view_ends_all_sessions_of_the_server(store: Store) -> None:
    store.observe("s1", _view(_session(1), _session(2)))
    store.observe("s1", {})
    assert _running(store) == {}


def test_it_leaves_the_sessions_of_other_servers_alone(store: Store) -> None:
    store.observe("s1", _view(_session(1)))
    store.observe("s2", _view(_session(1, "s2")))
    store.observe("s1", {})
    assert _running(store).keys() == {"s2-1"}


def test_an_unchanged_view_writes_nothing(store: Store) -> None:
    store.observe("s1", _view(_session(1, params={"a": 1}), _session(2)))
    before = store.snapshot()
    store.observe("s1", _view(_session(1, params={"a": 1}), _session(2)))
    assert store.changes(before.revision) is None
    assert store.snapshot() == before


def test_it_writes_only_what_has_changed(store: Store) -> None:
    store.observe("s1", _view(_session(1), _session(2), _session(3)))
    before = store.snapshot().revision
    store.observe("s1", _view(_session(1), _session(2, clients=1), _session(3)))
    changes = store.changes(before)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-2"]
    assert changes.revision == before + 1


def test_a_view_is_taken_whole_or_not_at_all(store: Store) -> None:
    store.observe("s1", _view(_session(1), _session(2)))
    before = store.snapshot()
    # A number that JSON does not have cannot be written, and by then the two sessions in front of it have been.
    with pytest.raises(ValueError):
        store.observe("s1", _view(_session(2, clients=5), _session(3), _session(4, params={"x": math.nan})))
    assert store.snapshot() == before
    assert store.changes(before.revision) is None
    store.observe("s1", _view(_session(3)))
    assert _running(store).keys() == {"s1-3"}


def test_a_snapshot_holds_running_sessions_only(store: Store) -> None:
    store.observe("s1", _view(_session(1), _session(2)))
    store.observe("s1", _view(_session(2)))
    assert [record.text is None for record in store.snapshot().records] == [False]


# Params.


def test_params_of_a_new_session_are_those_it_was_started_with(store: Store) -> None:
    store.observe("s1", _view(_session(params={"pool": "gpu"})))
    assert _params(store) == {"pool": "gpu"}


@pytest.mark.parametrize("later", [{}, {"pool": "cpu"}, {"b": 2}])
def test_the_agent_never_overwrites_params(store: Store, later: dict[str, Any]) -> None:
    store.observe("s1", _view(_session(params={"pool": "gpu"})))
    store.set_params("s1-1", "alice", {"a": 1})
    store.observe("s1", _view(_session(params=later)))
    assert _params(store) == {"pool": "gpu", "a": 1}
    store.observe("s1", _view(_session(params=later, clients=1)))
    assert _params(store) == {"pool": "gpu", "a": 1}


def test_params_that_were_removed_stay_removed(store: Store) -> None:
    store.observe("s1", _view(_session(params={"pool": "gpu"})))
    store.set_params("s1-1", "alice", {"pool": None})
    store.observe("s1", _view(_session(params={"pool": "gpu"}, clients=1)))
    assert _params(store) == {}


def test_a_session_that_comes_back_after_its_end_has_only_the_params_it_was_started_with(store: Store) -> None:
    store.observe("s1", _view(_session(params={"pool": "gpu"})))
    store.set_params("s1-1", "alice", {"a": 1})
    store.observe("s1", {})
    store.observe("s1", _view(_session(params={"pool": "cpu"})))
    assert _params(store) == {"pool": "cpu"}


def test_params_are_merged(store: Store) -> None:
    store.observe("s1", _view(_session()))
    store.set_params("s1-1", "alice", {"a": 1, "b": {"x": 1}})
    store.set_params("s1-1", "alice", {"b": {"y": 2}, "c": [None]})
    assert _params(store) == {"a": 1, "b": {"y": 2}, "c": [None]}


def test_a_null_removes_a_param(store: Store) -> None:
    store.observe("s1", _view(_session(params={"a": 1, "b": 2})))
    store.set_params("s1-1", "alice", {"a": None, "never there": None})
    assert _params(store) == {"b": 2}


def test_set_params_returns_the_session_as_it_is_kept(store: Store) -> None:
    session = _session(clients=1, cpu_percentage=12.5, sharing=True)
    store.observe("s1", _view(session))
    text = store.set_params("s1-1", "alice", {"a": 1})
    assert text == encode(session, {"a": 1})
    assert [record.text for record in store.snapshot().records] == [text]


def test_set_params_is_one_change(store: Store) -> None:
    store.observe("s1", _view(_session(1), _session(2)))
    before = store.snapshot().revision
    text = store.set_params("s1-1", "alice", {"a": 1})
    assert store.changes(before) == Changes(before + 1, [Record("s1-1", "alice", "s1", text)], {})


@pytest.mark.parametrize("patch", [{}, {"a": 1}, {"b": None}])
def test_a_patch_that_changes_nothing_writes_nothing(store: Store, patch: dict[str, Any]) -> None:
    session = _session(params={"a": 1})
    store.observe("s1", _view(session))
    before = store.snapshot().revision
    assert store.set_params("s1-1", "alice", patch) == encode(session, {"a": 1})
    assert store.changes(before) is None


@pytest.mark.parametrize(("old", "new"), [(1, True), (True, 1), (False, 0), ({"x": 1}, {"x": True}), ([0], [False])])
def test_it_tells_values_apart_that_only_python_takes_for_equal(store: Store, old: Any, new: Any) -> None:
    store.observe("s1", _view(_session(params={"a": old})))
    text = store.set_params("s1-1", "alice", {"a": new})
    assert f'"params":{to_json({"a": new})}' in str(text)
    assert to_json(_params(store)) == to_json({"a": new})


@pytest.mark.parametrize(
    ("session_id", "login"), [("s1-1", "bob"), ("s1-9", "alice"), ("", "alice"), ("s1-1", ""), ("S1-1", "alice"), ("s1-1", "Alice")]
)
def test_params_of_a_session_that_is_not_the_logins_are_left_alone(store: Store, session_id: str, login: str) -> None:
    store.observe("s1", _view(_session()))
    before = store.snapshot()
    assert store.set_params(session_id, login, {"a": 1}) is None
    assert store.snapshot() == before


def test_params_of_a_session_that_has_ended_cannot_be_set(store: Store) -> None:
    store.observe("s1", _view(_session()))
    store.observe("s1", {})
    before = store.snapshot().revision
    assert store.set_params("s1-1", "alice", {"a": 1}) is None
    assert store.changes(before) is None


def test_a_session_takes_so_many_params_and_no_more(store: Store) -> None:
    store.observe("s1", _view(_session()))
    store.set_params("s1-1", "alice", {str(number): number for number in range(MAX_PARAMS - 1)})
    store.set_params("s1-1", "alice", {"last": 1})
    before = store.snapshot()
    with pytest.raises(ParamsError, match=str(MAX_PARAMS)):
        store.set_params("s1-1", "alice", {"one more": 1})
    assert store.snapshot() == before
    store.set_params("s1-1", "alice", {"last": None, "one more": 1})
    assert len(_params(store)) == MAX_PARAMS


@pytest.mark.parametrize("character", ["x", "é"])
def test_a_session_takes_so_many_bytes_of_params_and_no_more(store: Store, character: str) -> None:
    store.observe("s1", _view(_session()))
    room = MAX_PARAMS_BYTES - len('{"a":""}')
    store.set_params("s1-1", "alice", {"a": character * (room // len(character.encode()))})
    before = store.snapshot()
    assert len(to_json(_params(store)).encode()) == MAX_PARAMS_BYTES
    with pytest.raises(ParamsError, match=str(MAX_PARAMS_BYTES)):
        store.set_params("s1-1", "alice", {"a": character * (room // len(character.encode())) + "x"})
    with pytest.raises(ParamsError):
        store.set_params("s1-1", "alice", {"b": ""})
    assert store.snapshot() == before


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", {"\ud800": 1}])
def test_params_that_have_no_json_form_are_refused(store: Store, value: Any) -> None:
    store.observe("s1", _view(_session()))
    before = store.snapshot()
    with pytest.raises(ParamsError):
        store.set_params("s1-1", "alice", {"a": value})
    assert store.snapshot() == before


# Revocations.


def test_a_revocation_is_a_change_and_in_the_snapshot(store: Store) -> None:
    store.observe("s1", _view(_session()))
    before = store.snapshot().revision
    store.revoke("token", NOW)
    assert store.changes(before) == Changes(before + 1, [], {"token": NOW})
    assert dict(store.snapshot().revoked) == {"token": NOW}


def test_a_token_can_be_revoked_twice(store: Store) -> None:
    store.revoke("token", 2**53 - 2)
    before = store.snapshot().revision
    store.revoke("token", 2**53 - 1)
    changes = store.changes(before)
    assert changes is not None
    assert dict(changes.revoked) == {"token": 2**53 - 1}
    assert dict(store.snapshot().revoked) == {"token": 2**53 - 1}


def test_a_revocation_is_kept_until_its_token_has_expired_and_then_forgotten(
    store: Store, pass_time: Callable[[float], None]
) -> None:
    store.revoke("soon", NOW + 10)
    store.revoke("later", NOW + 1000)
    pass_time(9)
    store.observe("s1", {})
    assert store.snapshot().revoked.keys() == {"soon", "later"}
    pass_time(2)
    store.observe("s1", {})
    assert store.snapshot().revoked.keys() == {"later"}


# Changes.


def test_there_are_no_changes_after_the_last_one(store: Store) -> None:
    store.observe("s1", _view(_session()))
    revision = store.snapshot().revision
    for _ in range(3):
        assert store.changes(revision) is None


def test_changes_come_in_the_order_in_which_they_were_written(store: Store) -> None:
    start = store.snapshot().revision
    store.observe("s1", _view(_session(2)))
    store.observe("s2", _view(_session(1, "s2")))
    store.observe("s1", _view(_session(2), _session(1)))
    store.observe("s2", {})
    store.set_params("s1-2", "alice", {"a": 1})
    changes = store.changes(start)
    assert changes is not None
    # A session stands where it was last changed, and once.
    assert [(record.id, record.text is None) for record in changes.records] == [("s1-1", False), ("s2-1", True), ("s1-2", False)]


def test_a_session_that_ended_and_came_back_is_running(store: Store) -> None:
    store.observe("s1", _view(_session()))
    before = store.snapshot().revision
    store.observe("s1", {})
    store.observe("s1", _view(_session(clients=3)))
    changes = store.changes(before)
    assert changes is not None
    assert list(changes.records) == [Record("s1-1", "alice", "s1", encode(_session(clients=3), {}))]
    assert _running(store)["s1-1"]["clients"] == 3


def test_a_store_sees_what_it_has_written_itself(store: Store) -> None:
    revision = store.snapshot().revision
    for number in range(3):
        store.observe("s1", _view(_session(clients=number)))
        changes = store.changes(revision)
        assert changes is not None
        assert json.loads(str(changes.records[0].text))["clients"] == number
        revision = changes.revision
        assert store.changes(revision) is None


def test_a_store_sees_what_another_has_written(opened: OpenStore) -> None:
    writer, reader = opened(), opened()
    revision = reader.snapshot().revision
    for number in range(3):
        assert reader.changes(revision) is None
        writer.observe("s1", _view(_session(clients=number)))
        changes = reader.changes(revision)
        assert changes is not None
        assert json.loads(str(changes.records[0].text))["clients"] == number
        revision = changes.revision


def test_two_readers_do_not_take_changes_from_each_other(opened: OpenStore) -> None:
    writer, readers = opened(), [opened(), opened()]
    starts = [reader.snapshot().revision for reader in readers]
    writer.observe("s1", _view(_session()))
    for reader, start in zip(readers, starts, strict=True):
        changes = reader.changes(start)
        assert changes is not None
        assert [record.id for record in changes.records] == ["s1-1"]


def test_changes_can_be_asked_for_from_any_revision(store: Store) -> None:
    revisions = [store.snapshot().revision]
    for number in range(5):
        store.observe("s1", _view(*(_session(each) for each in range(number + 1))))
        revisions.append(store.snapshot().revision)
    for start in (5, 0, 3, 1, 4, 2):
        changes = store.changes(revisions[start])
        assert [record.id for record in changes.records] if changes else [] == [f"s1-{number}" for number in range(start, 5)]


def test_changes_wait_no_longer_than_they_are_asked_to(store: Store) -> None:
    revision = store.snapshot().revision
    began = time.monotonic()
    assert store.changes(revision, timeout=0.1) is None
    assert 0.1 <= time.monotonic() - began < PATIENCE


def test_changes_that_are_waited_for_come_when_they_are_written(
    opened: OpenStore, url: str, processes: ProcessPoolExecutor
) -> None:
    reader = opened()
    revision = reader.snapshot().revision
    written = processes.submit(_write_once, url)
    changes = reader.changes(revision, timeout=PATIENCE)
    written.result(PATIENCE)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-1"]


def _write_once(url: str) -> None:
    store = open_store(url)
    store.observe("s1", _view(_session()))
    store.close()


def test_a_store_that_was_closed_opens_again(store: Store) -> None:
    store.observe("s1", _view(_session()))
    revision = store.snapshot().revision
    store.close()
    store.close()
    assert store.changes(revision) is None
    store.close()
    assert _running(store).keys() == {"s1-1"}
    store.close()
    assert store.set_params("s1-1", "alice", {"a": 1}) is not None
    store.close()
    changes = store.changes(revision)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-1"]


# History.


def test_an_end_is_told_as_long_as_history_is_kept(opened: OpenStore, pass_time: Callable[[float], None]) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", _view(_session()))
    revision = reader.snapshot().revision
    writer.observe("s1", {})
    pass_time(HISTORY_SECONDS)
    writer.observe("s1", {})
    changes = reader.changes(revision)
    assert changes is not None
    assert list(changes.records) == [Record("s1-1", "alice", "s1", None)]


def test_a_reader_that_has_fallen_off_the_history_needs_a_snapshot(opened: OpenStore, pass_time: Callable[[float], None]) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", _view(_session(1), _session(2)))
    revision = reader.snapshot().revision
    writer.observe("s1", _view(_session(2)))
    pass_time(HISTORY_SECONDS + 1)
    writer.observe("s1", _view(_session(2)))
    for _ in range(2):
        with pytest.raises(SnapshotNeeded):
            reader.changes(revision)
    snapshot = reader.snapshot()
    assert [record.id for record in snapshot.records] == ["s1-2"]
    assert reader.changes(snapshot.revision) is None
    writer.observe("s1", {})
    changes = reader.changes(snapshot.revision)
    assert changes is not None
    assert list(changes.records) == [Record("s1-2", "alice", "s1", None)]


def test_a_reader_that_saw_the_end_goes_on_when_it_is_forgotten(opened: OpenStore, pass_time: Callable[[float], None]) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", _view(_session(1)))
    writer.observe("s1", {})
    revision = reader.snapshot().revision
    pass_time(HISTORY_SECONDS + 1)
    writer.observe("s1", {})
    assert reader.changes(revision) is None
    writer.observe("s1", _view(_session(2)))
    changes = reader.changes(revision)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-2"]


def test_only_a_reader_that_would_miss_an_end_is_told_so(opened: OpenStore, pass_time: Callable[[float], None]) -> None:
    writer, behind, between = opened(), opened(), opened()
    writer.observe("s1", _view(_session(1), _session(2)))
    first = behind.snapshot().revision
    writer.observe("s1", _view(_session(2)))
    second = between.snapshot().revision
    pass_time(HISTORY_SECONDS - 10)
    writer.observe("s1", {})
    pass_time(11)
    writer.observe("s2", {})
    with pytest.raises(SnapshotNeeded):
        behind.changes(first)
    changes = between.changes(second)
    assert changes is not None
    assert list(changes.records) == [Record("s1-2", "alice", "s1", None)]


# Several processes.


def test_a_follower_sees_every_change_of_several_writers_once_and_in_order(
    opened: OpenStore, url: str, processes: ProcessPoolExecutor
) -> None:
    servers, steps = ["s1", "s2", "s3"], 25
    follower = opened()
    snapshot = follower.snapshot()
    seen: list[Record] = []
    revoked: list[str] = []
    revision = snapshot.revision
    # Each step touches sessions that no other step touches, so that no state is overtaken by a newer one before it is seen.
    for work in (_start_one_by_one, _end_one_by_one):
        writers = [processes.submit(work, url, server_id, steps) for server_id in servers]
        writers.append(processes.submit(_revoke_one_by_one, url, work.__name__, steps))
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            finished = all(writer.done() for writer in writers)  # asked first: what was written before is read below
            changes = follower.changes(revision, timeout=0 if finished else 0.05)
            if changes is not None:
                assert changes.revision == revision + len(changes.records) + len(changes.revoked)
                revision = changes.revision
                seen += changes.records
                revoked += changes.revoked
            elif finished:
                break
        for writer in writers:
            writer.result(0)  # raises what went wrong there, or that it has not come to an end
    for server_id in servers:
        mine = [(record.id, record.text is None) for record in seen if record.server_id == server_id]
        ids = [f"{server_id}-{number}" for number in range(steps)]
        assert mine == [(name, False) for name in ids] + [(name, True) for name in ids]
    assert sorted(revoked) == sorted(f"{work.__name__}-{n}" for work in (_start_one_by_one, _end_one_by_one) for n in range(steps))


def _start_one_by_one(url: str, server_id: str, steps: int) -> None:
    store = open_store(url)
    for number in range(steps):
        store.observe(server_id, _view(*(_session(each, server_id) for each in range(number + 1))))
    store.close()


def _end_one_by_one(url: str, server_id: str, steps: int) -> None:
    store = open_store(url)
    for number in range(steps):
        store.observe(server_id, _view(*(_session(each, server_id) for each in range(number + 1, steps))))
    store.close()


def _revoke_one_by_one(url: str, name: str, steps: int) -> None:
    store = open_store(url)
    for number in range(steps):
        store.revoke(f"{name}-{number}", FAR)
    store.close()


def test_no_reader_ever_sees_part_of_a_view(opened: OpenStore, url: str, processes: ProcessPoolExecutor) -> None:
    reader, follower = opened(), opened()
    snapshot = follower.snapshot()
    revision, followed = snapshot.revision, {record.id: record.text for record in snapshot.records}
    writer = processes.submit(_observe_rounds, url, 60)
    finished, give_up = False, time.monotonic() + PATIENCE
    while not finished and time.monotonic() < give_up:
        finished = writer.done()
        _assert_one_whole_round(_running(reader))
        changes = follower.changes(revision)
        if changes is not None:
            revision = changes.revision
            followed.update({record.id: record.text for record in changes.records})
            _assert_one_whole_round({name: json.loads(text) for name, text in followed.items() if text is not None})
    writer.result(0)
    assert {members["clients"] for members in _running(reader).values()} == {59}


def _round(number: int) -> dict[str, Session]:
    """Twenty sessions, of which each round ends one and starts one, all with the round's number on them."""
    return _view(*(_session(each, clients=number) for each in range(number, number + 20)))


def _assert_one_whole_round(running: Mapping[str, Any]) -> None:
    numbers = {members["clients"] for members in running.values()}
    assert len(numbers) <= 1
    for number in numbers:
        assert running.keys() == _round(number).keys()


def _observe_rounds(url: str, rounds: int) -> None:
    store = open_store(url)
    for number in range(rounds):
        store.observe("s1", _round(number))
    store.close()


def test_params_that_several_processes_set_at_once_are_all_kept(
    opened: OpenStore, url: str, processes: ProcessPoolExecutor
) -> None:
    store = opened()
    store.observe("s1", _view(_session()))
    writers = [processes.submit(_set_many_params, url, name, 12) for name in "abc"]
    writers.append(processes.submit(_observe_many_times, url, 30))
    for writer in writers:
        writer.result(PATIENCE)
    assert _params(store) == {f"{name}{number}": number for name in "abc" for number in range(12)}


def _set_many_params(url: str, name: str, count: int) -> None:
    store = open_store(url)
    for number in range(count):
        assert store.set_params("s1-1", "alice", {f"{name}{number}": number}) is not None
    store.close()


def _observe_many_times(url: str, count: int) -> None:
    store = open_store(url)
    for number in range(count):
        store.observe("s1", _view(_session(clients=number)))
    store.close()


def test_several_processes_can_make_the_store_at_once(tmp_path: Path, processes: ProcessPoolExecutor) -> None:
    for attempt in range(10):
        url = _url(tmp_path / f"{attempt}.db")
        at = time.monotonic() + 0.02  # one clock for all processes of a machine
        writers = [processes.submit(_make_store_at, at, url, f"s{number}") for number in range(4)]
        for writer in writers:
            writer.result(PATIENCE)
        store = open_store(url)
        assert _running(store).keys() == {"s0-1", "s1-1", "s2-1", "s3-1"}
        store.close()


def _make_store_at(at: float, url: str, server_id: str) -> None:
    store = open_store(url)
    while time.monotonic() < at:
        pass
    store.observe(server_id, _view(_session(1, server_id)))
    store.close()


def test_a_writer_killed_at_any_moment_leaves_a_readable_store_with_whole_views_only(opened: OpenStore, url: str) -> None:
    moments = random.Random(1)
    reader = opened()
    known = -1
    for _ in range(10):
        ours, theirs = SPAWN.Pipe(duplex=False)
        writer = SPAWN.Process(target=_observe_until_killed, args=(url, known + 1, theirs))
        writer.start()
        theirs.close()
        for _ in range(moments.randint(1, 20)):
            assert ours.poll(PATIENCE)
            known = ours.recv()
        time.sleep(moments.uniform(0, 0.003))  # waits for nothing: it only moves the kill to anywhere within a write
        writer.kill()
        writer.join(PATIENCE)
        writer.close()
        while ours.poll():
            try:
                known = ours.recv()
            except EOFError:
                break
        ours.close()
        for store in (reader, opened()):  # one that was open all the time, and one that has to recover what was left
            running = _running(store)
            _assert_one_whole_round(running)
            # A view that was confirmed is there; the one that was being written may be.
            assert {members["clients"] for members in running.values()} <= {known, known + 1}
            assert running
        known = max(members["clients"] for members in running.values())
        known += 1
        opened().observe("s1", _round(known))  # the dead process holds no lock


def _observe_until_killed(url: str, number: int, confirm: Pipe) -> None:
    store = open_store(url)
    while True:
        store.observe("s1", _round(number))
        confirm.send(number)
        number += 1


# What only SQLite has: a file, its locks, and its disk.


def test_readers_go_on_while_a_writer_holds_the_lock(opened: OpenStore, database: Path) -> None:
    reader = opened()
    reader.observe("s1", _view(_session()))
    revision = reader.snapshot().revision
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE session SET text = NULL")
    try:
        assert reader.changes(revision) is None
        for store in (reader, opened()):
            assert _running(store).keys() == {"s1-1"}
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_writer_waits_for_another_and_then_gives_up(
    opened: OpenStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    store = opened()
    store.observe("s1", _view(_session()))
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreError, match=str(database)):
            store.observe("s1", {})
        assert _running(store).keys() == {"s1-1"}
    finally:
        other.execute("ROLLBACK")
        other.close()
    store.observe("s1", {})
    assert _running(store) == {}


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_store_that_another_process_is_just_making_is_waited_for(opened: OpenStore, database: Path, lock: str) -> None:
    other = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    other.execute(lock)
    release = threading.Timer(0.2, other.execute, ["COMMIT"])  # the wait itself cannot be seen from here
    release.start()
    try:
        assert list(opened().snapshot().records) == []
    finally:
        release.join()
        other.close()


def _remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _copy(database: Path, to: Path) -> None:
    source, target = sqlite3.connect(database), sqlite3.connect(to)
    source.backup(target)
    source.close()
    target.close()


def _restore(copy: Path, database: Path) -> None:
    """Put ``copy`` in the place of ``database``, as an administrator does who moves it there."""
    _remove(database)
    shutil.copy(copy, database.with_name("new"))
    os.replace(database.with_name("new"), database)


def test_a_reader_of_a_store_that_was_removed_needs_a_snapshot(opened: OpenStore, database: Path) -> None:
    reader = opened()
    reader.observe("s1", _view(_session(1), _session(2)))
    revision = reader.snapshot().revision
    _remove(database)
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)
    assert _running(reader) == {}


def test_a_store_that_was_removed_is_made_anew_by_the_next_writer(opened: OpenStore, database: Path) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", _view(_session(1)))
    revision = reader.snapshot().revision
    _remove(database)
    # More is written to the new one than the old one ever held, so the reader's revision exists in both.
    for number in range(10):
        writer.observe("s1", _view(_session(2, clients=number)))
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)
    assert _running(reader).keys() == {"s1-2"}


def test_a_snapshot_is_of_the_store_that_is_there_now(opened: OpenStore, database: Path) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", _view(_session(1)))
    reader.snapshot()
    _remove(database)
    writer.observe("s1", _view(_session(2)))
    assert _running(reader).keys() == {"s1-2"}


def test_a_reader_that_found_no_store_for_a_while_needs_a_snapshot(opened: OpenStore, database: Path) -> None:
    writer, reader = opened(), opened(create=False)
    writer.observe("s1", _view(_session(1)))
    revision = reader.snapshot().revision
    _remove(database)
    with pytest.raises(StoreError):
        reader.changes(revision)
    with pytest.raises(StoreError):
        reader.snapshot()
    for number in range(10):
        writer.observe("s1", _view(_session(2, clients=number)))
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)


def test_a_reader_that_found_a_corrupt_store_for_a_while_needs_a_snapshot(opened: OpenStore, database: Path) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", _view(_session(1)))
    revision = reader.snapshot().revision
    writer.close()
    reader.close()
    _remove(database)
    database.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError):
        reader.changes(revision)
    _remove(database)
    for number in range(10):
        writer.observe("s1", _view(_session(2, clients=number)))
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)


def test_a_reader_that_also_writes_needs_a_snapshot_of_a_store_that_was_made_anew(opened: OpenStore, database: Path) -> None:
    agent, web = opened(), opened()
    agent.observe("s1", _view(_session(1)))
    revision = web.snapshot().revision
    _remove(database)
    for number in range(10):
        agent.observe("s1", _view(_session(2, clients=number)))
    assert web.set_params("s1-2", "alice", {"a": 1}) is not None
    with pytest.raises(SnapshotNeeded):
        web.changes(revision)


@pytest.mark.parametrize("more", [0, 1, 10])
def test_a_reader_of_a_store_that_was_restored_from_an_older_copy_needs_a_snapshot(
    opened: OpenStore, database: Path, tmp_path: Path, more: int
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", _view(_session(1), _session(2)))
    _copy(database, tmp_path / "copy")
    writer.observe("s1", _view(_session(2), _session(3)))
    revision = reader.snapshot().revision
    _restore(tmp_path / "copy", database)
    for number in range(more):
        writer.observe("s1", _view(_session(1), _session(2, clients=number)))
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)
    assert _running(reader).keys() == {"s1-1", "s1-2"}


def test_a_writer_goes_on_in_a_store_that_was_restored(opened: OpenStore, database: Path, tmp_path: Path) -> None:
    writer = opened()
    writer.observe("s1", _view(_session(1), _session(2)))
    _copy(database, tmp_path / "copy")
    writer.observe("s1", _view(_session(3)))
    _restore(tmp_path / "copy", database)
    writer.observe("s1", _view(_session(2), _session(3)))
    assert _running(opened()).keys() == {"s1-2", "s1-3"}


def test_a_store_that_was_restored_in_place_sends_readers_back_to_a_snapshot(
    opened: OpenStore, database: Path, tmp_path: Path
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", _view(_session(1), _session(2)))
    _copy(database, tmp_path / "copy")
    writer.observe("s1", _view(_session(2), _session(3)))
    revision = reader.snapshot().revision
    _copy(tmp_path / "copy", database)  # into the same file, under open connections, as sqlite3's .restore does
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)
    assert _running(reader).keys() == {"s1-1", "s1-2"}


# What cannot be used, and what is said then.


def _drop_rights() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _errors_without_rights(url: str) -> list[str]:
    _drop_rights()
    return _errors(open_store(url))


def _errors(store: Store) -> list[str]:
    """Return what each method says when the store cannot be used at all."""
    said = []
    calls: list[Callable[[], object]] = [
        store.snapshot, lambda: store.changes(0), lambda: store.observe("s1", _view(_session())),
        lambda: store.set_params("s1-1", "alice", {"a": 1}), lambda: store.revoke("token", NOW),
    ]
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call()
        said.append(str(caught.value))
    store.close()
    return said


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_directory_without_permission_is_named(public_dir: Path, mode: int) -> None:
    directory = public_dir / "closed"
    directory.mkdir()
    directory.chmod(mode)
    try:
        for said in _in_new_process(_errors_without_rights, _url(directory / "sessions.db")):
            assert str(directory / "sessions.db") in said
    finally:
        directory.chmod(0o700)


def test_a_directory_that_cannot_be_made_is_named(public_dir: Path) -> None:
    (public_dir / "closed").mkdir(mode=0o500)
    path = public_dir / "closed" / "state" / "sessions.db"
    for said in _in_new_process(_errors_without_rights, _url(path)):
        assert str(path) in said


def test_a_store_of_someone_else_is_named(public_dir: Path) -> None:
    needs_root()
    path = public_dir / "sessions.db"
    store = open_store(_url(path))
    store.observe("s1", {})
    store.close()
    for said in _in_new_process(_errors_without_rights, _url(path)):
        assert str(path) in said


def test_a_file_that_is_no_database_is_named(opened: OpenStore, database: Path) -> None:
    database.write_bytes(b"no database at all\n" * 1000)
    before = database.read_bytes()
    for said in _errors(opened()):
        assert str(database) in said
    assert database.read_bytes() == before


def test_a_directory_in_the_databases_place_is_named(opened: OpenStore, database: Path) -> None:
    database.mkdir()
    for said in _errors(opened()):
        assert str(database) in said


def test_a_database_with_broken_pages_is_named(opened: OpenStore, database: Path) -> None:
    store = opened()
    store.observe("s1", _view(*(_session(number) for number in range(50))))
    store.close()
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(4096)  # the header stays whole, and every page behind it is rubbish
        file.write(random.Random(1).randbytes(size - 4096))
    with pytest.raises(StoreError, match=str(database)):
        opened().snapshot()
    with pytest.raises(StoreError, match=str(database)):
        opened().observe("s1", {})


def test_a_database_of_a_newer_version_is_named_and_left_alone(opened: OpenStore, database: Path) -> None:
    store = opened()
    store.observe("s1", _view(_session()))
    store.close()
    other = sqlite3.connect(database)
    other.execute(f"PRAGMA user_version = {sqlite.VERSION + 1}")
    other.close()
    before = database.read_bytes()
    for said in _errors(opened()):
        assert str(database) in said
        assert "newer" in said
    assert database.read_bytes() == before


def test_a_store_that_must_exist_and_does_not_is_named_and_not_made(opened: OpenStore, database: Path) -> None:
    for said in _errors(opened(create=False)):
        assert str(database) in said
    assert not database.exists()


def test_a_store_that_must_exist_is_found_when_it_has_been_made(opened: OpenStore) -> None:
    reader = opened(create=False)
    with pytest.raises(StoreError):
        reader.snapshot()
    opened().observe("s1", _view(_session()))
    assert _running(reader).keys() == {"s1-1"}


def test_a_store_can_be_used_again_when_what_was_wrong_is_gone(opened: OpenStore, database: Path) -> None:
    database.write_bytes(b"no database at all\n" * 1000)
    store = opened()
    _errors(store)
    _remove(database)
    store.observe("s1", _view(_session()))
    assert _running(store).keys() == {"s1-1"}


def _big_view() -> dict[str, Session]:
    return _view(*(_session(number, command="x" * 4000) for number in range(500)))


def _observe_over_a_limit(url: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Observe more than a file may hold; return what was said, and what this process can read then and after closing."""
    store = open_store(url)
    revision = store.snapshot().revision
    # To a writer this is a disk without room: SQLite gets an error in the midst of its transaction.
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, resource.RLIM_INFINITY))
    with pytest.raises(StoreError) as caught:
        store.observe("s1", _big_view())
    assert store.changes(revision) is None
    running = _running(store)
    store.close()
    again = _running(store)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.observe("s1", _big_view())
    store.close()
    return str(caught.value), running, again


def test_a_disk_without_room_leaves_the_last_state_readable(opened: OpenStore, url: str, database: Path) -> None:
    store = opened()
    store.observe("s1", _view(_session(1), _session(2)))
    revision, before = store.snapshot().revision, _running(store)
    said, running, again = _in_new_process(_observe_over_a_limit, url)
    assert str(database) in said
    assert running == again == before
    changes = store.changes(revision)  # once there is room again, the next observation is taken
    assert changes is not None
    assert _running(store).keys() == _big_view().keys()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root, and a kernel that lets it")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_file_system_leaves_the_last_state_readable(tiny_disk: Path) -> None:
    database = tiny_disk / "sessions.db"
    store, reader = open_store(_url(database)), open_store(_url(database))
    store.observe("s1", _view(_session(1), _session(2)))
    revision, before = reader.snapshot().revision, _running(reader)
    filler = tiny_disk / "filler"
    with pytest.raises(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(StoreError, match=str(database)):
        store.observe("s1", _view(*(_session(number, command="x" * 4000) for number in range(20))))
    assert reader.changes(revision) is None
    assert _running(reader) == _running(store) == before
    filler.unlink()
    store.observe("s1", _view(_session(2), _session(3)))
    assert _running(reader).keys() == {"s1-2", "s1-3"}
    store.close()
    reader.close()


# Whose the files are.


def _files(database: Path) -> list[Path]:
    return [database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm")]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_the_files(opened: OpenStore, database: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        opened().observe("s1", _view(_session()))
    finally:
        os.umask(before)
    for file in _files(database):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_state_directory_that_is_made_is_closed_to_others(tmp_path: Path) -> None:
    store = open_store(_url(tmp_path / "made" / "here" / "sessions.db"))
    store.observe("s1", {})
    store.close()
    assert stat.S_IMODE((tmp_path / "made" / "here").stat().st_mode) == 0o700


def test_what_root_makes_belongs_to_the_owner_of_the_directory(public_dir: Path) -> None:
    needs_root()
    directory = public_dir / "state"
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)
    store = open_store(_url(directory / "sessions.db"))
    store.observe("s1", _view(_session()))
    for file in _files(directory / "sessions.db"):
        assert (file.stat().st_uid, file.stat().st_gid) == (NOBODY, NOBODY), file
    # So the service that owns the directory can use the store, while root has it open and afterwards.
    assert _in_new_process(_set_params_without_rights, _url(directory / "sessions.db"), 1) is not None
    store.close()
    assert _in_new_process(_set_params_without_rights, _url(directory / "sessions.db"), 2) is not None
    assert _params(store) == {"a": 2}
    store.close()


def _set_params_without_rights(url: str, value: int) -> str | None:
    _drop_rights()
    store = open_store(url)
    text = store.set_params("s1-1", "alice", {"a": value})
    store.close()
    return text
