"""A Redis that hangs, dies, forgets, or takes no writes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from tests.chaos.faults.table import UNDER, fault, hold, hold_until_stale
from tests.chaos.world import World
from tests.redis_server import RedisServer
from tests.support import wait_for


def _redis(world: World) -> RedisServer:
    assert world.redis is not None
    return world.redis


@fault("redis")
def redis_hangs(world: World) -> Iterator[None]:
    with _redis(world).frozen():
        yield
        hold(world, UNDER)


@fault("redis", weight=2)
def redis_hangs_for_long(world: World) -> Iterator[None]:
    with _redis(world).frozen():
        yield
        hold(world)


@fault("redis")
def redis_killed(world: World) -> Iterator[None]:
    _redis(world).kill()
    yield
    _redis(world).start()


@fault("redis", weight=2)
def redis_killed_for_long(world: World) -> Iterator[None]:
    _redis(world).kill()
    yield
    hold(world)
    _redis(world).start()


@fault("redis")
def redis_restarted(world: World) -> Iterator[None]:
    _redis(world).stop()
    _redis(world).start()
    yield


@fault("redis")
def redis_back_empty(world: World) -> Iterator[None]:
    """Params are lost."""
    server = _redis(world)
    world.knows_less()
    server.kill()
    yield
    shutil.rmtree(server.data)
    server.data.mkdir()
    server.start()


@fault("redis")
def redis_emptied(world: World) -> Iterator[None]:
    world.knows_less()
    with _redis(world).client() as client:
        client.flushall()
    yield


def _refusing(world: World) -> Iterator[None]:
    """Let saving fail, after which Redis takes no writes."""
    server = _redis(world)
    # A file cannot take the place of a directory that holds something
    obstacle = server.data / "dump.rdb"

    def status() -> str:
        with server.client() as client:
            return str(client.info("persistence")["rdb_last_bgsave_status"])

    def save() -> None:
        with server.client() as client:
            wait_for("a save", lambda: not client.info("persistence")["rdb_bgsave_in_progress"])
            client.bgsave()

    with server.client() as client:
        client.config_set("save", "3600 1")
    obstacle.unlink(missing_ok=True)
    (obstacle / "something").mkdir(parents=True)
    save()
    wait_for("a save that fails", lambda: status() == "err")
    yield
    shutil.rmtree(obstacle)
    save()
    wait_for("a save", lambda: status() == "ok")
    with server.client() as client:
        client.config_set("save", "")


@fault("redis")
def redis_refuses_writes(world: World) -> Iterator[None]:
    for _ in _refusing(world):
        yield
        hold(world, UNDER)


@fault("redis", weight=2)
def redis_refuses_writes_for_long(world: World) -> Iterator[None]:
    for _ in _refusing(world):
        yield
        hold(world)


@fault("redis", weight=1, is_quick=False)
def redis_refuses_writes_until_all_must_know(world: World) -> Iterator[None]:
    for _ in _refusing(world):
        yield
        hold_until_stale(world)


def _full(world: World) -> Iterator[None]:
    with _redis(world).client() as client:
        client.config_set("maxmemory", "1")
        yield
        client.config_set("maxmemory", "0")


@fault("redis")
def redis_out_of_memory(world: World) -> Iterator[None]:
    for _ in _full(world):
        yield
        hold(world, UNDER)


@fault("redis", weight=1, is_quick=False)
def redis_out_of_memory_until_all_must_know(world: World) -> Iterator[None]:
    for _ in _full(world):
        yield
        hold_until_stale(world)


@fault("redis")
def redis_drops_all_connections(world: World) -> Iterator[None]:
    with _redis(world).client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    yield
