"""Thousands of WebSocket clients in one process of their own, cheap enough to leave a server its
core.

The kernel stamps what arrives, so a figure does not depend on when that process got round to
reading it. The stamps are of the wall clock (``time.time_ns``), as are the times that they are
compared with.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

from tests.bench import clients
from tests.bench.common import BenchmarkError

REPLY_SECONDS = 30.0
MAX_CLIENTS = 15_000  # a process may have 20,000 files on many systems


class Connected(NamedTuple):
    """What became of connections: seconds until each was served, reasons of those that failed,
    extensions agreed on."""

    seconds: list[float]
    failed: Counter[str]
    extensions: Counter[str]


class Arrivals(NamedTuple):
    """Messages in the order in which they were read: whose, the number in each, and when the kernel
    had all of it (ns)."""

    clients: Sequence[int]
    numbers: Sequence[int]
    times: Sequence[int]


def allow_files() -> None:
    """Let this process and those it starts open as many files as the system permits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Crowd:
    """Clients on loopback that answer pings. Each goes by its place in ``connect``."""

    def __init__(self) -> None:
        allow_files()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=clients.run, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(REPLY_SECONDS)

    def connect(
        self,
        port: int,
        targets: Sequence[str],
        *,
        at_once: int,
        first: int = 0,
        keep: bool = False,
        narrow: bool = False,
        deflates: bool = True,
    ) -> Connected:
        """Open a WebSocket to each of ``targets``, paths on ``port``, of which ``at_once`` may be
        under way. To be called once.

        One is served when it has got ``first`` messages. With ``keep`` it remembers the sessions
        that messages tell of. With ``narrow`` the kernel holds little for one that does not read;
        for it loopback would hold megabytes. Compression is offered unless it keeps sessions, or
        ``deflates`` is false.
        """
        return Connected(
            *self._ask(
                "connect",
                port,
                targets,
                at_once,
                first,
                keep,
                narrow,
                deflates,
                within=clients.CONNECT_SECONDS,
            )
        )

    def connect_all(
        self, port: int, targets: Sequence[str], *, at_once: int = 200, **options: Any
    ) -> Connected:
        """Connect as ``connect`` does; it is an error if anyone is not served."""
        connected = self.connect(port, targets, at_once=at_once, **options)
        if connected.failed:
            raise BenchmarkError(
                f"of {len(targets)} clients these were not served: {dict(connected.failed)}"
            )
        return connected

    def collect(self, count: int, seconds: float) -> Arrivals:
        """Return the messages since the last call, once they are ``count`` or ``seconds`` have
        passed."""
        return Arrivals(*self._ask("collect", count, seconds, within=seconds))

    def pause(self, numbers: Iterable[int]) -> None:
        """Have these clients stop reading."""
        self._ask("pause", list(numbers))

    def resume(self) -> None:
        self._ask("resume")

    def lost(self) -> Counter[str]:
        """Return how many connections have ended since they were served, and why."""
        return Counter(self._ask("lost"))

    def states(self) -> dict[int, dict[str, Any]]:
        """Return the sessions by id of each client that was to keep them; ``None`` for one that has
        ended."""
        return cast("dict[int, dict[str, Any]]", self._ask("states"))

    def _ask(self, command: str, *arguments: Any, within: float = 0) -> Any:
        try:
            self._pipe.send((command, arguments))
            if self._pipe.poll(within + REPLY_SECONDS):
                return self._pipe.recv()
        except (EOFError, OSError):
            pass
        raise BenchmarkError(f"the clients' process does not answer: {command}")
