"""Real sessions of real users for the system tests: TigerVNC servers, viewers and their
applications."""

from __future__ import annotations

import os
import pwd
import random
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import Processes, free_port, program, wait_for

# Users that every Debian has and nobody works as.
USERS = ("games", "news", "uucp")


@dataclass
class User:
    """Someone who runs sessions, with a home of their own."""

    login: str
    home: Path

    @classmethod
    def make(cls, login: str, below: Path) -> User:
        home = below / f"home-{login}"
        home.mkdir()
        os.chown(home, *cls(login, home).ids)
        return cls(login, home)

    @property
    def ids(self) -> tuple[int, int]:
        entry = pwd.getpwnam(self.login)
        return entry.pw_uid, entry.pw_gid

    def environ(self, **more: str) -> dict[str, str]:
        me = {"HOME": str(self.home), "USER": self.login, "LOGNAME": self.login}
        return {**me, "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **more}

    def start(
        self, processes: Processes, command: Sequence[str], log: str, **environ: str
    ) -> subprocess.Popen[bytes]:
        uid, gid = self.ids
        return processes.start(
            command,
            log,
            self.environ(**environ),
            user=uid,
            group=gid,
            extra_groups=[],
            cwd=self.home,
        )


def free_display() -> int:
    """Return the number of a display that nobody uses; at random, so that others who look for one
    find another."""
    while True:
        number = random.randrange(60, 20_000)
        if (
            not Path(f"/tmp/.X11-unix/X{number}").exists()
            and not Path(f"/tmp/.X{number}-lock").exists()
        ):
            return number


def pretend(program: Path, *arguments: str, address: str = "") -> list[str]:
    """Return a command that listens at the unix socket ``address``, if there is one, which is
    abstract if it starts with "@", and becomes a shell by the path ``program`` that does
    nothing."""
    if not program.exists():
        program.write_bytes(Path("/bin/sh").resolve().read_bytes())
        program.chmod(0o755)
    listen = """import os, socket, sys
if sys.argv[1]:
    server = socket.socket(socket.AF_UNIX)
    server.bind(sys.argv[1].replace("@", chr(0)))
    server.listen()
    server.set_inheritable(True)
reader, writer = os.pipe()
os.dup2(reader, 0)
os.set_inheritable(writer, True)
os.execv(sys.argv[2], sys.argv[2:])"""
    return ["/usr/bin/python3", "-c", listen, address, str(program), "-c", "read line", *arguments]


@dataclass
class Vnc:
    """One running Xtigervnc."""

    user: User
    display: int
    port: int
    authority: Path
    process: subprocess.Popen[bytes]

    @property
    def environ(self) -> dict[str, str]:
        return {"DISPLAY": f":{self.display}", "XAUTHORITY": str(self.authority)}


def start_vnc(
    processes: Processes,
    user: User,
    *options: str,
    geometry: str = "1000x700",
    display: int | None = None,
    wait: bool = True,
) -> Vnc:
    """Start an Xtigervnc of ``user`` that only holders of a fresh cookie may use; on a free display
    unless one is given."""
    server = program("Xtigervnc", "tigervnc-standalone-server")
    xauth = program("xauth", "xauth")
    display, port = display or free_display(), free_port()
    authority = user.home / f"authority-{display}"
    subprocess.run(
        [xauth, "-q", "-f", str(authority), "add", f":{display}", ".", secrets.token_hex(16)],
        check=True,
    )
    os.chown(authority, *user.ids)
    process = user.start(
        processes,
        [
            server,
            f":{display}",
            "-geometry",
            geometry,
            "-auth",
            str(authority),
            "-rfbport",
            str(port),
            "-SecurityTypes",
            "None",
            "-localhost",
            *options,
        ],
        f"vnc-{display}",
    )
    if wait:
        wait_for("the X server", lambda: Path(f"/tmp/.X11-unix/X{display}").exists())
    return Vnc(user, display, port, authority, process)


def start_application(processes: Processes, vnc: Vnc) -> subprocess.Popen[bytes]:
    """Start an xterm in the session."""
    xterm = program("xterm", "xterm")
    return vnc.user.start(
        processes,
        [xterm, "-title", "work", "-e", "sleep", "600"],
        f"xterm-{vnc.display}",
        **vnc.environ,
    )


class Viewer:
    """A screen of its own on which TigerVNC's viewer runs, as on a user's desk."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._program = program("xtigervncviewer", "tigervnc-viewer")
        self._display = free_display()
        processes.start(
            [program("Xvfb", "xvfb"), f":{self._display}", "-screen", "0", "1600x1200x24"], "desk"
        )
        wait_for("the viewer's screen", lambda: Path(f"/tmp/.X11-unix/X{self._display}").exists())

    def connect(self, address: str, *wrapper: str) -> subprocess.Popen[bytes]:
        """Open ``address``: a port of this machine, or the path of a socket. ``wrapper`` is a
        command that starts the viewer."""
        return self._processes.start(
            [
                *wrapper,
                self._program,
                "-Shared",
                "-RemoteResize=0",
                "-SecurityTypes",
                "None",
                address,
            ],
            "viewer",
            {**os.environ, "DISPLAY": f":{self._display}", "HOME": "/nonexistent"},
        )


def resize(vnc: Vnc, size: str) -> None:
    """Change the screen's size from within the session, as a user's display settings do."""
    uid, gid = vnc.user.ids
    subprocess.run(
        [program("xrandr", "x11-xserver-utils"), "-s", size],
        env=vnc.user.environ(**vnc.environ),
        check=True,
        user=uid,
        group=gid,
        extra_groups=[],
        capture_output=True,
    )


def only(sessions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the one session there is."""
    return sessions[0] if len(sessions) == 1 else None
