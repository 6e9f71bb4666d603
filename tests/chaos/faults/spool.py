"""Spools that go away, cannot be read, or hold far too much."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.faults.table import UNDER, fault, hold
from tests.chaos.truth import CROWD, STARTED, Session
from tests.chaos.world import AGENTS, Node, World
from tests.support import exchange

MANY = 20_000
SOME = 1_000
RUBBISH = 300


def _node(world: World) -> Node:
    return world.nodes[world.chance.choice(AGENTS)]


@fault()
def spool_removed(world: World) -> Iterator[None]:
    """Its files are gone, and so are its sessions with their params, until it is there again."""
    node = _node(world)
    world.truth.begin_again(node.name)
    aside = node.spool.with_name("aside")
    node.spool.rename(aside)
    yield
    hold(world, UNDER)
    aside.rename(node.spool)


def _unreadable(world: World, node: Node) -> Iterator[None]:
    world.truth.excuses.blind.add(node.name)
    aside = node.spool.with_name("aside")
    # In one step, so that there is something at any time
    kind = world.chance.choice(("file", "loop"))
    other = node.spool.with_name("other")
    if kind == "file":
        other.touch()
    else:
        other.symlink_to(node.spool)
    exchange(node.spool, other)
    other.rename(aside)
    yield
    hold(world, UNDER)
    exchange(node.spool, aside)
    aside.unlink()


@fault()
def spool_unreadable(world: World) -> Iterator[None]:
    """What it said before stays."""
    yield from _unreadable(world, _node(world))


@fault()
def spool_unreadable_when_the_agent_starts(world: World) -> Iterator[None]:
    """Whoever has never read it ends nothing."""
    node = _node(world)
    world.truth.excuses.deaths.add(node.name)
    for _ in _unreadable(world, node):
        world.away(node.name)
        world.kill(node.name)
        world.start(node.name)
        world.back(node.name)
        yield


def _crowd(world: World, count: int, changes: int = 0) -> Iterator[None]:
    """Let there be many sessions, which change so often before they end."""
    node = _node(world)
    world.truth.excuses.blind.add(node.name)  # until all are read, however long that takes
    files = {}
    for _ in range(count):
        number = world.truth.count
        session = Session(node.name, CROWD, f"crowd {number}")
        session.change(
            login=CROWD, command=session.command, started=STARTED + 10**9 + number, clients=0
        )
        world.truth.add(session)
        files[session] = node.spool / f"crowd-{number}.json"
        _write(session, files[session])
    yield
    hold(world, UNDER)
    for number in range(1, changes + 1):
        for session, file in files.items():
            session.change(clients=number)
            _write(session, file)
        hold(world, UNDER)
    for session, file in files.items():
        session.ended = time.monotonic()
        file.unlink()


def _write(session: Session, file: Path) -> None:
    draft = file.with_name("crowd.new")
    draft.write_text(json.dumps(session.versions[-1]), encoding="utf-8")
    draft.rename(file)


@fault(weight=2)
def spool_of_many_files(world: World) -> Iterator[None]:
    """Who is slow to read is owed all of their states, and told the last one alone."""
    yield from _crowd(world, SOME, changes=2)


@fault(weight=1, is_quick=False)
def spool_of_very_many_files(world: World) -> Iterator[None]:
    yield from _crowd(world, MANY)


@fault()
def spool_full_of_rubbish(world: World) -> Iterator[None]:
    node = _node(world)
    made = []
    for number in range(RUBBISH):
        path = os.fsencode(node.spool) + b"/rubbish-%d\xff.json" % number
        kind = world.chance.randrange(6)
        if kind == 0:
            os.mkdir(path)
        elif kind == 1:
            os.mkfifo(path)
        elif kind == 2:
            os.symlink(b"/etc/shadow", path)
        else:
            with open(path, "wb") as file:
                file.write(
                    (b"", b'{"login": "alice"', b'{"login": 7}', world.chance.randbytes(70_000))[
                        kind - 2
                    ]
                )
        made.append(path)
    yield
    for path in made:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
