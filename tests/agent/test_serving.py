"""With ``serverPid`` a session of a session file lives as long as that process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastx_list import state
from fastx_list.agent import process as process_module
from fastx_list.agent import serving as serving_module
from fastx_list.agent.door import Unanswered
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import NO_PROCESS, Process, identity_of
from fastx_list.agent.sources import load_sources
from fastx_list.agent.sources.spool import Spool
from fastx_list.config import Settings
from tests.support import started, wait_for


class Here:
    """A spool, and agents that look at it one after the other."""

    def __init__(self, path: Path) -> None:
        self.directory = path / "spool"
        self.directory.mkdir(mode=0o755)
        self.kept = path / "kept.json"
        self.restart()

    def restart(self) -> None:
        self.machine, self.spool = Machine(), Spool(self.directory, self.kept)

    def say(self, pid: int | None, name: str = "a", **more: Any) -> None:
        members = {"login": "alice", "serverPid": pid, **more}
        draft = self.directory / "draft"
        draft.write_text(json.dumps(members))
        draft.rename(self.directory / f"{name}.json")

    def listed(self) -> int:
        self.machine.look()
        return len(list(self.spool.scan(self.machine)))

    def settle(self) -> None:
        """Wait until the files are ones of the past, and known as they are."""

        def is_settled() -> bool:
            self.listed()
            kept = {name: first[-2:] for name, first in json.loads(self.kept.read_text()).items()}
            files = {path.name: path.stat() for path in self.directory.glob("*.json")}
            return kept == {name: [at.st_ino, at.st_ctime_ns] for name, at in files.items()}

        wait_for("the files' dates to be known", is_settled)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setattr(serving_module, "WRITE_SECONDS", 0.0)
    return Here(tmp_path)


@pytest.fixture
def server() -> Iterator[subprocess.Popen[bytes]]:
    with started(subprocess.Popen(["sleep", "600"])) as process:
        yield process
        process.kill()


def boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine be one that was started anew, at which all pids are used again."""
    monkeypatch.setattr(process_module, "boot_id", lambda: "another boot")


def test_a_session_ends_with_its_process(here: Here, server: subprocess.Popen[bytes]) -> None:
    here.say(server.pid)
    here.say(None, "b")
    assert here.listed() == 2
    server.kill()
    # Also while its parent has taken no note of its end
    wait_for("the end of its session", lambda: here.listed() == 1)
    server.wait()
    here.restart()
    assert here.listed() == 1


def test_one_whose_process_never_ran_is_none(here: Here) -> None:
    here.say(2**22 + 1)
    here.say(2**31, "b")
    assert here.listed() == 0
    here.say(os.getpid())
    assert here.listed() == 1


