"""While the store is read anew the sidecar's loop answers others."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, cast

import gevent
import pytest

from fastx_list.live import sidecar
from fastx_list.live.frames import FramedEntry
from fastx_list.live.sidecar import Live
from fastx_list.live.start import Asked
from fastx_list.replica.replica import Replica
from fastx_list.store import SnapshotNeeded, open_store, sqlite_reader
from fastx_list.tokens import Claims
from tests.conftest import session
from tests.live.wire import messages, parse
from tests.store.common import make_lease, make_server, remove

PART, MANY = 10, 35  # sessions


def test_others_have_their_turn_after_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_reader, "AT_ONCE", PART)
    store = open_store(f"sqlite:///{tmp_path / 'sessions.db'}")
    store.observe("here", {f"s{number}": session(f"s{number}") for number in range(MANY)})
    turns: list[bool] = []
    replica = Replica(store, FramedEntry)
    monkeypatch.setattr(sidecar, "let_others", lambda: turns.append(replica.is_behind))
    live = Live(cast(Any, None), replica)
    for _ in range(2):
        turns.clear()
        live._follow()
        while replica.is_behind:
            live._follow()
        assert turns[: MANY // PART] == [True] * (MANY // PART)
        monkeypatch.setattr(store, "changes", lose_history)
    store.close()


def lose_history(*_: object) -> None:
    raise SnapshotNeeded


def test_who_connects_while_a_lost_store_is_written_again_is_told_the_new_state_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecar, "READ_ANEW_SECONDS", 60.0)
    path = tmp_path / "sessions.db"
    agent, store = (open_store(f"sqlite:///{path}") for _ in range(2))
    agent.observe("here", {"s1": session("s1", clients=0)}, make_lease())
    agent.heartbeat(make_server("here", last_look=1), make_lease())
    replica = Replica(store, FramedEntry)
    live = Live(cast(Any, None), replica)
    live._follow()
    remove(path)
    live._follow()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    claims = Claims("alice", 2**40, "jti", False)
    serving = gevent.spawn(live.serve, ours, b"answer", claims, (), "alice", Asked(), None)
    gevent.sleep(0)
    assert theirs.recv(1 << 16) == b"answer"
    agent.observe("here", {"s1": session("s1", clients=1)}, make_lease())
    agent.heartbeat(make_server("here", last_look=1), make_lease())
    while replica.is_read_anew:
        live._follow()
    serving.get(timeout=10)
    [(name, data)] = messages(parse(theirs.recv(1 << 16)))
    assert name == "s1" and data["clients"] == 1
    for each in list(live.connections):
        each.drop()
    theirs.close()
    agent.close()
    store.close()
