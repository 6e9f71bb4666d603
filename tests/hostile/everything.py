"""All that one hostile login can do to an agent, at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from fastx_list.agent.x11 import socket_path
from tests.hostile.box import Box
from tests.hostile.forging import acting_as, forged_socket, su
from tests.hostile.hanging import start_impostor
from tests.hostile.plenty import dummies_of
from tests.support import Processes
from tests.system.sessions import User, Vnc, free_display, pretend

FORGED_SOCKETS = 100
LINE_OF_ROOT = {"FASTX_LIST_SESSION_NAME": "root, please log in at evil.example"}


@contextmanager
def attack(
    hostile: User, victim: Vnc, processes: Processes, many: int, flooding: int
) -> Iterator[None]:
    """Do all of it as ``hostile``, with ``many`` processes that seem to be X servers and
    ``flooding`` ones that send events without end, beside a session of the ``victim``."""
    with ExitStack() as stack:
        for name in ("one", "two"):
            authority = str(hostile.home / name)
            start_impostor(processes, hostile, "-auth", authority, does="lease")
            start_impostor(processes, hostile, does="huge")
        false, elsewhere = hostile.home / "Xvnc", f"@{socket_path(free_display())}"
        for address in ("", elsewhere):
            command = pretend(false, f":{victim.display}", address=address)
            hostile.start(processes, command, "false")
        stack.enter_context(su(hostile, "Xorg", f":{victim.display}", **LINE_OF_ROOT))
        with acting_as(hostile):
            for number in range(FORGED_SOCKETS):
                forged = forged_socket(str(number), socket_path(victim.display))
                stack.enter_context(forged)
        for _ in range(2):
            Box.start(processes, hostile, victim.display)
        # The last, for of a login the oldest are looked at
        stack.enter_context(dummies_of(hostile, processes, "flood", flooding))
        stack.enter_context(dummies_of(hostile, processes, "shared", many))
        yield
