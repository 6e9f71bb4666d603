"""Whose the files of a SQLite store are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fastx_list.store import open_store
from tests.store.common import (
    NOBODY,
    OpenStore,
    address,
    by_id,
    drop_rights,
    in_new_process,
    make_session,
    params_in,
)
from tests.support import needs_root


@pytest.fixture
def url(database: Path) -> str:
    return address(database)


def _files(database: Path) -> list[Path]:
    return [database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm")]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_the_files(opened: OpenStore, database: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        opened().observe("s1", by_id(make_session()))
    finally:
        os.umask(before)
    for file in _files(database):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_state_directory_that_is_made_is_closed_to_others(tmp_path: Path) -> None:
    store = open_store(address(tmp_path / "made" / "here" / "sessions.db"))
    store.observe("s1", {})
    store.close()
    assert stat.S_IMODE((tmp_path / "made" / "here").stat().st_mode) == 0o700


def test_what_root_makes_belongs_to_the_owner_of_the_directory(public_dir: Path) -> None:
    needs_root()
    directory = public_dir / "state"
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)
    store = open_store(address(directory / "sessions.db"))
    store.observe("s1", by_id(make_session()))
    for file in _files(directory / "sessions.db"):
        assert (file.stat().st_uid, file.stat().st_gid) == (NOBODY, NOBODY), file
    # So the service that owns the directory can use the store, while root has it open and
    # afterwards.
    assert (
        in_new_process(_set_params_without_rights, address(directory / "sessions.db"), 1)
        is not None
    )
    store.close()
    assert (
        in_new_process(_set_params_without_rights, address(directory / "sessions.db"), 2)
        is not None
    )
    assert params_in(store) == {"a": 2}
    store.close()


def _set_params_without_rights(url: str, value: int) -> str | None:
    store = open_store(url)  # its modules may lie where only root can read
    drop_rights()
    text = store.set_params("s1-1", "alice", {"a": value})
    store.close()
    return text
