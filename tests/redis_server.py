"""Real Redis servers for tests: each with a directory of its own, on a free port of 127.0.0.1 (or
of another address), and on a socket in that directory."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.support import Processes, free_port, program, wait_for

PACKAGE = "redis-server"


class RedisServer:
    """One ``redis-server``; ``options`` are those of its configuration file, such as
    ``requirepass``.

    ``within`` is the beginning of a command that runs it on the host that has ``address``.
    """

    def __init__(
        self,
        processes: Processes,
        directory: Path,
        *,
        address: str = "127.0.0.1",
        within: Sequence[str] = (),
        **options: str,
    ) -> None:
        self.data = directory / "data"  # what it saves, if it saves
        self.data.mkdir(parents=True)
        self._processes = processes  # ends it at last
        self.address = address  # what it listens on
        self._within = within
        self.directory = directory  # its own, with its settings, its socket and its data
        self.socket = directory / "redis.sock"
        self.port = free_port()
        self.options = {  # the lines of its settings file; read when it starts
            "save": '""',
            "appendonly": "no",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self.process: subprocess.Popen[bytes]  # once it is started

    @property
    def url(self) -> str:
        return f"redis://{self.address}:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"redis+unix://{self.socket}"

    def client(self, **options: Any) -> redis.Redis:
        """Return a plain client, for looking at and for doing harm."""
        return redis.Redis(
            unix_socket_path=str(self.socket), password=self.options.get("requirepass"), **options
        )

    def start(self) -> RedisServer:
        self.start_without_waiting()
        wait_for("redis-server", self.answers)
        return self

    def start_without_waiting(self) -> None:
        settings = {
            "port": str(self.port),
            "bind": self.address,
            "unixsocket": str(self.socket),
            "dir": str(self.data),
            **self.options,
        }
        file = self.directory / "redis.conf"
        file.write_text(
            "".join(f"{name} {value}\n" for name, value in settings.items()), encoding="utf-8"
        )
        command = [*self._within, program("redis-server", PACKAGE), str(file)]
        self.process = self._processes.start(command, f"redis-{self.port}")

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.exceptions.RedisError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop in order, as an administrator does; what is to be saved is saved."""
        self.process.terminate()
        self.process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it hang, so that it takes connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def redis_server(**options: str) -> Iterator[RedisServer]:
    """Run a server for as long as the block lasts."""
    # The path of a socket may not be long
    directory = Path(tempfile.mkdtemp(prefix="fastx-list-redis-"))
    processes = Processes(directory)
    try:
        yield RedisServer(processes, directory, **options).start()
    finally:
        processes.stop()
        shutil.rmtree(directory)


def replica_of(master: RedisServer) -> AbstractContextManager[RedisServer]:
    """Run a replica of ``master`` for as long as the block lasts."""
    return redis_server(replicaof=f"127.0.0.1 {master.port}", repl_diskless_sync_delay="0")


def in_sync(replica: RedisServer) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def until_copied(master: RedisServer, replica: RedisServer) -> None:
    """Wait until ``replica`` has all that was written to ``master``."""
    with master.client() as one, replica.client() as other:
        wait_for(
            "the replica",
            lambda: (
                in_sync(replica)
                and one.get("{fastx-list}:1:head") == other.get("{fastx-list}:1:head")
            ),
        )
