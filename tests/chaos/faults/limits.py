"""Processes that may have few files, little memory, or write no file."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import psutil

from tests.chaos.faults.table import UNDER, fault, hold
from tests.chaos.world import AGENTS, SERVERS, World

SPARE_FILES = 1
SPARE_BYTES = 256 * 1024


def _some_process(world: World, *names: str) -> tuple[str, int]:
    name = world.chance.choice(names or (*AGENTS, *SERVERS))
    return name, world.chance.choice(world.workers(name))


def _set(pid: int, what: int, soft: int) -> int:
    """Set a limit of a process; return what it was."""
    was, hard = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, hard))
    return was


def _limit(world: World, name: str, pid: int, what: int, soft: int) -> Iterator[None]:
    was = _set(pid, what, soft)
    yield
    hold(world, UNDER)
    if psutil.pid_exists(pid):
        _set(pid, what, was)


@fault()
def few_files(world: World) -> Iterator[None]:
    """Whoever can open no file sees nothing, and so ends nothing."""
    name, pid = _some_process(world)
    excuses = world.truth.excuses
    if name in AGENTS:
        excuses.blind.add(name)
    elif name == "live":
        excuses.closes |= {1001, 1006}
        excuses.statuses |= {500}
    else:
        excuses.deaths.add("workers")
    if name not in AGENTS:
        excuses.statuses.add(408)  # there is no room to wait for requests
    excuses.complaints = True
    highest = max(map(int, os.listdir(f"/proc/{pid}/fd")))
    yield from _limit(world, name, pid, resource.RLIMIT_NOFILE, highest + SPARE_FILES)


@fault()
def no_file_may_grow(world: World) -> Iterator[None]:
    """As where a quota is used up."""
    name, pid = _some_process(world)
    world.truth.excuses.complaints = True
    yield from _limit(world, name, pid, resource.RLIMIT_FSIZE, 0)


@fault(weight=2)
def little_memory(world: World) -> Iterator[None]:
    """It may end, and then is started again."""
    name, pid = _some_process(world)
    excuses = world.truth.excuses
    excuses.deaths |= {name, "workers"}
    excuses.closes |= {1001, 1006}
    excuses.statuses |= {500}
    excuses.complaints = True
    if name in AGENTS:
        excuses.blind.add(name)
        world.away(name)
        world.back(name)
    used = psutil.Process(pid).memory_info().vms
    yield from _limit(world, name, pid, resource.RLIMIT_AS, used + SPARE_BYTES)
