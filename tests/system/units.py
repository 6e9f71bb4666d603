"""The systemd units of docs/deploy, and how to run what they say without systemd."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import sys
from functools import lru_cache
from pathlib import Path

from tests.support import program
from tests.system import confine

UNITS = Path(__file__).parents[2] / "docs/deploy/systemd"
SERVICES = {
    "list": "fastx-list.service",
    "live": "fastx-list-live.service",
    "agent": "fastx-list-agent.service",
}


def unit(name: str, setting: str) -> list[str]:
    """Return the values of ``setting`` in the shipped unit ``name``."""
    return re.findall(
        rf"^{setting}=(.*)$", (UNITS / name).read_text(encoding="utf-8"), re.MULTILINE
    )


def command_of(service: str) -> list[str]:
    """Return what the shipped unit ``service`` runs, out of the environment that the tests run
    in."""
    (line,) = unit(service, "ExecStart")
    return shlex.split(line.replace("/opt/fastx-list/bin", str(Path(sys.executable).parent)))


def confined(service: str, socket: int | None = None, user: str = "") -> list[str]:
    """Return the beginning of a command that runs the rest of it with no more rights than the
    shipped unit ``service`` gives it.

    ``socket`` is handed over to it. Only root can do without capabilities that it has, or be
    another ``user``.
    """
    program("systemd-analyze", "systemd")
    restricted = [
        sys.executable,
        confine.__file__,
        "" if socket is None else str(socket),
        _allowed_calls(service),
    ]
    if os.geteuid() != 0:
        return restricted
    (names,) = unit(service, "CapabilityBoundingSet")
    kept = ",".join(["-all", *(f"+{name.lower().removeprefix('cap_')}" for name in names.split())])
    rights = [f"--bounding-set={kept}", f"--inh-caps={kept}"]
    if user:
        entry = pwd.getpwnam(user)
        rights += [
            f"--reuid={entry.pw_uid}",
            f"--regid={entry.pw_gid}",
            "--clear-groups",
            f"--ambient-caps={kept}",
        ]
    return [program("setpriv", "util-linux"), *rights, "--no-new-privs", "--", *restricted]


@lru_cache
def _allowed_calls(service: str) -> str:
    return ",".join(confine.allowed_calls(unit(service, "SystemCallFilter")))
