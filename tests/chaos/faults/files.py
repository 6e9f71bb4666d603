"""Files of the state directory that are exchanged for others."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.faults.table import UNDER, fault, hold
from tests.chaos.world import AGENTS, World

START = {"cpuPercentage": 12.5, "videoRam": 1024, "sharing": True}
SAID = (json.dumps(START), '{"cpuPercentage": "much"}', "no JSON", "[" * 5000, "")


def _replace(path: Path, text: str) -> None:
    draft = path.with_name("draft")
    draft.write_text(text)
    os.chmod(draft, 0o600)
    draft.rename(path)


@fault()
def secret_exchanged(world: World) -> Iterator[None]:
    """Tokens hold no longer, until the one that they were signed with is back."""
    world.truth.excuses.closes |= {1001, 4401}
    world.truth.excuses.statuses |= {401}
    path = world.nodes["one"].state / "secret"
    was = path.read_text()
    _replace(path, secrets.token_hex(32))
    yield
    hold(world, UNDER)
    _replace(path, was)


@fault()
def secret_deleted(world: World) -> Iterator[None]:
    """Those that run go on with the one they have read."""
    path = world.nodes["one"].state / "secret"
    was = path.read_text()
    path.unlink()
    yield
    _replace(path, was)


@fault()
def session_json_exchanged(world: World) -> Iterator[None]:
    """It counts for sessions that begin from now on, and for those that it could not count for."""
    node = world.nodes[world.chance.choice(AGENTS)]
    text = world.chance.choice(SAID)
    world.truth.take_start(node.name, START if text == SAID[0] else None)
    _replace(node.state / "session.json", text)
    yield
