"""Processes that are killed, ended, stopped and told to begin anew."""

from __future__ import annotations

import signal
from collections.abc import Iterator

from tests.chaos.faults.table import UNDER, fault, hold, hold_until_stale
from tests.chaos.world import AGENTS, START_SECONDS, World
from tests.support import wait_for


def _agent(world: World) -> str:
    return world.chance.choice(AGENTS)


def _drop(world: World) -> None:
    """The connections may end without a word."""
    world.truth.excuses.closes |= {1001, 1006}


def _agent_away(world: World, name: str) -> None:
    world.truth.excuses.deaths.add(name)
    world.away(name)


@fault()
def agent_killed(world: World) -> Iterator[None]:
    name = _agent(world)
    _agent_away(world, name)
    world.kill(name)
    world.start(name)
    world.back(name)
    yield


@fault(weight=2)
def agent_killed_for_long(world: World) -> Iterator[None]:
    name = _agent(world)
    _agent_away(world, name)
    world.kill(name)
    yield
    hold(world)
    world.back(name)
    world.start(name)


@fault(weight=1, is_quick=False)
def agent_killed_until_all_must_know(world: World) -> Iterator[None]:
    name = _agent(world)
    _agent_away(world, name)
    world.kill(name)
    yield
    hold_until_stale(world)
    world.back(name)
    world.start(name)


@fault()
def agent_ended(world: World) -> Iterator[None]:
    name = _agent(world)
    _agent_away(world, name)
    world.terminate(name)
    yield
    world.back(name)
    world.start(name)


@fault()
def agent_stopped_for_a_moment(world: World) -> Iterator[None]:
    name = _agent(world)
    world.away(name)
    world.signal(name, signal.SIGSTOP)
    hold(world, UNDER)
    yield
    world.back(name)
    world.signal(name, signal.SIGCONT)


@fault(weight=2)
def agent_stopped_for_long(world: World) -> Iterator[None]:
    name = _agent(world)
    world.away(name)
    world.signal(name, signal.SIGSTOP)
    yield
    hold(world)
    world.back(name)
    world.signal(name, signal.SIGCONT)


def _one_worker(world: World, name: str) -> list[int]:
    return [world.chance.choice(world.workers(name))]


@fault()
def list_worker_killed(world: World) -> Iterator[None]:
    world.truth.excuses.deaths.add("workers")
    world.signal("list", signal.SIGKILL, _one_worker(world, "list"))
    yield


@fault()
def list_killed(world: World) -> Iterator[None]:
    world.truth.excuses.deaths.add("list")
    world.kill("list")
    yield
    world.start("list")
    world.await_servers()


@fault()
def list_ended(world: World) -> Iterator[None]:
    world.truth.excuses.deaths.add("list")
    world.terminate("list")
    world.start("list")
    yield
    world.await_servers()


def _reload(world: World, name: str) -> Iterator[None]:
    before = {*world.workers(name)}
    world.signal(name, signal.SIGHUP, [world.running[name].pid])
    yield
    wait_for("other workers", lambda: not before & {*world.workers(name)}, START_SECONDS)


@fault()
def list_told_to_reload(world: World) -> Iterator[None]:
    yield from _reload(world, "list")


@fault()
def sidecar_worker_killed(world: World) -> Iterator[None]:
    _drop(world)
    world.signal("live", signal.SIGKILL, _one_worker(world, "live"))
    yield


@fault()
def sidecar_killed(world: World) -> Iterator[None]:
    _drop(world)
    world.truth.excuses.deaths.add("live")
    world.kill("live")
    yield
    world.start("live")
    world.await_servers()


@fault()
def sidecar_ended(world: World) -> Iterator[None]:
    _drop(world)
    world.truth.excuses.deaths.add("live")
    world.terminate("live")
    world.start("live")
    yield
    world.await_servers()


@fault()
def sidecar_told_to_reload(world: World) -> Iterator[None]:
    _drop(world)
    yield from _reload(world, "live")


@fault(weight=2)
def reader_stopped_for_long(world: World) -> Iterator[None]:
    name = world.chance.choice(("list", "live"))
    pids = _one_worker(world, name)
    world.signal(name, signal.SIGSTOP, pids)
    yield
    hold(world)
    world.signal(name, signal.SIGCONT, pids)


@fault(weight=2)
def all_stopped_for_long(world: World) -> Iterator[None]:
    """Nobody is away for anybody: when all go on, no session has ended."""
    names = [*world.running]
    world.chance.shuffle(names)
    world.truth.excuses.silent = True
    for name in names:
        world.signal(name, signal.SIGSTOP)
    yield
    hold(world)
    world.chance.shuffle(names)
    for name in names:
        world.signal(name, signal.SIGCONT)
    world.truth.excuses.silent = False


@fault(weight=1)
def everything_killed(world: World) -> Iterator[None]:
    """As when a machine loses its power."""
    _drop(world)
    names = [*world.running]
    world.truth.excuses.deaths |= {*names}
    for name in AGENTS:
        world.away(name)
    for name in names:
        world.kill(name)
    world.chance.shuffle(names)
    for name in names:
        world.start(name)
    world.truth.excuses.back |= {*AGENTS}
    world.await_servers()
    yield
