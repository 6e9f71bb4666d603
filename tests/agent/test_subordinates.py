"""What subordinate users cost, their login pays: together they have no more than one user."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastx_list.agent.door import MAX_WAITING, Door, Unanswered
from fastx_list.agent.limits import Limits
from fastx_list.agent.process import Process, Stat
from fastx_list.agent.subordinates import Subordinates, subordinates

FIRST = 100_000


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that says whose subordinates there are."""
    path = tmp_path / "subuid"
    path.write_text(f"alice:{FIRST}:65536\nbob:200000:65536\n")
    monkeypatch.setattr(subordinates, "_path", path)
    subordinates.read()
    yield path
    path.unlink()
    subordinates.read()


@pytest.mark.parametrize(
    ("uid", "payer"),
    [
        (0, 0),
        (FIRST - 1, FIRST - 1),
        (FIRST, "subordinate users of alice"),
        (FIRST + 65_535, "subordinate users of alice"),
        (FIRST + 65_536, FIRST + 65_536),
        (300_001, "subordinate users of alice"),
        (400_000, "users from 400000 on"),
        (400_000 + 65_536, "users from 465536 on"),
        (600_000, 600_000),
    ],
)
def test_a_login_pays_for_its_subordinates_and_root_for_none_but_each_container(
    tmp_path: Path, uid: int, payer: int | str
) -> None:
    path = tmp_path / "subuid"
    path.write_text(
        f"nonsense\nroot:400000:131072\nalice:{FIRST}:65536\nx:y:z\nalice:300000:10\n:1:999999\n"
    )
    them = Subordinates(path)
    them.read()
    assert them.payer(uid) == payer


def test_the_file_is_read_again_when_it_has_changed(given: Path) -> None:
    assert subordinates.payer(150_000) == "subordinate users of alice"
    given.write_text(f"carol:{FIRST}:65536\n")
    subordinates.read()
    assert subordinates.payer(150_000) == "subordinate users of carol"
    os.rename(given, given.with_name("away"))
    subordinates.read()
    assert subordinates.payer(150_000) == 150_000
    given.mkdir()  # cannot be read: no news
    subordinates.read()
    assert subordinates.payer(150_000) == 150_000
    given.rmdir()
    os.rename(given.with_name("away"), given)


def test_all_of_a_logins_subordinates_have_one_thread_that_waits(given: Path) -> None:
    go = threading.Event()
    door = Door()
    try:
        for uid in range(FIRST, FIRST + 2 * MAX_WAITING):
            with pytest.raises(Unanswered):
                door.ask(uid, "a file", go.wait)
        assert len(door.unanswered()) == 1
        assert door.ask(7, "another's", lambda: "answer") == "answer"
        assert door.ask(200_001, "another's", lambda: "answer") == "answer"
    finally:
        go.set()


def test_all_of_a_logins_subordinates_have_the_room_of_one_user(given: Path) -> None:
    limits = Limits(sessions=3)
    processes = [Process(uid, uid, Stat("Xvnc", "S", 1, uid)) for uid in range(FIRST, FIRST + 20)]
    other = Process(7, 7, Stat("Xvnc", "S", 1, 7))
    passed_over = limits.choose([*processes, other])
    assert passed_over == {process.pid for process in processes[6:]}
    assert limits.over == {"subordinate users of alice"}
