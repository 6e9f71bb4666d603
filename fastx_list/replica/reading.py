"""A store that is read anew, in parts."""

from __future__ import annotations

import time

from fastx_list.replica.many import kept_at_once
from fastx_list.store import Changes, Followed


class Reading:
    """Reads all of a store, some of it at each :meth:`go_on`."""

    def __init__(self, store: Followed) -> None:
        self._parts = store.read_all()
        # How many seconds it has read so far
        self.took = 0.0

    def go_on(self) -> Changes | None:
        """Read the next part; return all once that was the last one. Raises what
        :meth:`fastx_list.store.Followed.read_all` does."""
        began = time.monotonic()
        try:
            with kept_at_once():
                next(self._parts)
        except StopIteration as end:
            found: Changes = end.value
            return found
        finally:
            self.took += time.monotonic() - began
        return None
