"""Desktops of one user on displays of the same number: on the machine, and in containers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.hostile.box import Box
from tests.hostile.conftest import Seen
from tests.support import Processes, wait_for
from tests.system.sessions import User, free_display, start_vnc


@pytest.fixture
def namespaces(users: list[User]) -> None:
    made = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True)
    if made.returncode:
        pytest.skip(f"namespaces may not be made here: {made.stderr.decode().strip()}")


def test_each_desktop_has_the_size_and_the_program_of_its_own(
    namespaces: None, users: list[User], processes: Processes, seen: Seen
) -> None:
    display = free_display()
    here = start_vnc(processes, users[0], geometry="640x480", display=display)
    first, second = (Box.start(processes, users[0], display) for _ in range(2))
    pids = [here.process.pid, first.server.pid, second.server.pid]
    wait_for("all three", lambda: {*pids} == {*seen(display)})
    first.resize("1024x768")
    second.resize("1280x720")
    sleeper = processes.start(second.command("sleep", "600"), "sleeper", second.environ)
    wait_for("exec", lambda: Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n")

    def sizes() -> list[str | None]:
        found = seen(display)
        return [found[pid].geometry for pid in pids]

    wait_for("their sizes", lambda: sizes() == ["640x480", "1024x768", "1280x720"])
    found = seen(display)
    assert [found[pid].command for pid in pids] == [None, None, "sleep 600"]
    assert [found[pid].app_pid for pid in pids] == [None, None, sleeper.pid]
    # None of them is taken for another's when one ends
    first.server.kill()
    first.server.wait()
    found = seen(display)
    assert {*found} == {pids[0], pids[2]}
    assert found[pids[0]].geometry == "640x480" and found[pids[2]].geometry == "1280x720"


def test_a_program_in_a_sandbox_is_on_the_display_whose_socket_it_sees(
    namespaces: None, users: list[User], processes: Processes, seen: Seen
) -> None:
    vnc = start_vnc(processes, users[0])
    uid, gid = map(str, users[0].ids)
    inside = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "sleep", "600"]
    boxed = processes.start(
        ["unshare", "--mount", "--net", *inside], "boxed", users[0].environ(**vnc.environ)
    )
    wait_for("exec", lambda: Path(f"/proc/{boxed.pid}/comm").read_text() == "sleep\n")
    assert os.readlink(f"/proc/{boxed.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    wait_for("its command", lambda: seen(vnc.display)[vnc.process.pid].app_pid == boxed.pid)
