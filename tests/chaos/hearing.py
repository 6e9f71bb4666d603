"""Listens to the agents by way of the store, as readers do: of one that was silent for longer than
its lease while others wrote the sessions may have ended, whatever kept it from writing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from fastx_list.store import Changes, Revision, SnapshotNeeded, Store, StoreError, open_store

LATE = 3 / 8  # of a lease: so much of a time counts in which nobody wrote anything
PAUSE_SECONDS = 0.1


class Hearing:
    """Listens in a thread of its own, from :meth:`start` to :meth:`stop`."""

    def __init__(self, names: Iterable[str], lease: float) -> None:
        self._lease = lease
        self._url = ""
        # By agent: for how many seconds that count it was silent
        self._silent = dict.fromkeys(names, 0.0)
        self._written = time.monotonic()  # when anybody wrote last
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hearing", daemon=True)

    def start(self, url: str) -> None:
        self._url = url
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.ident:
            self._thread.join()

    def silence(self, name: str) -> float:
        """Return for how long the agent ``name`` has been silent while others wrote."""
        return self._silent[name] + self._gap(time.monotonic())

    def _gap(self, now: float) -> float:
        return min(now - self._written, LATE * self._lease)

    def _run(self) -> None:
        store = open_store(self._url, create=False)
        revision: Revision | None = None
        while not self._stopped.wait(PAUSE_SECONDS):
            try:
                changes = _read(store, revision)
            except StoreError:
                continue
            if changes is None:
                continue
            revision, now = changes.revision, time.monotonic()
            gap, self._written = self._gap(now), now
            heard = {server.id for server in changes.servers if server.text is not None}
            for name in self._silent:
                self._silent[name] = 0.0 if name in heard else self._silent[name] + gap
        store.close()


def _read(store: Store, revision: Revision | None) -> Changes | None:
    try:
        return store.snapshot() if revision is None else store.changes(revision)
    except SnapshotNeeded:
        return store.snapshot()