def test_another_process_of_that_pid_is_not_taken_for_it(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.say(os.getpid())
    assert here.listed() == 1
    mine = here.machine.processes[os.getpid()]
    other = Process(mine.pid, mine.uid, mine.stat._replace(start=mine.stat.start + 1))
    here.machine.listing.take({mine.pid: other})
    monkeypatch.setattr(serving_module, "identity_of", lambda pid: other.identity)
    assert list(here.spool.scan(here.machine)) == []


def test_another_process_of_that_pid_is_not_taken_for_it_after_a_reboot(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.say(os.getpid())
    assert here.listed() == 1
    here.settle()
    boot(monkeypatch)
    here.restart()
    assert here.listed() == 0
    here.restart()
    assert here.listed() == 0
    # A file that is written anew, in a spool that is on no disk, names today's.
    here.restart()
    here.say(os.getpid())
    assert here.listed() == 1


def test_a_later_edition_of_a_file_is_no_other_session(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.say(os.getpid())
    assert here.listed() == 1
    here.settle()
    here.say(os.getpid(), clients=1)
    assert here.listed() == 1
    here.settle()
    boot(monkeypatch)
    here.restart()
    assert here.listed() == 0


def test_a_file_that_goes_and_comes_again_is_a_new_session(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.say(os.getpid())
    assert here.listed() == 1
    (here.directory / "a.json").unlink()
    assert here.listed() == 0
    boot(monkeypatch)
    here.say(os.getpid())
    assert here.listed() == 1


def test_a_process_that_cannot_be_asked_for_now_ends_nothing(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.say(os.getpid())
    assert here.listed() == 1

    def refuse(pid: int) -> str:
        raise Unanswered("too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(serving_module, "identity_of", refuse)
        here.say(os.getpid(), "b")
        with pytest.raises(Unanswered):
            here.listed()
    assert here.listed() == 2


def test_what_may_not_be_known_ends_nothing(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.say(os.getpid())
    with monkeypatch.context() as patch:  # as with hidepid
        patch.setattr(process_module, "read_any_stat", lambda pid: None)
        here.machine.listing.take(dict.fromkeys(here.machine.processes))
        assert identity_of(os.getpid()) is None and identity_of(2**22 + 1) == NO_PROCESS
        assert len(list(here.spool.scan(here.machine))) == 1
    assert here.listed() == 1


@pytest.mark.parametrize("damage", ["", "[]", '{"a.json": [1]}', '{"a.json": ["", "", "", 1, 1]}'])
def test_a_file_of_ours_that_is_damaged_is_begun_anew_and_that_is_said(
    here: Here, damage: str
) -> None:
    here.kept.write_text(damage)
    here.say(os.getpid())
    assert here.listed() == 1
    here.settle()
    assert json.loads(here.kept.read_text())["a.json"][2] == identity_of(os.getpid())


def test_one_that_cannot_be_written_is_a_problem_and_written_later(here: Here) -> None:
    here.kept.mkdir()
    here.say(os.getpid())
    assert here.listed() == 1
    assert "cannot be written" in str(here.machine.problems)
    here.kept.rmdir()
    assert here.listed() == 1
    assert here.machine.problems == {} and here.kept.exists()


def test_one_that_cannot_be_read_now_is_asked_for_again(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.say(os.getpid())
    assert here.listed() == 1
    here.settle()
    boot(monkeypatch)
    here.restart()

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(serving_module, "read_own", fail)
        with pytest.raises(Unanswered):
            here.listed()
        assert "cannot be read: Input/output error" in str(here.machine.problems)
    assert here.listed() == 0 and here.machine.problems == {}


def scanned(settings: Settings) -> int:
    """Return how many sessions an agent lists that has just started."""
    machine = Machine()
    machine.look()
    return len(list(load_sources(settings)["spool"].scan(machine)))


def begin_a_session_of_this_process(settings: Settings) -> None:
    settings.state_dir.mkdir()
    settings.spool.mkdir(mode=0o755)
    (settings.spool / "a.json").write_text(json.dumps({"login": "alice", "serverPid": os.getpid()}))


def test_machines_that_share_a_state_directory_end_no_session_of_each_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_a_session_of_this_process(settings)
    assert scanned(settings) == 1
    with monkeypatch.context() as other:
        other.setattr(state, "machine", lambda: "fedcba9876543210")
        other.setattr(serving_module, "identity_of", lambda pid: NO_PROCESS)
        wait_for("that one to know the file's date", lambda: scanned(settings) == 0)
    assert scanned(settings) == 1


def test_what_an_earlier_release_has_kept_is_taken_over_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_a_session_of_this_process(settings)
    at = (settings.spool / "a.json").stat()
    first = "spool:612e6a736f6e:alice:None", os.getpid(), "another process"
    earlier = settings.state_dir / "spool-processes.json"
    earlier.write_text(json.dumps({"a.json": [*first, at.st_ino, at.st_ctime_ns]}))
    wait_for("the file's date to be known", lambda: scanned(settings) == 0)
    earlier.write_text("{}")  # as that of another machine that is still one of that release
    assert scanned(settings) == 0
