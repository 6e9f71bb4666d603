"""SQLite stores that cannot be used, and what is said then."""

from __future__ import annotations

import os
import random
import resource
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastx_list.model.session import Session
from fastx_list.store import Revision, Store, StoreError, open_store, sqlite_file
from tests.store.common import (
    NOW,
    OpenStore,
    address,
    by_id,
    drop_rights,
    in_new_process,
    make_session,
    remove,
    running_in,
)
from tests.support import needs_root


@pytest.fixture
def url(database: Path) -> str:
    return address(database)


def _errors_without_rights(url: str) -> list[str]:
    store = open_store(url)  # its modules may lie where only root can read
    drop_rights()
    return _errors(store)


def _errors(store: Store) -> list[str]:
    """Return what each method says when the store cannot be used at all."""
    said = []
    calls: list[Callable[[], object]] = [
        store.snapshot,
        lambda: store.changes(Revision(0, "")),
        lambda: store.observe("s1", by_id(make_session())),
        lambda: store.set_params("s1-1", "alice", {"a": 1}),
        lambda: store.revoke({"token": NOW}),
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
        for said in in_new_process(_errors_without_rights, address(directory / "sessions.db")):
            assert str(directory / "sessions.db") in said
    finally:
        directory.chmod(0o700)


def test_a_directory_that_cannot_be_made_is_named(public_dir: Path) -> None:
    (public_dir / "closed").mkdir(mode=0o500)
    path = public_dir / "closed" / "state" / "sessions.db"
    for said in in_new_process(_errors_without_rights, address(path)):
        assert str(path) in said


def test_a_store_of_someone_else_is_named(public_dir: Path) -> None:
    needs_root()
    path = public_dir / "sessions.db"
    store = open_store(address(path))
    store.observe("s1", {})
    store.close()
    for said in in_new_process(_errors_without_rights, address(path)):
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
    store.observe("s1", by_id(*(make_session(number) for number in range(50))))
    store.close()
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(4096)  # the header stays whole, and every page behind it is rubbish
        file.write(random.Random(1).randbytes(size - 4096))
    with pytest.raises(StoreError, match=str(database)):
        opened().snapshot()
    with pytest.raises(StoreError, match=str(database)):
        opened().observe("s1", {})


def test_a_database_of_a_newer_version_is_named_and_left_alone(
    opened: OpenStore, database: Path
) -> None:
    store = opened()
    store.observe("s1", by_id(make_session()))
    store.close()
    other = sqlite3.connect(database)
    other.execute(f"PRAGMA user_version = {sqlite_file.VERSION + 1}")
    other.close()
    before = database.read_bytes()
    for said in _errors(opened()):
        assert str(database) in said
        assert "newer" in said
    assert database.read_bytes() == before


def test_a_store_that_must_exist_and_does_not_is_named_and_not_made(
    opened: OpenStore, database: Path
) -> None:
    for said in _errors(opened(create=False)):
        assert str(database) in said
    assert not database.exists()


def test_a_store_that_must_exist_is_found_when_it_has_been_made(opened: OpenStore) -> None:
    reader = opened(create=False)
    with pytest.raises(StoreError):
        reader.snapshot()
    opened().observe("s1", by_id(make_session()))
    assert running_in(reader).keys() == {"s1-1"}


def test_a_store_can_be_used_again_when_what_was_wrong_is_gone(
    opened: OpenStore, database: Path
) -> None:
    database.write_bytes(b"no database at all\n" * 1000)
    store = opened()
    _errors(store)
    remove(database)
    store.observe("s1", by_id(make_session()))
    assert running_in(store).keys() == {"s1-1"}


def _many_sessions() -> dict[str, Session]:
    return by_id(*(make_session(number, command="x" * 4000) for number in range(500)))


def _observe_over_a_limit(url: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Observe more than a file may hold; return what was said, and what this process can read then
    and after closing."""
    store = open_store(url)
    revision = store.snapshot().revision
    # To a writer this is a disk without room: SQLite gets an error in the midst of its transaction.
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, resource.RLIM_INFINITY))
    with pytest.raises(StoreError) as caught:
        store.observe("s1", _many_sessions())
    assert store.changes(revision) is None
    running = running_in(store)
    store.close()
    again = running_in(store)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.observe("s1", _many_sessions())
    store.close()
    return str(caught.value), running, again


def test_a_disk_without_room_leaves_the_last_state_readable(
    opened: OpenStore, url: str, database: Path
) -> None:
    store = opened()
    store.observe("s1", by_id(make_session(1), make_session(2)))
    revision, before = store.snapshot().revision, running_in(store)
    said, running, again = in_new_process(_observe_over_a_limit, url)
    assert str(database) in said
    assert running == again == before
    changes = store.changes(revision)  # once there is room again, the next observation is taken
    assert changes is not None
    assert running_in(store).keys() == _many_sessions().keys()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "none", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root, and a kernel that lets it")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_file_system_leaves_the_last_state_readable(tiny_disk: Path) -> None:
    database = tiny_disk / "sessions.db"
    store, reader = open_store(address(database)), open_store(address(database))
    store.observe("s1", by_id(make_session(1), make_session(2)))
    revision, before = reader.snapshot().revision, running_in(reader)
    filler = tiny_disk / "filler"
    with pytest.raises(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(StoreError, match=str(database)):
        store.observe(
            "s1", by_id(*(make_session(number, command="x" * 4000) for number in range(20)))
        )
    assert reader.changes(revision) is None
    assert running_in(reader) == running_in(store) == before
    filler.unlink()
    store.observe("s1", by_id(make_session(2), make_session(3)))
    assert running_in(reader).keys() == {"s1-2", "s1-3"}
    store.close()
    reader.close()
