"""Whatever happens to the store, to sidecars and to connections, in whatever order: a client that
resumes has exactly the list."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from fastx_list.live.bus import Bus, Filters, Mailbox, News, passes, snapshot_of
from fastx_list.live.frames import FramedEntry
from fastx_list.live.start import Asked, mark, start
from fastx_list.model.query import Filter
from fastx_list.model.session import Session
from fastx_list.replica import doubt, trail
from fastx_list.replica import replica as replica_module
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Everything, Topic
from fastx_list.store import KEEP_ENDS_SECONDS, open_store, sqlite_order
from tests.live.mailboxes import ENOUGH, IDLE
from tests.replica.stores import FAR, remove_database

_NUMBERS = st.integers(0, 5)
_LOGINS = st.sampled_from(["alice", "bob"])
_OBSERVED = st.dictionaries(_NUMBERS, st.integers(0, 2), max_size=6)  # clients of each
_SEVERAL = st.lists(_OBSERVED, min_size=2, max_size=3)
_CLIENTS: list[tuple[Topic, Filters]] = [
    ("alice", ()),
    ("alice", IDLE),
    ("bob", (Filter("clients", frozenset({"1", "2"})),)),
    (Everything.SESSIONS, ()),
]
_CLIENT = st.integers(0, len(_CLIENTS) - 1)
_WORKER = st.integers(0, 1)


class Worker:
    """A sidecar, but for its sockets."""

    def __init__(self, database: Path) -> None:
        self.store = open_store(f"sqlite:///{database}")
        self.replica = Replica(self.store, FramedEntry, lambda call: call())
        ticks = count()
        # As if every turn were over at once
        self.bus = Bus(lambda: next(ticks), self.replica.trail.revision)
        while not self.replica.loaded:
            self.replica.follow(0)

    def follow(self) -> None:
        self.bus.publish(self.replica.follow(0))


class Client:
    """Keeps to the algorithm that docs/api.md gives, on a socket that takes all or nothing."""

    def __init__(self, topic: Topic, filters: Filters) -> None:
        self.topic = topic
        self.filters = filters
        self.sessions: dict[str, Any] = {}
        self.revision: str | None = None
        self.worker: Worker | None = None
        self.mailbox = Mailbox()
        self.is_full = False
        self.ids: list[str] | None = None
        self.first: str | None = None

    def connect(self, worker: Worker) -> None:
        self.close()
        if self.revision is None:
            self.sessions.clear()
        self.worker = worker
        asked = Asked(True, True, self.revision is not None, self.revision)
        self.first = worker.replica.trail.revision(self.topic)
        told, self.ids = start(self, self.topic, asked, worker.bus, worker.replica)
        self.tell(News(told))
        self.go_on()

    def go_on(self) -> None:
        """Be told the next part of what comes first."""
        if self.worker is None or self.ids is None:
            return
        some, entries = self.ids[:1], self.worker.replica.entries(self.topic)
        self.ids = self.ids[1:] or None
        present = [entries[name] for name in some if name in entries]
        self.tell(News(snapshot_of(present, self.filters)))
        if self.ids is None:
            self.mark(self.first)

    def bookmark(self) -> None:
        if self.worker is not None and self.ids is None:
            self.mark(self.worker.bus.told(self.topic))

    def mark(self, revision: str | None) -> None:
        if revision is not None and None not in self.mailbox:
            self.tell(News([mark(revision)]))

    def tell(self, news: News) -> None:
        for told in news.told:
            self.mailbox.put(told)
        if not self.is_full:
            self.read(ENOUGH)

    def read(self, most: int) -> None:
        for frame in self.mailbox.take(most):
            message = json.loads(frame[frame.index(b"{") :])
            if "revision" in message:
                self.revision = message["revision"]
                if self.revision is None:
                    self.sessions.clear()
            elif message["data"] is None:
                self.sessions.pop(message["id"], None)
            else:
                self.sessions[message["id"]] = message["data"]

    def close(self) -> None:
        """What is on its way is lost."""
        if self.worker is not None:
            self.worker.bus.unsubscribe(self.topic, self)
        self.worker, self.mailbox, self.ids = None, Mailbox(), None


class Resuming(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        # In memory, where there is such a thing: thousands of syncs to a disk take minutes
        self.directory = tempfile.TemporaryDirectory(
            dir="/dev/shm" if os.path.isdir("/dev/shm") else None
        )
        self.database = Path(self.directory.name) / "sessions.db"
        self.now = 1_700_000_000.0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(replica_module.log, "disabled", True)
        times = SimpleNamespace(time=time.time, monotonic=lambda: self.now)
        self.patch.setattr(sqlite_order, "time", times)
        self.patch.setattr(sqlite_order, "LONGEST_STEP", math.inf)
        # No agent says that its server is there, so that readers of another store wait for all
        self.patch.setattr(doubt, "REFILL_SECONDS", 0)
        # So that they are reached, too
        self.patch.setattr(trail, "MAX_STEPS", 6)
        self.patch.setattr(trail, "MAX_ENDS", 8)
        self.patch.setattr(trail, "MAX_ENDS_OF_LOGIN", 4)
        self.writer = open_store(f"sqlite:///{self.database}")
        self.clients = [Client(topic, filters) for topic, filters in _CLIENTS]
        self.workers: list[Worker] = []
        self.of_bob = {1, 3, 5}  # the numbers of his sessions

    def teardown(self) -> None:
        self.settle()
        for worker in self.workers:
            worker.store.close()
        self.writer.close()
        self.patch.undo()
        self.directory.cleanup()

    @initialize(observed=_OBSERVED)
    def begin(self, observed: dict[int, int]) -> None:
        self.observe("a", observed)
        self.workers = [Worker(self.database) for _ in range(2)]

    @rule(server=st.sampled_from("ab"), observed=_OBSERVED)
    def observe(self, server: str, observed: dict[int, int]) -> None:
        sessions = [
            Session(
                id=f"{server}{number}",
                login="bob" if number in self.of_bob else "alice",
                server_id=server,
                hostname="host",
                started=number,
                clients=clients,
            )
            for number, clients in observed.items()
        ]
        self.writer.observe(server, {session.id: session for session in sessions})

    @rule(number=_NUMBERS, observed=_OBSERVED)
    def change_hands(self, number: int, observed: dict[int, int]) -> None:
        """A session becomes another login's. All workers read that by itself: it happens too seldom
        to matter in between."""
        for worker in range(2):
            self.follow(worker)
        self.of_bob ^= {number}
        self.observe("a", observed)
        for worker in range(2):
            self.follow(worker)

    @rule(number=_NUMBERS, login=_LOGINS, value=st.none() | st.integers(0, 2))
    def set_params(self, number: int, login: str, value: int | None) -> None:
        self.writer.set_params(f"a{number}", login, {"a": value})

    @rule(seconds=st.sampled_from([1, KEEP_ENDS_SECONDS + 1]))
    def revoke(self, seconds: int) -> None:
        """Take a step that changes no session; the store may forget what was before."""
        self.now += seconds
        self.writer.revoke({f"at {self.now}": FAR})

    @rule(observed=_OBSERVED)
    def replace(self, observed: dict[int, int]) -> None:
        """Another store stands in its place."""
        self.writer.close()
        remove_database(self.database)
        self.observe("a", observed)

    @rule(worker=_WORKER)
    def follow(self, worker: int) -> None:
        self.workers[worker].follow()

    @rule(worker=_WORKER, turns=st.integers(1, 4))
    def tell(self, worker: int, turns: int) -> None:
        for _ in range(turns):
            self.workers[worker].bus.tell()

    @rule(worker=_WORKER)
    def restart(self, worker: int) -> None:
        for client in self.clients:
            if client.worker is self.workers[worker]:
                client.close()
        self.workers[worker].store.close()
        self.workers[worker] = Worker(self.database)

    @rule(client=_CLIENT, worker=_WORKER)
    def connect(self, client: int, worker: int) -> None:
        """Who comes back waits for a second first; so long no worker is behind another."""
        self.follow(worker)
        self.clients[client].connect(self.workers[worker])

    @rule(client=_CLIENT, parts=st.integers(1, 8))
    def go_on(self, client: int, parts: int) -> None:
        for _ in range(parts):
            self.clients[client].go_on()

    @rule(client=_CLIENT, is_full=st.booleans())
    def fill_socket(self, client: int, is_full: bool) -> None:
        self.clients[client].is_full = is_full

    @rule(client=_CLIENT, most=st.integers(1, 3))
    def read(self, client: int, most: int) -> None:
        self.clients[client].read(most)

    @rule(client=_CLIENT)
    def bookmark(self, client: int) -> None:
        self.clients[client].bookmark()

    @rule(observed=_OBSERVED, worker=_WORKER)
    def be_away(self, observed: dict[int, int], worker: int) -> None:
        """All have the list, and go; something changes, and they come back."""
        self.settle()
        for client in self.clients:
            client.bookmark()
            client.close()
        self.observe("a", observed)
        self.follow(worker)
        for client in self.clients:
            client.connect(self.workers[worker])

    @rule(several=_SEVERAL, worker=_WORKER)
    def go_to_the_other(self, several: list[dict[int, int]], worker: int) -> None:
        """All are told of the first of several steps, and go to the worker that reads them in one
        go."""
        self.settle()
        for client in self.clients:
            client.connect(self.workers[worker])
        for observed in several:
            self.observe("a", observed)
            if observed is several[0]:
                self.follow(worker)
                self.settle_clients()
                for client in self.clients:
                    client.bookmark()
                    client.close()
        self.follow(1 - worker)
        for client in self.clients:
            client.connect(self.workers[1 - worker])

    @rule(client=_CLIENT)
    def close(self, client: int) -> None:
        self.clients[client].close()

    def settle_clients(self) -> None:
        """Let clients that are connected have all that their workers know."""
        for client in self.clients:
            while client.ids is not None:
                client.go_on()
            client.is_full = False
        for worker in self.workers:
            while worker.bus.tell():
                pass
        for client in self.clients:
            client.read(ENOUGH)

    @rule()
    def settle(self) -> None:
        """Let all come to rest: now everyone has the list."""
        # Each may write again what the store has lost
        for worker in [*self.workers, *self.workers]:
            while worker.replica._revision != self.writer.snapshot().revision:
                worker.follow()
        snapshot = self.writer.snapshot()
        for number, client in enumerate(self.clients):
            if client.worker is None:
                client.connect(self.workers[number % 2])
        self.settle_clients()
        for client in self.clients:
            there = [
                FramedEntry(record.id, record.login, (record.text or "").encode())
                for record in snapshot.records
                if client.topic in (record.login, Everything.SESSIONS)
            ]
            assert client.sessions == {
                entry.id: entry.members for entry in there if passes(entry, client.filters)
            }


TestResuming: Any = Resuming.TestCase
TestResuming.settings = settings(
    max_examples=50,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
