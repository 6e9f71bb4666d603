"""Desktops of one user on displays of the same number: on the machine, and in containers."""

from __future__ import annotations

import os
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hostile.conftest import Seen
from tests.support import Processes, program, wait_for
from tests.system.sessions import User, free_display, start_vnc

BOX = """
mount -t tmpfs -o mode=1777 tmpfs /tmp; mkdir -m 1777 /tmp/.X11-unix; {ip} link set lo up
{xauth} -q -f /tmp/authority-{display} add :{display} . {cookie}; chown {uid} /tmp/authority-*
exec {setpriv} --reuid {uid} --regid {gid} --clear-groups {server} :{display} -geometry 800x600 \
-auth /tmp/authority-{display} -SecurityTypes None
"""


@dataclass
class Box:
    """A container with a network and a /tmp of its own, and one desktop in it."""

    user: User
    display: int
    server: subprocess.Popen[bytes]

    @classmethod
    def start(cls, processes: Processes, user: User, display: int) -> Box:
        names = {"ip": "iproute2", "xauth": "xauth", "setpriv": "util-linux"}
        tools = {name: program(name, package) for name, package in names.items()}
        tools["server"] = program("Xtigervnc", "tigervnc-standalone-server")
        uid, gid = user.ids
        inside = BOX.format(
            display=display, cookie=secrets.token_hex(16), uid=uid, gid=gid, **tools
        )
        server = processes.start(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", inside],
            "box",
            user.environ(),
        )
        box = cls(user, display, server)
        socket = Path(f"/proc/{server.pid}/root/tmp/.X11-unix/X{display}")
        wait_for(
            "the box's X server",
            lambda: (
                Path(f"/proc/{server.pid}/comm").read_text() == "Xtigervnc\n" and socket.exists()
            ),
        )
        return box

    def command(self, *command: str) -> list[str]:
        """Return what runs ``command`` in the box, as its user."""
        uid, gid = map(str, self.user.ids)
        enter = ["nsenter", "--target", str(self.server.pid), "--net", "--mount"]
        return [*enter, "setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", *command]

    @property
    def environ(self) -> dict[str, str]:
        display, authority = f":{self.display}", f"/tmp/authority-{self.display}"
        return self.user.environ(DISPLAY=display, XAUTHORITY=authority)

    def resize(self, size: str) -> None:
        xrandr = program("xrandr", "x11-xserver-utils")
        subprocess.run(self.command(xrandr, "-s", size), env=self.environ, check=True)


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
