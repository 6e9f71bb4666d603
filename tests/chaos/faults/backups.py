"""Stores that are lost and restored from a backup by command, while everything runs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.faults.database import database_files
from tests.chaos.faults.table import fault
from tests.chaos.world import AGENTS, World


def _command(world: World, *arguments: str) -> None:
    command = [sys.executable, "-m", "fastx_list", *arguments]
    done = subprocess.run(command, env=world.environ, capture_output=True, text=True)
    if done.returncode != 0:
        world.judge.blame(f"fastx-list {' '.join(arguments)} failed: {done.stderr}")


def _lose(world: World) -> None:
    if world.redis is None:
        for path in database_files(world):
            path.unlink(missing_ok=True)
        return
    with world.redis.client() as client:
        client.flushall()


@fault()
def store_lost_and_restored(world: World) -> Iterator[None]:
    """Params that were in the backup are there again."""
    backup: Path = world.place / "backup"
    known = {session: list(session.notes) for session in world.truth.running if session.known}
    _command(world, "backup", "--force", str(backup))
    world.knows_less()
    _lose(world)
    yield
    _command(world, "restore", str(backup))
    for node in AGENTS:  # each writes once more
        world.back_since[node] = time.monotonic()
    for session, notes in known.items():
        session.is_started_anew = notes in ([], [0])
        session.notes += notes
