"""A store that is read anew, in parts."""

from __future__ import annotations

import time
from collections.abc import Callable

from fastx_list.replica.many import kept_at_once
from fastx_list.store import Changes, Followed, SnapshotNeeded, StoreError
from fastx_list.store.division import CHANGES_TOO_FAST, READ_TRIES


class Reading:
    """Reads all of a store, some of it at each :meth:`go_on`."""

    def __init__(self, store: Followed, lost: Callable[[SnapshotNeeded], object]) -> None:
        """``lost`` is told why it begins again."""
        self._store = store
        self._lost = lost
        self._parts = store.read_all()
        # How often it has begun
        self._tries = 1
        # How many seconds it has read since
        self.took = 0.0

    def go_on(self) -> Changes | None:
        """Read the next part, or begin again; return all once that was the last one. Raises
        :class:`StoreError`, also if to begin again has been of no use: what the store says of its
        order may be of somebody else's making."""
        began = time.monotonic()
        try:
            with kept_at_once():
                next(self._parts)
        except StopIteration as end:
            found: Changes = end.value
            return found
        except SnapshotNeeded as reason:
            self._lost(reason)
            if self._tries >= READ_TRIES:
                raise StoreError(CHANGES_TOO_FAST) from reason
            self._parts, self._tries, self.took = self._store.read_all(), self._tries + 1, 0.0
            began = time.monotonic()
        finally:
            self.took += time.monotonic() - began
        return None
