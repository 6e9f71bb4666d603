"""Three users with sessions of all kinds, and a client on every one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support import Processes, Service, free_port, program, release_has, wait_for
from tests.system.rdp import WINDOW_MANAGER
from tests.system.servers import Account, Desk, is_listening, spare_display
from tests.system.sessions import User
from tests.system.wayland import HEADLESS, Desktop
from tests.system.xpra import Xpra

IN_VNC = "xterm -title work -e sleep 600"
IN_TIGHTVNC = "xterm -title tight -e sleep 600"
IN_CAGE = "/bin/sleep 600"
IN_XPRA = ("xterm -title seamless", "openbox --sm-disable")
# What each of the three users runs: the mode of the session's windows, and the command it was
# started for.
EXPECTED = [
    {("desktop", WINDOW_MANAGER), ("desktop", IN_VNC), ("rootless", "xterm")},
    {("desktop", WINDOW_MANAGER), ("rootless", "xterm -title seamless"), ("desktop", IN_CAGE)},
    {
        ("desktop", "openbox"),
        ("desktop", "openbox --sm-disable"),
        ("desktop", IN_VNC),
        ("desktop", IN_TIGHTVNC),
    },
]
if not release_has("xpra"):
    EXPECTED = [{kind for kind in kinds if kind[1] not in IN_XPRA} for kinds in EXPECTED]
PLAIN = "(none)"  # stands for the command of an X server on which nothing runs


@dataclass
class World:
    """Who runs sessions, the client on each session, and an X server that serves no session as a
    rule."""

    users: list[Account]
    clients: list[tuple[Account, str, subprocess.Popen[bytes]]]
    plain: subprocess.Popen[bytes]


def in_xpra(
    xpra: Xpra, desk: Desk, *users: Account
) -> Iterator[tuple[Account, str, subprocess.Popen[bytes]]]:
    """Start a session of xpra for each of two ``users``; yield its client."""
    for user, mode, command in zip(users, ("start", "start-desktop"), IN_XPRA, strict=True):
        display = spare_display()
        xpra.start(user, mode, f":{display}", f"--start-child={command}")
        xpra.await_sessions(user, display)
        yield user, command, xpra.attach(user, desk, f":{display}", "one")


def in_tightvnc(processes: Processes, user: Account) -> int:
    """Start a session of TightVNC; return its port."""
    display, port = spare_display(), free_port()
    options = ["-geometry", "800x600", "-rfbport", str(port), "-ac"]
    server = program("Xtightvnc", "tightvncserver")
    user.start(processes, [server, f":{display}", *options], "tightvnc")
    wait_for("TightVNC", lambda: is_listening(port))
    argv = [program("xterm", "xterm"), *IN_TIGHTVNC.split()[1:]]
    user.start(processes, argv, "in-tightvnc", DISPLAY=f":{display}")
    return port


def in_cage(desktop: Desktop) -> int:
    """Start a Wayland desktop; return the port of its wayvnc."""
    cage = program("cage", "cage")
    desktop.start([cage, "--", *IN_CAGE.split()], **HEADLESS)
    return desktop.start_wayvnc("--disable-input")[1]


def sessions(service: Service, user: User) -> list[dict[str, Any]]:
    return service.sessions(service.token(user.login))


def kinds(service: Service, user: User) -> set[tuple[str, str, int]]:
    return {
        (session["windowMode"], command(session), session["clients"])
        for session in sessions(service, user)
    }


def command(session: dict[str, Any]) -> str:
    """Return the session's command, without the directory of a program that the tests looked for
    themselves."""
    said: str = session["command"] or PLAIN
    return said.rpartition("/")[2] if said.endswith((IN_VNC, IN_TIGHTVNC)) else said
