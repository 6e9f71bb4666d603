"""A store, the replica that follows it, and the clock of the two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastx_list.replica import doubt, reading
from fastx_list.replica import replica as replica_module
from fastx_list.replica.replica import Replica
from fastx_list.replica.view import Entry
from fastx_list.store import Store, open_store
from tests.replica.stores import Wrapped


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def agent(database: Path) -> Iterator[Store]:
    """Writes to the store that the replica follows."""
    store = open_store(f"sqlite:///{database}")
    yield store
    store.close()


@pytest.fixture
def store(database: Path) -> Iterator[Wrapped]:
    """What the replica reads from."""
    wrapped = Wrapped(open_store(f"sqlite:///{database}"))
    yield wrapped
    wrapped.close()


@pytest.fixture
def replica(store: Wrapped) -> Replica[Entry]:
    return Replica(store, Entry)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The replica's clock: ``now`` counts its seconds."""
    clock = SimpleNamespace(now=1000.0)
    times = SimpleNamespace(monotonic=lambda: clock.now, time=lambda: clock.now)
    for module in (reading, replica_module, doubt):
        monkeypatch.setattr(module, "time", times)
    return clock
