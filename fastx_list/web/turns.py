"""What takes long is worked out in parts, and other requests have their turn in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable

from greenlet import getcurrent, greenlet


class Turn(greenlet):
    """Handles one connection for a worker that has others."""

    def __init__(self, run: Callable[..., object], let_others: Callable[[], None]) -> None:
        super().__init__(run)
        # Lets others have their turn, and returns when it is this one's again
        self.let_others = let_others
        # By when its request had begun to come in, by ``time.monotonic()``; ``inf``: nobody knows
        self.began = math.inf


def request_began() -> float:
    """Return by when the request that is handled now had begun to come in, by
    ``time.monotonic()``; ``inf`` if nobody knows."""
    turn = getcurrent()
    return turn.began if isinstance(turn, Turn) else math.inf


# For whom something is worked out now
_busy: set[Hashable] = set()


def in_parts(whose: Hashable, parts: Iterable[None]) -> None:
    """Go through ``parts``, and let other requests have their turn after each; of each ``whose``
    one after the other, so that who asks much at once takes no more than others.

    Where no other request waits for this one, as with other servers, nothing is done in parts.
    """
    turn = getcurrent()
    if not isinstance(turn, Turn):
        return
    while whose in _busy:
        turn.let_others()
    _busy.add(whose)
    try:
        for _ in parts:
            turn.let_others()
    finally:
        _busy.discard(whose)
