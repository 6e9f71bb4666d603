"""Listens to the agents by way of the store: of one that was silent for longer than its lease while
others wrote the sessions may have ended, whatever kept it from writing. It only looks: a reader of
the product's ends leases that have run out."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.redis_server import RedisServer

LATE = 3 / 8  # of a lease: so much of a time counts in which nobody wrote anything
# Of a lease: longer than from one beat of an agent to the next. So long nobody is silent that could
# write, and none of it is an agent's own silence
NOBODY = 0.3
PAUSE_SECONDS = 0.1
KEPT_WAITS = 1000
KEYS = "{fastx-list}:1:"

# The last revision, and by server when its lease runs out, which is another time at each renewal
State = tuple[Any, Mapping[str, Any]]


def in_sqlite(path: Path) -> State:
    """Return what the database at ``path`` holds."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0)) as db:
        [[revision]] = db.execute("SELECT revision FROM head")
        return revision, dict(db.execute("SELECT id, expires FROM server"))


def in_redis(server: RedisServer, names: Iterable[str]) -> State:
    """Return what this Redis holds."""
    with server.client(socket_timeout=1.0) as client:
        expires = {name: client.hget(f"{KEYS}lease:{name}", "expires") for name in names}
        return client.get(f"{KEYS}head"), expires


class Hearing:
    """Listens in a thread of its own, from :meth:`start` to :meth:`stop`."""

    def __init__(self, names: Iterable[str], lease: float) -> None:
        self._lease = lease
        self._look: Callable[[], State]
        self._waited_in_all: Callable[[str], float] = lambda name: 0.0
        # By agent: for how many seconds that count it was silent, for how many at most since all
        # agreed, and until when it was silent for so long
        self._silent = dict.fromkeys(names, 0.0)
        self._most = dict(self._silent)
        self._most_until = dict(self._silent)
        # By agent: for how many of them others wrote all the time, and for how many at most
        self._alone = dict(self._silent)
        self._most_alone = dict(self._silent)
        # By agent: for how many seconds it had waited for a processor when it was heard last, and
        # for how many it did while it was silent for the most
        self._waited = dict(self._silent)
        self._most_waited = dict(self._silent)
        # By agent: for how long it had waited in all, lately
        self._waits = {name: deque[tuple[float, float]](maxlen=KEPT_WAITS) for name in self._silent}
        self._before: State = None, {}
        self._written = time.monotonic()  # when anybody wrote last
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hearing", daemon=True)

    def start(self, look: Callable[[], State], waited: Callable[[str], float]) -> None:
        """``waited`` says for how many seconds the threads of an agent have waited for a processor
        since it began."""
        self._look, self._waited_in_all = look, waited
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.ident:
            self._thread.join()

    def forget(self, agreed: float) -> None:
        """Begin anew: all have ``agreed`` since then. What an agent was silent for later may not
        have been told to all yet."""
        for name, until in self._most_until.items():
            if until <= agreed:
                self._most[name] = self._silent[name]
            self._alone[name] = self._most_alone[name] = 0.0

    def silence(self, name: str) -> float:
        """Return for how long the agent ``name`` has been silent, while others wrote, since all
        agreed last."""
        return max(self._most[name], self._silent[name] + self._gap(time.monotonic()))

    def silence_alone(self, name: str) -> float:
        """Return for how long at most, since all agreed last, the agent ``name`` was silent while
        others wrote all the time."""
        return self._most_alone[name]

    def waited(self, name: str) -> float:
        """Return for how many seconds of its longest silence the agent ``name`` waited for a
        processor."""
        return self._most_waited[name]

    def waited_since(self, name: str, since: float) -> float:
        """Return for how many seconds after ``since`` the agent ``name`` waited for a processor."""
        waits = self._waits[name]
        before = [seconds for at, seconds in list(waits) if at <= since]
        return max(0.0, waits[-1][1] - before[-1]) if before else 0.0

    def _gap(self, now: float) -> float:
        return min(now - self._written, LATE * self._lease)

    def _run(self) -> None:
        while not self._stopped.wait(PAUSE_SECONDS):
            self.note_waits(self._waited_in_all)
            try:
                state = self._look()
            except Exception:
                continue  # it cannot be read now
            self.take(state, time.monotonic())

    def note_waits(self, waited: Callable[[str], float]) -> None:
        for name, waits in self._waits.items():
            waits.append((time.monotonic(), waited(name)))

    def take(self, state: State, now: float) -> None:
        """Take note of what the store holds ``now``."""
        if state == self._before:
            return
        gap, self._written = self._gap(now), now
        for name in self._silent:
            self._silent[name] += gap
            self._alone[name] = self._alone[name] + gap if gap < NOBODY * self._lease else 0.0
            self._most_alone[name] = max(self._most_alone[name], self._alone[name])
            waited = self._waited_in_all(name)
            if self._silent[name] >= self._most[name]:
                self._most[name], self._most_until[name] = self._silent[name], now
                self._most_waited[name] = waited - self._waited[name]
            expires = state[1].get(name)
            # A lease that is ended says nothing of its agent
            if expires is not None and expires != self._before[1].get(name):
                self._silent[name] = self._alone[name] = 0.0
                self._waited[name] = waited
        self._before = state
