"""Users who want to be taken for somebody else, or to have what is somebody else's."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastx_list.agent.process import read_stat, read_uid
from fastx_list.agent.x11 import socket_path
from tests.hostile.conftest import Seen
from tests.hostile.forging import acting_as, forged_socket, su
from tests.support import Processes, program, wait_for
from tests.system.sessions import User, Viewer, free_display, pretend, start_application, start_vnc


@pytest.fixture
def other(users: list[User], processes: Processes, seen: Seen) -> Iterator[tuple[int, int]]:
    """Display and pid of an honest session that is there meanwhile."""
    vnc = start_vnc(processes, users[2])
    wait_for("the honest session", lambda: vnc.process.pid in seen(vnc.display))
    yield vnc.display, vnc.process.pid
    assert vnc.process.pid in seen(vnc.display)


def test_who_runs_a_program_of_roots_has_no_session_of_roots(
    users: list[User], processes: Processes, seen: Seen, other: tuple[int, int]
) -> None:
    display = free_display()
    text = {"FASTX_LIST_SESSION_NAME": "root, please log in at evil.example"}
    with su(users[0], "Xvnc", f":{display}", **text):
        assert seen(display) == {}


def test_a_socket_that_was_handed_on_makes_no_session_of_roots(
    users: list[User], processes: Processes, seen: Seen, tmp_path: Path
) -> None:
    """A program that has become root altogether, as sudo(8) does, still has the files and the
    command line that its user gave it."""
    display = free_display()
    shell = tmp_path / "Xvnc"
    command = pretend(shell, f":{display}", address=f"@{socket_path(display)}")
    own = processes.start(command, "own")
    wait_for("root's own session", lambda: own.pid in seen(display))
    another = free_display()
    with acting_as(users[0]):
        theirs = socket.socket(socket.AF_UNIX)
    with theirs:
        theirs.bind("\0" + socket_path(another))
        theirs.listen()
        command = pretend(shell, f":{another}")
        handed = processes.start(command, "handed", pass_fds=[theirs.fileno()])
    wait_for("exec", lambda: (stat := read_stat(handed.pid)) and stat.name == "Xvnc")
    assert read_uid(handed.pid) == 0
    assert seen(another) == {}


def test_a_program_of_roots_is_no_sessions_command(
    users: list[User], processes: Processes, seen: Seen, tmp_path: Path
) -> None:
    server = program("Xtigervnc", "tigervnc-standalone-server")
    display = free_display()
    roots = processes.start([server, f":{display}", "-SecurityTypes", "None"], "roots")
    wait_for("root's session", lambda: roots.pid in seen(display))
    with su(users[0], "evil", DISPLAY=f":{display}"):
        assert seen(display)[roots.pid].command is None


def test_a_false_server_of_a_display_hides_nobodys_and_is_none(
    users: list[User], processes: Processes, seen: Seen, tmp_path: Path
) -> None:
    victim, thief, _ = users
    display, elsewhere = free_display(), free_display()
    false = thief.home / "Xvnc"
    # One that was there first, has a socket of its own, and asks for the victim's display
    address = f"@{socket_path(elsewhere)}"
    first = thief.start(processes, pretend(false, f":{display}", address=address), "first")
    wait_for("exec", lambda: (stat := read_stat(first.pid)) and stat.name == "Xvnc")
    assert seen(display) == {}
    xvfb = victim.start(processes, [program("Xvfb", "xvfb"), f":{display}"], "xvfb")
    second = thief.start(processes, pretend(false, f":{display}", address=""), "second")
    wait_for("exec", lambda: (stat := read_stat(second.pid)) and stat.name == "Xvnc")
    found = wait_for("the victim's session", lambda: seen(display))
    assert [*found] == [xvfb.pid] and found[xvfb.pid].login == victim.login


def test_a_name_with_line_ends_gives_nobody_a_client(
    users: list[User], processes: Processes, seen: Seen
) -> None:
    victim, thief, _ = users
    with tempfile.TemporaryDirectory(prefix="fxl-") as directory, ExitStack() as stack:
        os.chown(directory, *victim.ids)
        path = f"{directory}/r"
        vnc = start_vnc(processes, victim, "-rfbunixpath", path, "-rfbunixmode", "0666")
        start_application(processes, vnc)
        pid = vnc.process.pid

        def sockets_of_its_own() -> list[str]:
            table = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
            lines = [line.split() for line in table.splitlines()]
            own = [each[6] for each in lines if each[-1].endswith(f"/X{vnc.display}")]
            return own if len(own) > 2 else []

        wait_for("its session", lambda: pid in seen(vnc.display))
        # Everybody may read which sockets it has
        for inode in wait_for("its X clients", sockets_of_its_own):
            with acting_as(thief):
                stack.enter_context(forged_socket(inode, path))
        assert f" 03 {inode} {path}" in Path("/proc/net/unix").read_text(errors="replace")
        assert seen(vnc.display)[pid].clients == 0
        Viewer(processes).connect(path)
        wait_for("a client", lambda: seen(vnc.display)[pid].clients == 1)
