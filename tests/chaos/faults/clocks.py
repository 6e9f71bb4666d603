"""Clocks that jump, for one process; the clock that nobody sets goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.faults.table import UNDER, fault, hold
from tests.chaos.world import AGENTS, World
from tests.support import program

# libfaketime 0.9.10 refuses the clock_nanosleep(2) of Python's own, unless it fakes all clocks
SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)[3:]\n"
ROOT = Path(__file__).parents[3]
JUMPS = ("+2d", "-2d", "+1h", "-1h")


def _library() -> str:
    program("faketime", "faketime")
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return str(library)


def _environ(world: World, clock: Path) -> dict[str, str]:
    """Return what lets a process read the wall clock out of a file."""
    patches = world.place / "patches"
    patches.mkdir(exist_ok=True)
    (patches / "sitecustomize.py").write_text(SLEEP)
    return {
        "PYTHONPATH": f"{patches}:{ROOT}",
        "LD_PRELOAD": _library(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "NO_FAKE_STAT": "1",
        # Of this or that release
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def _jumping(world: World, name: str, at_start: bool) -> Iterator[None]:
    """Start ``name`` with a clock that can be set, and set it, before or after it has started."""
    excuses = world.truth.excuses
    excuses.deaths.add(name)
    excuses.clock = True
    if name in AGENTS:
        world.truth.clocks_set.add(name)
        world.away(name)
        world.back(name)
        # By a clock that is behind, times of the right one are ahead, and are not believed
        for session in world.truth.running:
            if session.node == name:
                session.touched = session.touched or round(time.time() * 1000)
    else:
        excuses.closes |= {1001, 1006, 4401}
    clock = world.place / "clock"
    jump = world.chance.choice(JUMPS)
    clock.write_text(f"{jump if at_start else '+0'}\n")
    world.terminate(name)
    world.start(name, **_environ(world, clock))
    world.await_servers()
    clock.write_text(f"{jump}\n")
    yield
    hold(world, UNDER)
    if world.chance.random() < 0.5:
        clock.write_text("+0\n")
        hold(world, UNDER)
    world.terminate(name)
    world.start(name)
    world.await_servers()


@fault(weight=3)
def agents_clock_jumps(world: World) -> Iterator[None]:
    yield from _jumping(world, world.chance.choice(AGENTS), False)


@fault(weight=3)
def agent_started_at_a_wrong_time(world: World) -> Iterator[None]:
    yield from _jumping(world, world.chance.choice(AGENTS), True)


@fault(weight=2)
def lists_clock_jumps(world: World) -> Iterator[None]:
    yield from _jumping(world, "list", world.chance.random() < 0.5)


@fault(weight=2)
def sidecars_clock_jumps(world: World) -> Iterator[None]:
    yield from _jumping(world, "live", world.chance.random() < 0.5)
