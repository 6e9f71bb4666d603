"""A part of the machine that is the chaos's own: its processes, network, mounts and name."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from tests.support import needs_root, program

INSIDE = "FASTX_CHAOS_INSIDE"  # set for what runs in it
# The first process of it buries all that have lost their parents, as a shell does that waits. The
# kernel keeps little of what is sent, so that a client that is slow to read really is owed much.
FIRST_PROCESS = (
    "ip link set lo up; echo 4096 8192 16384 > /proc/sys/net/ipv4/tcp_wmem;"
    " mkdir -p /tmp/.X11-unix; mount -t tmpfs -o mode=1777 tmpfs /tmp/.X11-unix;"
    ' "$@"; exit $?'
)


def within(command: Sequence[str]) -> list[str]:
    """Return what runs ``command`` in a part of its own, which ends with it."""
    needs_root()
    program("ip", "iproute2")
    return [
        program("unshare", "util-linux"),
        *("--mount", "--pid", "--net", "--ipc", "--uts"),
        *("--fork", "--kill-child", "--mount-proc"),
        *("sh", "-c", FIRST_PROCESS, "sh", *command),
    ]


def enter(module: str = "tests.chaos") -> None:
    """Start this program, ``module``, again in a part of its own, unless it runs there already."""
    if INSIDE not in os.environ:
        command = within([sys.executable, "-m", module, *sys.argv[1:]])
        os.execve(command[0], command, {**os.environ, INSIDE: "1"})
