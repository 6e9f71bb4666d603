"""The file of events, in a directory of a user who misleads root, as whom events are delivered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastx_list.command.sinks import File
from fastx_list.model.event import Event

OWNER = 9  # news, as whom nobody works
EVENT = Event("1-a", 1000, "sessionBegan")
TEXT = "root's own\nwithout a line end"


@pytest.fixture
def theirs(public: Path) -> Path:
    directory = public / "log"
    directory.mkdir(mode=0o750)
    os.chown(directory, OWNER, OWNER)
    return directory


@pytest.fixture
def roots(roots: Path) -> Path:
    (roots / "events.log").write_text(TEXT)
    return roots


def test_a_link_leads_root_to_no_file_of_its_own(theirs: Path, roots: Path) -> None:
    file = File(theirs / "events.log")
    (theirs / "events.log").symlink_to(roots / "events.log")
    with pytest.raises(OSError):
        file.last()
    with pytest.raises(OSError):
        file.send([EVENT])
    assert (roots / "events.log").read_text() == TEXT


def test_a_directory_that_is_a_link_does_not_either(theirs: Path, roots: Path) -> None:
    (theirs / "sub").symlink_to(roots)
    os.chown(theirs / "sub", OWNER, OWNER, follow_symlinks=False)
    file = File(theirs / "sub" / "events.log")
    with pytest.raises(OSError):
        file.last()
    with pytest.raises(OSError):
        file.send([EVENT])
    assert (roots / "events.log").read_text() == TEXT


def test_the_file_that_root_makes_there_is_its_owners(theirs: Path) -> None:
    file = File(theirs / "events.log")
    assert file.send([EVENT]) == 1
    assert (theirs / "events.log").stat().st_uid == OWNER
    assert file.last() == "1-a"
