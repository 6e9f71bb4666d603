"""A disk that is full or takes no writes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.faults.table import UNDER, fault, hold, hold_until_stale
from tests.chaos.world import AGENTS, World
from tests.support import wait_for


def fill(path: Path) -> None:
    """Write a file until there is no room for one byte more."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def _full(world: World) -> Iterator[None]:
    filler = world.disk / "filler"
    fill(filler)
    yield
    filler.unlink()


@fault("sqlite")
def disk_full(world: World) -> Iterator[None]:
    for _ in _full(world):
        yield
        hold(world, UNDER)


@fault("sqlite", weight=2)
def disk_full_for_long(world: World) -> Iterator[None]:
    for _ in _full(world):
        yield
        hold(world)


@fault("sqlite", weight=1, is_quick=False)
def disk_full_until_all_must_know(world: World) -> Iterator[None]:
    for _ in _full(world):
        yield
        hold_until_stale(world)


@fault("sqlite", weight=2)
def disk_read_only_at_start(world: World) -> Iterator[None]:
    """All are started where nothing can be written, and then where it can."""
    names = [*AGENTS, "list", "live"]
    excuses = world.truth.excuses
    excuses.deaths |= {*names}
    excuses.closes |= {1001, 1006}
    for name in AGENTS:
        world.away(name)
    for name in names:
        world.terminate(name)
    command = ["mount", "-o", "remount,ro", str(world.disk)]
    # Not while who listens to the agents has a file of the database open
    wait_for("the disk", lambda: not subprocess.run(command, capture_output=True).returncode)
    try:
        for name in names:
            world.start(name)
        yield
        hold(world, UNDER)
    finally:
        for name in names:
            world.kill(name)
        subprocess.run(["mount", "-o", "remount,rw", str(world.disk)], check=True)
    for name in names:
        world.start(name)
    excuses.back |= {*AGENTS}
    world.await_servers()
