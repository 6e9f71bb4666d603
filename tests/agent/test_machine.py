from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fastx_list.agent import process as process_module
from fastx_list.agent import processes as processes_module
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process, boot_id, login_of, read_stat
from fastx_list.agent.processes import TURNS
from tests.support import started, wait_for


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.look()
    return machine


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    environ = {"DISPLAY": ":123.0", "FASTX_LIST_SESSION_X": "1", "SECRET": "x"}
    process = started(subprocess.Popen(["sleep", "600"], env=environ))
    yield process
    process.kill()
    process.wait()


def test_what_it_reads_is_what_psutil_reads(machine: Machine) -> None:
    process = machine.processes[os.getpid()]
    ours = psutil.Process()
    assert process.stat.parent == ours.ppid() and process.uid == ours.uids().effective
    # Psutil counts from a boot time in whole seconds
    assert abs(process.started / 1000 - ours.create_time()) < 2
    assert process.args == ours.cmdline()
    assert set(psutil.pids()) >= {pid for pid in machine.processes if Path(f"/proc/{pid}").exists()}


def test_a_process_is_found_by_name_and_display(
    machine: Machine, sleeper: subprocess.Popen[bytes]
) -> None:
    machine.look()
    assert sleeper.pid in [process.pid for process in machine.named(["sleep"])]
    me = machine.processes[os.getpid()]
    found = [process for process in machine.on_display(me, 123) if process.pid == sleeper.pid]
    assert found[0].args == ["sleep", "600"]
    assert found[0].environ == {"DISPLAY": ":123.0", "FASTX_LIST_SESSION_X": "1"}
    assert sleeper.pid not in [process.pid for process in machine.on_display(me, 12)]


@pytest.mark.parametrize(
    ("display", "number"),
    [
        (":1", 1),
        (":1.0", 1),
        ("unix:2", 2),
        (f"{socket.gethostname()}:3.1", 3),
        ("localhost:10.0", None),
        ("other:1", None),
        ("", None),
        (":x", None),
        (":1:2", None),
        (":1234567", None),
    ],
)
def test_only_displays_of_this_machine_count(display: str, number: int | None) -> None:
    stat = read_stat(os.getpid())
    assert stat is not None
    assert Process(1, 0, stat, _environ={"DISPLAY": display}).display == number


def test_after_a_host_was_renamed_its_new_name_means_its_displays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stat = read_stat(os.getpid())
    assert stat is not None
    monkeypatch.setattr(socket, "gethostname", lambda: "renamed.example")
    process = Process(1, 0, stat, _environ={"DISPLAY": "renamed.example:1"})
    assert process.display == 1


def test_a_process_that_turns_into_another_program_is_seen_as_that(machine: Machine) -> None:
    with started(
        subprocess.Popen(["/bin/sh", "-c", "read x; exec sleep 600"], stdin=subprocess.PIPE)
    ) as process:
        assert process.stdin is not None
        try:
            machine.look()
            assert machine.processes[process.pid].stat.name == "sh"
            process.stdin.write(b"\n")
            process.stdin.close()
            process.stdin = None

            def has_turned() -> bool:
                machine.look()
                return machine.processes[process.pid].stat.name == "sleep"

            wait_for("the new program", has_turned)
        finally:
            process.kill()


def test_an_old_process_that_turns_into_another_program_is_seen_in_its_turn(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setattr(process_module, "YOUNG_SECONDS", -1.0)
    monkeypatch.setattr(processes_module, "TURN_SECONDS", 0.0)
    machine.look()
    known = machine.processes[sleeper.pid]
    before = Process(sleeper.pid, known.uid, known.stat._replace(name="before"))
    machine.listing.take({sleeper.pid: before})
    for _ in range(TURNS):
        machine.look()
    assert machine.processes[sleeper.pid].stat.name == "sleep"


def test_a_zombie_and_a_pid_used_again_are_no_longer_the_process(
    machine: Machine, sleeper: subprocess.Popen[bytes]
) -> None:
    machine.look()
    process = machine.processes[sleeper.pid]
    assert machine.still_runs(process)
    assert not machine.still_runs(
        Process(process.pid, 0, process.stat._replace(start=process.stat.start + 1))
    )
    sleeper.kill()
    wait_for("the zombie", lambda: read_stat(sleeper.pid) is None)
    assert Path(f"/proc/{sleeper.pid}").exists() and not machine.still_runs(process)
    machine.look()
    assert sleeper.pid not in machine.processes


def test_a_name_with_brackets_and_blanks_is_read_right(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    program.chmod(0o755)
    with subprocess.Popen([program, "600"]) as process:
        try:
            stat = wait_for(
                "exec",
                lambda: (
                    ((stat := read_stat(process.pid)) and stat.name.startswith("a)") and stat)
                    or None
                ),
            )
            assert (stat.name, stat.parent) == ("a) R 1 (b", os.getpid())
        finally:
            process.kill()


def test_identities_tell_boots_apart(machine: Machine) -> None:
    process = machine.processes[os.getpid()]
    assert process.identity == f"{boot_id()}:{os.getpid()}:{process.stat.start}"
    assert process.age == pytest.approx(time.time() - process.started / 1000, abs=1)


def test_a_login_without_a_name_is_its_number() -> None:
    assert login_of(0) == "root" and login_of(3_999_999_999) == "3999999999"


def test_own_sockets_are_those_the_process_has_open(machine: Machine) -> None:
    me = machine.processes[os.getpid()]
    with socket.socket() as mine:
        inode = os.fstat(mine.fileno()).st_ino
        assert machine.own_sockets(me, frozenset({inode, 1})) == {inode}


def test_what_cannot_be_seen_is_said_once(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        machine.explain("session :1", "may not be read")
    machine.explain("session :2", "may not be read")
    assert len(caplog.records) == 2
    machine.settle("session :1")
    machine.explain("session :1", "may not be read")
    assert len(caplog.records) == 3


def test_a_process_that_becomes_another_just_now_is_none_of_any_kind_yet(
    machine: Machine, sleeper: subprocess.Popen[bytes]
) -> None:
    machine.look()
    process = machine.processes[sleeper.pid]
    assert process.is_young and not machine.is_copy(process)
    before = process.stat._replace(name="Xvnc")  # as it was called when it was listed
    assert machine.is_copy(Process(process.pid, process.uid, before))
    assert machine.is_copy(Process(process.pid, process.uid, process.stat, _args=[]))
    old = process.stat._replace(start=0)
    assert not machine.is_copy(Process(process.pid, process.uid, old, _args=[]))
