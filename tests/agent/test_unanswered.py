"""What cannot be asked or read now is unknown: nothing ends because of it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastx_list.agent import process as process_module
from fastx_list.agent.door import Unanswered, ask
from fastx_list.agent.files import FileBusy, FileError, read_owned
from fastx_list.agent.keep import Agent
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.sockets import Sockets
from fastx_list.agent.sources.spool import Spool
from fastx_list.agent.xserver import XServers, XSession
from fastx_list.config import Settings
from fastx_list.store import Store
from tests.agent.scripted import listed
from tests.support import started

SECONDS = "31415"  # tells our process from others'


class Session(XSession):
    owns_display = is_x_server = False

    def connections(self, sockets: Sockets) -> frozenset[int]:
        return frozenset()


class Careful(XServers):
    """Knows its processes by their command lines."""

    programs = ("sleep",)
    display = 1

    def recognises(self, process: Process, machine: Machine) -> bool:
        return process.args[-1:] == [SECONDS]

    def session(self, process: Process, machine: Machine) -> Session:
        return Session(process, self.display, {}, machine, lingers=False)


class Greedy(Careful):
    """Takes every process of the program."""

    display = 2

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._pid = pid

    def recognises(self, process: Process, machine: Machine) -> bool:
        return process.pid == self._pid


@pytest.fixture
def sleeper() -> Iterator[int]:
    with started(subprocess.Popen(["sleep", SECONDS])) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def hang(sleeper: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Lets questions about the process hang, or be answered."""

    def hang(hangs: bool) -> None:
        def answer(owner: int, what: str, call: Callable[[], Any]) -> Any:
            if hangs and str(sleeper) in what:
                raise Unanswered(what)
            return ask(owner, what, call)

        monkeypatch.setattr(process_module, "ask", answer)

    return hang


def test_a_process_that_does_not_answer_is_left_to_who_may_know_it(
    settings: Settings, store: Store, sleeper: int, hang: Callable[[bool], None]
) -> None:
    def agent() -> Agent:
        return Agent(settings, store, {"careful": Careful(), "greedy": Greedy(sleeper)})

    def displays() -> list[int | None]:
        return [session.display for session in listed(store).values()]

    hang(True)
    first = agent()
    first.scan()
    assert displays() == []
    hang(False)
    first.scan()
    assert displays() == [1]
    hang(True)
    first.scan()
    assert displays() == [1]
    # One that begins meanwhile keeps what it knows of, however long that takes.
    second = agent()
    second._began -= 3600
    second.scan()
    assert displays() == [1]
    hang(False)
    second.scan()
    assert displays() == [1]


@pytest.fixture
def leased(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Takes a write lease on a file, which is given up in the end."""
    was = signal.signal(signal.SIGIO, signal.SIG_IGN)
    held: list[int] = []

    def lease(path: Path) -> None:
        held.append(os.open(path, os.O_RDWR))
        fcntl.fcntl(held[-1], fcntl.F_SETLEASE, fcntl.F_WRLCK)

    yield lease
    for each in held:
        os.close(each)
    signal.signal(signal.SIGIO, was)


def test_a_file_with_a_lease_on_it_cannot_be_read_now(
    tmp_path: Path, leased: Callable[[Path], None]
) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    leased(path)
    with pytest.raises(FileBusy, match="cannot be read now: its owner has a lease on it"):
        read_owned(str(path), os.geteuid(), 10)


def test_a_link_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    assert read_owned(str(tmp_path / "file"), os.geteuid(), 1) == b"x"
    with pytest.raises(FileError, match="is no regular file"):
        read_owned(str(tmp_path / "link"), os.geteuid(), 10)


def test_a_session_file_that_cannot_be_read_now_keeps_what_it_said(
    tmp_path: Path, leased: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path, machine, spool = tmp_path / "a.json", Machine(), Spool(tmp_path)
    path.write_text(json.dumps({"login": "alice", "clients": 1}))
    [before] = spool.scan(machine)
    path.write_text(json.dumps({"login": "alice", "clients": 2}))
    leased(path)
    for _ in range(2):
        assert list(spool.scan(machine)) == [before]
    [record] = caplog.records
    assert "it stays as it was, since it cannot be read now" in record.getMessage()


def test_a_spool_that_hangs_keeps_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings, store: Store
) -> None:
    def hang(*_: object) -> None:
        raise Unanswered("its files")

    (tmp_path / "a.json").write_text(json.dumps({"login": "alice"}))
    agent = Agent(settings, store, {"spool": Spool(tmp_path)})
    agent.scan()
    assert len(listed(store)) == 1
    monkeypatch.setattr("fastx_list.agent.sources.spool.ask", hang)
    agent.scan()
    assert len(listed(store)) == 1
    again = Agent(settings, store, {"spool": Spool(tmp_path)})
    again._began -= 3600
    again.scan()
    assert len(listed(store)) == 1
