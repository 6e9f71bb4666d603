"""Whatever happens to the store, in whatever order, the replica equals it."""

from __future__ import annotations

import math
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fastx_list.model.query import Query
from fastx_list.model.session import Session
from fastx_list.replica import replica as replica_module
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Everything
from fastx_list.replica.view import Entry
from fastx_list.store import KEEP_ENDS_SECONDS, Record, open_store, sqlite_order
from tests.replica.stores import FAR, Wrapped, remove_database

_NUMBERS = st.integers(0, 4)
_LOGINS = st.sampled_from(["alice", "bob"])
_OBSERVED = st.dictionaries(_NUMBERS, st.tuples(_LOGINS, st.integers(0, 2)), max_size=5)


class Following(RuleBasedStateMachine):
    """A replica follows a real store: at any moment it equals it, and the changes that it returns
    add up to the same."""

    def __init__(self) -> None:
        super().__init__()
        # In memory, where there is such a thing: what is written is synced, and thousands of syncs
        # to a disk take minutes.
        self.directory = tempfile.TemporaryDirectory(
            dir="/dev/shm" if os.path.isdir("/dev/shm") else None
        )
        self.database = Path(self.directory.name) / "sessions.db"
        self.now = 1_700_000_000.0
        self.tokens = 0
        self.patch = pytest.MonkeyPatch()
        # Thousands of lines would say that it fails when it is told to.
        self.patch.setattr(replica_module.log, "disabled", True)
        times = SimpleNamespace(time=time.time, monotonic=lambda: self.now)
        self.patch.setattr(sqlite_order, "time", times)
        self.patch.setattr(sqlite_order, "LONGEST_STEP", math.inf)
        self.writer = open_store(f"sqlite:///{self.database}")
        self.reader = open_store(f"sqlite:///{self.database}")
        self.wrapped = Wrapped(self.reader)
        self.replica = Replica(self.wrapped, Entry)
        self.published: dict[str, Entry] = {}
        self.followed = False

    def teardown(self) -> None:
        self.writer.close()
        self.reader.close()
        self.patch.undo()
        self.directory.cleanup()

    @initialize(observed=_OBSERVED)
    def start(self, observed: dict[int, tuple[str, int]]) -> None:
        self.observe("a", observed)

    @rule(server=st.sampled_from("ab"), observed=_OBSERVED)
    def observe(self, server: str, observed: dict[int, tuple[str, int]]) -> None:
        self.followed = False
        sessions = [
            Session(
                id=f"{server}{number}",
                login=login,
                server_id=server,
                hostname="host",
                started=number,
                clients=clients,
                params={"born": clients},
            )
            for number, (login, clients) in observed.items()
        ]
        self.writer.observe(server, {session.id: session for session in sessions})

    @rule(server=st.sampled_from("ab"))
    def end_all(self, server: str) -> None:
        self.observe(server, {})

    @rule(
        server=st.sampled_from("ab"),
        number=_NUMBERS,
        login=_LOGINS,
        value=st.none() | st.integers(0, 2),
    )
    def set_params(self, server: str, number: int, login: str, value: int | None) -> None:
        self.followed = False
        self.writer.set_params(f"{server}{number}", login, {"a": value})

    @rule(number=_NUMBERS)
    def revoke(self, number: int) -> None:
        self.followed = False
        self.writer.revoke({str(number): FAR})

    @rule()
    def trim(self) -> None:
        """Let the store forget: the ends before now are history, and the next step drops them."""
        self.followed = False
        self.now += KEEP_ENDS_SECONDS + 1
        self.tokens += 1
        self.writer.revoke({f"of step {self.tokens}": FAR})

    @rule()
    def reopen(self) -> None:
        self.reader.close()

    @rule(observed=_OBSERVED, writes=st.integers(0, 20), closed=st.booleans())
    def replace(self, observed: dict[int, tuple[str, int]], writes: int, closed: bool) -> None:
        """Another store stands in its place, whose revisions may have overtaken those that the
        replica knows."""
        if closed:
            self.reader.close()
        remove_database(self.database)
        for number in range(writes):
            self.writer.revoke({str(number): FAR})
        self.observe("a", observed)

    @rule()
    def fail_once(self) -> None:
        self.wrapped.failing = "no such disk"
        assert self.replica.follow(0) == []
        self.wrapped.failing = None

    @rule()
    def follow(self) -> None:
        for change in self.replica.follow(0):
            assert change.before == self.published.get(change.id)
            assert change.entry != change.before
            if change.entry is None:
                del self.published[change.id]
            else:
                assert (change.entry.id, change.entry.login) == (change.id, change.topic)
                self.published[change.id] = change.entry
        assert self.replica.problem is None
        self.followed = True

    @invariant()
    def is_equal(self) -> None:
        mine = {**self.replica.entries("alice"), **self.replica.entries("bob")}
        assert mine == self.published == self.replica.entries(Everything.SESSIONS)
        for login in ("alice", "bob"):
            entries = [entry for entry in mine.values() if entry.login == login]
            page = self.replica.page(login, Query(sort_by="id"))
            assert (
                page.body
                == b"["
                + b",".join(entry.text for entry in sorted(entries, key=lambda entry: entry.id))
                + b"]"
            )
            assert page.total == len(entries)
        if self.followed:
            snapshot = self.writer.snapshot()
            assert {
                entry.id: Record(entry.id, entry.login, entry.id[0], entry.text.decode())
                for entry in mine.values()
            } == {record.id: record for record in snapshot.records}
            assert set(self.replica.revoked) == set(snapshot.revoked)


TestFollowing: Any = Following.TestCase
TestFollowing.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
