"""A site of several machines that share one list: agents, lists and sidecars on them, and a Redis
with a replica and a Sentinel."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from fastx_list.config import load
from fastx_list.tokens import Tokens
from tests.chaos.machines.network import Host, Machine, Network, kill, stop
from tests.chaos.pace import lease_seconds
from tests.redis_server import RedisServer
from tests.support import Answer, fetch, program, wait_for
from tests.system.sessions import free_display

NAME = "fastx"  # what the Sentinel calls the Redis
LIST_PORT, LIVE_PORT, SENTINEL_PORT = 8000, 8001, 26379
CALM, HASTY = "60000", "200"  # milliseconds after which the Sentinel takes a Redis for dead
# The Sentinel's own times, in milliseconds, for a failover takes seconds by the usual ones.
SENTINEL_TIMES = {
    "INFO-PERIOD": 200,
    "PING-PERIOD": 100,
    "ASK-PERIOD": 100,
    "PUBLISH-PERIOD": 200,
    "ELECTION-TIMEOUT": 500,
    "MIN-LINK-RECONNECT-PERIOD": 200,
    "TILT-PERIOD": 1000,
}


class RedisPair:
    """A Redis that saves each change before it answers, its replica, and the Sentinel that says
    which is which."""

    def __init__(self, network: Network, directory: Path) -> None:
        self._network = network
        self.password = secrets.token_hex(16)
        self.hosts = [Host(network, "redis1"), Host(network, "redis2")]
        options = {
            "requirepass": self.password,
            "masterauth": self.password,
            "appendonly": "yes",
            "appendfsync": "always",
            "repl-diskless-sync-delay": "0",
        }
        self._servers = [
            RedisServer(
                network.processes,
                directory / host.name,
                address=host.address,
                within=host.within,
                **options,
            )
            for host in self.hosts
        ]
        first, second = self._servers
        second.options["replicaof"] = _place(first)
        for server in self._servers:
            server.start()
        self._watcher = Host(network, "sentinel")
        self._file = directory / "sentinel.conf"
        self._file.write_text(
            f"port {SENTINEL_PORT}\nbind {self._watcher.address}\nprotected-mode no\nsentinel"
            f" monitor {NAME} {_place(first)} 1\nsentinel auth-pass {NAME}"
            f" {self.password}\nsentinel down-after-milliseconds {NAME} {CALM}\nsentinel"
            f" failover-timeout {NAME} 3000\n"
        )
        network.processes.start(
            [*self._watcher.within, program("redis-sentinel", "redis-sentinel"), str(self._file)],
            "sentinel",
        )
        self._sentinel: Any = redis.Redis(
            host=self._watcher.address, port=SENTINEL_PORT, decode_responses=True
        )
        wait_for("the Sentinel", self._hasten)
        self._await_replica()

    @property
    def url(self) -> str:
        return f"redis+sentinel://:{self.password}@{self._watcher.address}:{SENTINEL_PORT}/{NAME}"

    @property
    def master(self) -> RedisServer:
        address, _ = self._sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return next(server for server in self._servers if server.address == address)

    @property
    def replica(self) -> RedisServer:
        return next(server for server in self._servers if server is not self.master)

    @property
    def master_host(self) -> Host:
        return self.hosts[self._servers.index(self.master)]

    def restart(self, lose_data: bool) -> None:
        """Kill the master and start it again, with or without what it had."""
        master = self.master
        master.kill()
        if lose_data:
            shutil.rmtree(master.data)
            master.data.mkdir()
        master.start()

    def wipe(self) -> None:
        with self.master.client() as client:
            client.flushall()

    def fail(self) -> None:
        """Kill the master, wait until the Sentinel has put the replica in its place, and start it
        again as the new replica."""
        old, new = self.master, self.replica
        self._sentinel.execute_command("SENTINEL", "SET", NAME, "down-after-milliseconds", HASTY)
        old.kill()
        wait_for("the replica to take over", lambda: self.master is new)
        self._sentinel.execute_command("SENTINEL", "SET", NAME, "down-after-milliseconds", CALM)
        old.options["replicaof"] = _place(new)
        new.options.pop("replicaof", None)
        old.start()

    def switch(self) -> None:
        """Let the two change places in order."""
        old, new = self.master, self.replica
        self._sentinel.execute_command("SENTINEL", "FAILOVER", NAME)
        wait_for("the replica to take over", lambda: self.master is new)
        old.options["replicaof"] = _place(new)
        new.options.pop("replicaof", None)

    def settle(self) -> None:
        """Wait until the replica has all that the master has now, and the Sentinel knows it: no
        failover can lose that any more."""
        self._await_replica()
        with self.master.client() as client:
            # When the replica says that it is connected, the master may not send to it yet.
            wait_for(
                "the replica",
                lambda: client.info("replication").get("slave0", {}).get("state") == "online",
            )
            there = client.info("replication")["master_repl_offset"]
        with self.replica.client() as client:
            wait_for(
                "the replica to catch up",
                lambda: client.info("replication")["slave_repl_offset"] >= there,
            )

    def _hasten(self) -> bool:
        try:
            times = [str(part) for pair in SENTINEL_TIMES.items() for part in pair]
            return bool(self._sentinel.execute_command("SENTINEL", "DEBUG", *times))
        except RedisError:
            return False

    def _await_replica(self) -> None:
        def follows() -> bool:
            with self.replica.client() as client:
                role = client.execute_command("ROLE")
            known = self._sentinel.execute_command("SENTINEL", "REPLICAS", NAME)
            return (
                role[0] == b"slave"
                and role[3] == b"connected"
                and any(
                    each["flags"] == "slave" and each["master-link-status"] == "ok"
                    for each in known
                )
            )

        wait_for("the replica to follow", follows)


def _place(server: RedisServer) -> str:
    return f"{server.address} {server.port}"


class Node:
    """One machine of the site, with an agent and a real session, and on those that serve, a list
    and a sidecar."""

    def __init__(
        self, network: Network, name: str, serves: bool, directory: Path, environ: dict[str, str]
    ) -> None:
        self.machine = Machine(network, name)
        self.name = name
        self.serves = serves
        self.spool = directory / name / "spool"
        self.spool.mkdir(parents=True)
        self.environ = {
            **environ,
            "FASTX_LIST_STATE_DIR": str(directory / name),
            "FASTX_LIST_SERVER_ID": name,
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.display: int | None = None

    @property
    def is_listed(self) -> bool:
        """Whether its sessions belong on the list."""
        return "agent" in self.running and not self.machine.is_cut_off

    @property
    def answers(self) -> bool:
        """Whether its list and its sidecar can be asked."""
        return self.serves and self.machine.is_on and not self.machine.is_cut_off

    @property
    def url(self) -> str:
        return f"http://{self.machine.address}:{LIST_PORT}"

    @property
    def live_url(self) -> str:
        return f"ws://{self.machine.address}:{LIVE_PORT}"

    def boot(self) -> None:
        self.machine.boot()
        for name in ("agent", *(("list", "live") if self.serves else ())):
            self.start(name)

    def start(self, name: str) -> None:
        def gunicorn(role: str, port: int, application: str) -> list[str]:
            settings, address = f"python:fastx_list.{role}.server", f"{self.machine.address}:{port}"
            command = [sys.executable, "-m", "gunicorn", "-c", settings, "--bind", address]
            return [*command, application]

        command = {
            "agent": [sys.executable, "-m", "fastx_list", "agent"],
            "list": gunicorn("web", LIST_PORT, "fastx_list:create_app()"),
            "live": gunicorn("live", LIVE_PORT, "fastx_list:create_live_app()"),
        }[name]
        self.running[name] = self.machine.start(command, name, self.environ)

    def kill(self, name: str) -> None:
        kill(self.running.pop(name))

    def stop(self, name: str) -> None:
        stop(self.running.pop(name))

    def lose_power(self) -> None:
        self.machine.lose_power()
        self.running.clear()
        self._clear_display()

    def start_session(self, geometry: str) -> int:
        """Start a real X server; return the number of its display."""
        self.display = free_display()
        server = program("Xtigervnc", "tigervnc-standalone-server")
        command = [
            server,
            f":{self.display}",
            "-geometry",
            geometry,
            "-SecurityTypes",
            "None",
            "-rfbport",
            "5901",
        ]
        self.running["session"] = self.machine.start(command, "session")
        return self.display

    def end_session(self) -> None:
        self.kill("session")
        self._clear_display()

    def _clear_display(self) -> None:
        """Remove what a killed X server leaves."""
        if self.display is not None:
            for path in (f"/tmp/.X11-unix/X{self.display}", f"/tmp/.X{self.display}-lock"):
                Path(path).unlink(missing_ok=True)
        self.display = None


class Site:
    """The whole: ``one`` and ``two`` serve, ``three`` has sessions only."""

    def __init__(self, network: Network, directory: Path) -> None:
        self.redis = RedisPair(network, directory)
        self.environ = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith("FASTX_LIST_")
            },
            "FASTX_LIST_STORE": self.redis.url,
            "FASTX_LIST_SECRET_KEY": secrets.token_hex(32),
            "FASTX_LIST_SERVER_EXPIRY": str(lease_seconds()),
            "FASTX_LIST_SCAN_INTERVAL": "0.1",
            # One, so that who asks a list has asked all of it.
            "WEB_CONCURRENCY": "1",
        }
        names = {"one": True, "two": True, "three": False}
        self.nodes = {
            name: Node(network, name, serves, directory, self.environ)
            for name, serves in names.items()
        }
        self._tokens = Tokens(load({**self.environ, "FASTX_LIST_STATE_DIR": str(directory)}))

    def token(self, login: str, admin: bool = False) -> str:
        return self._tokens.issue(login, 7 * 86_400, admin)

    def boot(self) -> None:
        for node in self.nodes.values():
            node.boot()

    @staticmethod
    def ask(node: Node, path: str, **options: Any) -> Answer | None:
        """Return what the list on ``node`` answers, if it does."""
        try:
            return fetch(node.url + path, **options)
        except (OSError, HTTPException):
            return None
