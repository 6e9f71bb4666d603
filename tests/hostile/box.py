"""A container with a desktop in it."""

from __future__ import annotations

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support import Processes, program, wait_for
from tests.system.sessions import User

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
