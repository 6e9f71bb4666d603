"""The product as it runs: two agents, a list with two workers, a sidecar, a store, and the disk
that all is kept on. Everything can be broken."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil

from fastx_list.config import load
from fastx_list.store import Store, StoreError, open_store
from fastx_list.tokens import Tokens
from tests.chaos.hearing import Hearing, State, in_redis, in_sqlite
from tests.chaos.judge import Judge
from tests.chaos.truth import Truth
from tests.redis_server import RedisServer
from tests.support import Answer, Processes, fetch, wait_for

LIST_PORT, LIVE_PORT = 8000, 8001
DISK_MEGABYTES = 128
WORKERS = 2  # of the list
START_SECONDS = 120.0  # generous, since nothing here is about speed
ANSWER_SECONDS = 60.0  # likewise
SILENT_SECONDS = 0.5  # that whoever is stopped is waited for
AGENTS = ("one", "two")
TTL = 7 * 86_400  # seconds that tokens are good for which are not to end
SERVERS = {
    "list": ("web", LIST_PORT, "fastx_list:create_app()"),
    "live": ("live", LIVE_PORT, "fastx_list:create_live_app()"),
}


@dataclass(frozen=True)
class Node:
    """A machine with an agent, as far as the list is concerned."""

    name: str
    state: Path
    spool: Path


class World:
    """Use :func:`world`."""

    def __init__(self, place: Path, kind: str, chance: random.Random, lease: float) -> None:
        self.place = place
        self.kind = kind  # of the store
        self.chance = chance
        self.truth = Truth(lease)
        self.hearing = Hearing(AGENTS, lease)
        self.truth.silence = self.hearing.silence
        self.truth.waited_since = self.hearing.waited_since
        self.judge = Judge(self.truth)
        self.processes = Processes(place)
        self.disk = place / "disk"
        self.nodes = {
            name: Node(name, self.disk / name, place / "spools" / name) for name in AGENTS
        }
        self.database = self.disk / "one" / "sessions.db"
        self.redis: RedisServer | None = None
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.live_workers = chance.choice((1, 2))
        # When each agent was started, or went on, last: it is heard of again after that
        self.back_since: dict[str, float] = {}
        self.environ: dict[str, str] = {}
        self.tokens: Tokens
        # Waits until subscribers with tokens that were revoked have been sent away
        self.await_revocations: Callable[[], None] = lambda: None
        # How far each log has been read
        self._read: dict[Path, int] = {}

    # Beginning and end.

    def begin(self) -> None:
        self.disk.mkdir()
        _mount(self.disk, f"size={DISK_MEGABYTES}m,mode=755")
        (self.place / "spools").mkdir()
        _mount(self.place / "spools", "size=512m,mode=755")
        for node in self.nodes.values():
            node.state.mkdir(mode=0o700)
            node.spool.mkdir()
        url = f"sqlite:///{self.database}"
        if self.kind == "redis":
            # In memory, too: it writes each change through, and others may keep the disk busy
            (self.place / "redis").mkdir()
            _mount(self.place / "redis", "size=512m,mode=755")
            self.redis = RedisServer(
                self.processes, self.place / "redis", appendonly="yes", appendfsync="always"
            ).start()
            url = self.redis.url
        self.environ = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith("FASTX_LIST_")
            },
            "FASTX_LIST_STORE": url,
            "FASTX_LIST_SERVER_EXPIRY": str(self.truth.lease),
            "FASTX_LIST_SCAN_INTERVAL": "0.1",
            "FASTX_LIST_STATE_DIR": str(self.nodes["one"].state),
        }
        # With a secret that stays, whatever is done to its file
        made = Tokens(load(self.environ))
        secret = (self.nodes["one"].state / "secret").read_text(encoding="utf-8").strip()
        self.tokens = Tokens(load({**self.environ, "FASTX_LIST_SECRET_KEY": secret}))
        assert self.tokens.verify(made.issue("any", TTL), ()).login == "any"
        for name in (*AGENTS, "list", "live"):
            self.start(name)
        self.await_servers()
        self.hearing.start(self._look, self._waited)

    def _look(self) -> State:
        return in_sqlite(self.database) if self.redis is None else in_redis(self.redis, AGENTS)

    def _waited(self, name: str) -> float:
        """Return for how many seconds the threads of an agent have waited for a processor."""
        seconds = 0.0
        for file in Path(f"/proc/{self.running[name].pid}/task").glob("*/schedstat"):
            with suppress(OSError):  # it is no longer there
                seconds += int(file.read_text(encoding="ascii").split()[1]) / 1e9
        return seconds

    def end(self) -> None:
        self.hearing.stop()
        for process in self.running.values():
            _signal_all(process.pid, signal.SIGCONT)
        self.processes.stop()
        for name in ("spools", "disk", "redis"):
            subprocess.run(["umount", "-l", str(self.place / name)], capture_output=True)

    # Processes.

    def start(self, name: str, **environ: str) -> None:
        env = {**self.environ, **environ}
        if name in self.nodes:
            node = self.nodes[name]
            self.back_since[name] = time.monotonic()
            env |= {
                "FASTX_LIST_STATE_DIR": str(node.state),
                "FASTX_LIST_SERVER_ID": name,
                "FASTX_LIST_SPOOL": str(node.spool),
                "FASTX_LIST_SOURCES": "spool,tigervnc" if name == "one" else "spool",
            }
            command = [sys.executable, "-m", "fastx_list", "agent"]
        else:
            role, port, application = SERVERS[name]
            env["WEB_CONCURRENCY"] = str(WORKERS if name == "list" else self.live_workers)
            settings = f"python:fastx_list.{role}.server"
            command = [sys.executable, "-m", "gunicorn", "-c", settings]
            command += ["--bind", f"127.0.0.1:{port}", application]
        self.running[name] = self.processes.start(command, name, env)

    def await_servers(self) -> None:
        for name in SERVERS:
            wait_for(name, lambda: self.answers(name), START_SECONDS)

    def answers(self, name: str) -> bool:
        answer = self.ask("/health", SERVERS[name][1])
        return answer is not None and answer.status == 200

    def workers(self, name: str) -> list[int]:
        """Return the pids of what serves: the workers of list or sidecar, or the agent."""
        process = self.running[name]
        if name in self.nodes:
            return [process.pid]
        with suppress(psutil.NoSuchProcess):
            return [
                child.pid
                for child in psutil.Process(process.pid).children()
                if child.status() != psutil.STATUS_ZOMBIE
            ]
        return []

    def pids(self, name: str) -> list[int]:
        """Return the pids of all of it."""
        if name in self.nodes:
            return [self.running[name].pid]
        return [self.running[name].pid, *self.workers(name)]

    def signal(self, name: str, number: int, pids: Iterable[int] | None = None) -> None:
        for pid in self.pids(name) if pids is None else pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self, name: str) -> None:
        pids = self.pids(name)
        self.signal(name, signal.SIGKILL, pids)
        self.running[name].wait()
        wait_for(f"the end of {name}", lambda: not any(map(_is_alive, pids)), START_SECONDS)

    def terminate(self, name: str) -> None:
        pids = self.pids(name)
        self.running[name].terminate()
        self.running[name].wait(START_SECONDS)
        wait_for(f"the end of {name}", lambda: not any(map(_is_alive, pids)), START_SECONDS)

    def revive(self) -> None:
        """Start again what has ended, as a service manager does; what had no reason to end is
        blamed."""
        for name, process in list(self.running.items()):
            if process.poll() is not None:
                if name not in self.truth.excuses.deaths:
                    self.judge.blame(f"{name} has ended with {process.returncode}")
                if name in SERVERS:
                    self.truth.excuses.closes |= {1001, 1006}
                self.start(name)

    def read_logs(self) -> None:
        """Blame what the logs say of mistakes."""
        for path in sorted(self.place.glob("*.log")):
            with open(path, "rb") as file:
                file.seek(self._read.get(path, 0))
                text = file.read().decode(errors="replace")
                self._read[path] = file.tell()
            if "Traceback" in text and not self.truth.excuses.complaints:
                self.judge.blame(f"{path}: {text[text.index('Traceback') :][-1500:]}")

    # Asking.

    def ask(self, path: str, port: int = LIST_PORT, **options: Any) -> Answer | None:
        """Return what the list answers, if it does."""
        seconds = SILENT_SECONDS if self.truth.excuses.silent else ANSWER_SECONDS
        try:
            return fetch(f"http://127.0.0.1:{port}{path}", timeout=seconds, **options)
        except (OSError, HTTPException):
            return None

    @contextmanager
    def only(self, name: str, worker: int) -> Iterator[None]:
        """Let no other worker of list or sidecar take a request for a moment."""
        others = [pid for pid in self.workers(name) if pid != worker]
        self.signal(name, signal.SIGSTOP, others)
        try:
            # The kernel wakes one worker for each connection, and of those that are stopped each
            # once
            for _ in others:
                socket.create_connection(("127.0.0.1", SERVERS[name][1])).close()
            yield
        finally:
            self.signal(name, signal.SIGCONT, others)

    @contextmanager
    def store(self) -> Iterator[Store]:
        store = open_store(self.environ["FASTX_LIST_STORE"], create=False)
        try:
            yield store
        finally:
            store.close()

    def token(self, login: str, admin: bool = False, ttl: float = TTL) -> str:
        return self.tokens.issue(login, ttl, admin)

    # For faults.

    def away(self, node: str) -> None:
        """Note that nothing is heard of the agent of ``node`` from now on."""
        self.truth.excuses.away.setdefault(node, time.monotonic())

    def knows_less(self) -> None:
        """Note that the store is about to lose params, if not all that it had. Whoever knows of
        revoked tokens tells it, so somebody has to know."""
        self.await_revocations()
        self.truth.excuses.older = True
        for session in self.truth.running:
            session.is_started_anew = True

    def back(self, node: str) -> None:
        """Note that the agent of ``node`` goes on."""
        self.truth.excuses.back.add(node)
        self.back_since[node] = time.monotonic()

    def silent_agent(self) -> str | None:
        """Return an agent that was started, or goes on, and of which nothing was heard since."""
        try:
            with self.store() as store:
                store.snapshot()
                renewed = store.renewed
        except StoreError as error:
            return str(error)
        for name, since in self.back_since.items():
            if renewed.get(name, 0.0) < since:
                return name
        return None


@contextmanager
def world(place: Path, kind: str, chance: random.Random, lease: float) -> Iterator[World]:
    made = World(place, kind, chance, lease)
    try:
        made.begin()
        yield made
    finally:
        made.end()


def _mount(path: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal_all(pid: int, number: int) -> None:
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)
