"""Starts very many processes of a hostile user, and ends them again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.hostile import dummies
from tests.hostile.hanging import interpreter
from tests.support import Processes, end, wait_for
from tests.system.sessions import User


@contextmanager
def dummies_of(user: User, processes: Processes, kind: str, count: int) -> Iterator[list[int]]:
    """Run ``count`` of :mod:`tests.hostile.dummies`; yields their displays."""
    script = user.home / "dummies.py"
    shutil.copy(dummies.__file__, script)
    first = _free_displays(count)
    log = f"dummies-{first}"
    command = [interpreter(), "-IS", str(script), kind, str(count), f":{first:05}"]
    parent = user.start(processes, command, log)
    displays = [first] if kind == "shared" else list(range(first, first + count))
    try:
        wait_for("the dummies", lambda: processes.log(log))
        assert processes.log(log) == "ready\n", processes.log(log)
        yield displays
    finally:
        end(parent)  # and with it, its children
        for display in displays:
            _socket(display).unlink(missing_ok=True)


def _free_displays(count: int) -> int:
    """Return the first of so many numbers of displays that nobody uses."""
    while True:
        first = random.randrange(20_000, 59_000)
        if not any(_socket(first + number).exists() for number in range(count)):
            return first


def _socket(display: int) -> Path:
    return Path(f"/tmp/.X11-unix/X{display}")
