"""While the store is read anew the sidecar's loop answers others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from fastx_list.live import sidecar
from fastx_list.live.frames import FramedEntry
from fastx_list.live.sidecar import Live
from fastx_list.replica.replica import Replica
from fastx_list.store import SnapshotNeeded, open_store, sqlite_reader
from tests.conftest import session

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
