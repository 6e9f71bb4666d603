from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastx_list.agent import directories as module
from fastx_list.agent.directories import Directories
from fastx_list.agent.door import Unanswered
from fastx_list.agent.signs import Change

CHANGED = {Change("a file of a directory", None)}


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    path.mkdir()
    return path


@pytest.fixture
def directories(spool: Path) -> Iterator[Directories]:
    directories = Directories([spool])
    directories.follow()
    yield directories
    directories.close()


def write(path: Path) -> None:
    path.write_text("{}", encoding="utf-8")


CHANGES: dict[str, Callable[[Path], object]] = {
    "is written": lambda spool: write(spool / "new.json"),
    "is put there": lambda spool: (spool.parent / "elsewhere").rename(spool / "new.json"),
    "is written anew": lambda spool: write(spool / "old.json"),
    "is taken away": lambda spool: (spool / "old.json").rename(spool.parent / "away"),
    "is removed": lambda spool: (spool / "old.json").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_is_told_once(spool: Path, change: str) -> None:
    write(spool / "old.json")
    write(spool.parent / "elsewhere")
    directories = Directories([spool])
    directories.follow()
    assert directories.changes() == set()
    CHANGES[change](spool)
    assert directories.changes() == CHANGED
    assert directories.changes() == set()
    directories.close()


def test_more_than_the_kernel_has_room_for_is_told_as_one_change(
    directories: Directories, spool: Path
) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    write(spool / "a")
    for _ in range(most // 4 + 1):
        (spool / "a").rename(spool / "b")
        (spool / "b").rename(spool / "a")
    told = 0
    while directories.changes() == CHANGED:
        told += 1
    assert 1 <= told <= 3
    write(spool / "later")
    assert directories.changes() == CHANGED


def test_a_directory_that_is_made_later_or_anew_is_followed(
    directories: Directories, spool: Path, tmp_path: Path
) -> None:
    for away in (lambda: spool.rename(tmp_path / "away"), (tmp_path / "away").rmdir, spool.rmdir):
        away()
        directories.follow()
        assert directories.problem is None
        spool.mkdir(exist_ok=True)
        directories.follow()
        directories.changes()
        write(spool / "x")
        assert directories.changes() == CHANGED
        (spool / "x").unlink()


def test_one_that_hangs_is_followed_when_it_answers(
    directories: Directories, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*arguments: object) -> None:
        raise Unanswered("its directory")

    with monkeypatch.context() as hanging:
        hanging.setattr(module, "ask", hang)
        directories.follow()
    write(spool / "x")
    assert directories.changes() == CHANGED and directories.problem is None


def test_where_there_is_no_descriptor_left_it_says_so(spool: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull, "rb") as lowest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno(), hard))
        try:
            directories = Directories([spool])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    directories.follow()
    assert directories.problem == "Too many open files" and directories.changes() == set()
    directories.close()


def test_without_a_directory_there_is_nothing_to_tell() -> None:
    directories = Directories([])
    directories.follow()
    assert directories.changes() == set() and directories.problem is None
    directories.close()
