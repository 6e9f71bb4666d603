"""What is taken for wrong of events and history."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fastx_list.model.past import encode_past
from fastx_list.store import Store, open_store
from fastx_list.store.archive import Span
from tests.chaos.chronicle import Chronicle
from tests.chaos.truth import Session, Truth
from tests.store.common import by_id, make_lease, make_server, make_session

MINUTE = 60_000  # ms


class Told:
    """A store of two sessions that do what the truth says; the second one has ended."""

    def __init__(self, store: Store) -> None:
        self.store, self.truth = store, Truth(2.0)
        self.chronicle = Chronicle(self.truth)
        self.began = round(time.time() * 1000) - MINUTE
        self._sessions = [
            make_session(number, command=f"work {number}", clients=0, started=self.began)
            for number in (1, 2)
        ]
        store.observe("s1", by_id(*self._sessions), make_lease())
        store.heartbeat(make_server("s1"), make_lease())
        for each in self._sessions:
            session = Session("s1", "alice", each.command)
            session.change(login="alice", command=each.command, clients=0)
            self.truth.add(session)
        assert self.wrong() == []
        self.truth.forget()
        first, second = self.truth.sessions
        first.change(clients=1)
        second.ended = time.monotonic()
        now = replace(self._sessions[0], clients=1, last_connect=self.began + 1)
        store.observe("s1", by_id(now), make_lease())
        store.set_params("s1-1", "alice", {"note": 1})
        first.params_set = 1
        store.revoke({"token": 2**40})
        self.truth.revoked = ["token"]

    def wrong(self, later: int = 0) -> list[str]:
        """Return what is wrong with what history says so many milliseconds ``later``."""
        archive = self.store.archive
        now = round(time.time() * 1000) + later
        past = [
            json.loads(encode_past(each.text, each.past, now))
            for each in archive.read(archive.find(Span(None), 0, 100, last_first=True))
        ]
        every = [json.loads(str(record.text)) for record in self.store.snapshot().records]
        return list(self.chronicle.check(archive, every, past, now))


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(open_store(f"sqlite:///{tmp_path / 'sessions.db'}"))


def test_what_has_happened_is_right(told: Told) -> None:
    assert told.wrong() == []
    told.truth.forget()
    assert told.wrong() == []


_AGAIN = "INSERT INTO event (name, at, kept, what, session, login, server_id, more) SELECT"
_COLUMNS = "at, kept, what, session, login, server_id, more FROM event WHERE what ="


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (f"{_AGAIN} 'x', {_COLUMNS} 'sessionEnded'", "it does not run"),
        (f"{_AGAIN} 'x', {_COLUMNS} 'sessionBegan'", "it runs"),
        (f"{_AGAIN} 'x', {_COLUMNS} 'tokenRevoked'", "2 events of the revoked token"),
        (f"{_AGAIN} 'x', {_COLUMNS} 'paramsSet'", "2 events of params"),
        ("DELETE FROM event WHERE what = 'sessionEnded'", "events say that these run"),
        ("DELETE FROM event WHERE what = 'paramsSet'", "0 events of params"),
        ("DELETE FROM event WHERE what = 'tokenRevoked'", "0 events of the revoked token"),
        ("UPDATE event SET more = '{\"clients\":3}' WHERE what = 'clientConnected'", "3 clients"),
        ("UPDATE past SET began = began - 1000", "began"),
        ("UPDATE past SET ended = ended + 600000 WHERE id = 's1-2'", "ended"),
        ("UPDATE past SET ended = ended - 600000 WHERE id = 's1-2'", "ended"),
        ("UPDATE past SET ended = NULL WHERE id = 's1-2'", "ended None"),
        ("UPDATE past SET connected = 30000 WHERE id = 's1-1'", "was connected for"),
        ("DELETE FROM past WHERE id = 's1-1'", "history lacks"),
    ],
)
def test_what_did_not_happen_so_is_wrong(told: Told, tmp_path: Path, harm: str, said: str) -> None:
    with sqlite3.connect(tmp_path / "sessions.db") as db:
        db.execute(harm)
    found = told.wrong()
    assert found and said in " ".join(found)


def test_who_is_connected_all_the_time_is_so_in_history(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.truth.sessions[0].params_set = 1
    assert told.wrong() == []
    told.truth.forget()
    real, real_monotonic = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: real() + 60)
    monkeypatch.setattr(time, "monotonic", lambda: real_monotonic() + 60)
    with sqlite3.connect(tmp_path / "sessions.db") as db:
        db.execute("UPDATE past SET since = NULL")
    [wrong] = told.wrong()
    assert "was connected for 0 ms" in wrong


def test_it_counts_when_history_was_asked_and_not_when_all_events_were_read(told: Told) -> None:
    told.truth.sessions[0].params_set = 1
    assert told.wrong() == []
    told.truth.forget()
    assert told.wrong(MINUTE) == []
