"""Whether sockets have changed since a look, for next to nothing while none has.

The kernel counts sockets and accepted connections; to read that takes microseconds. Only once a
number is another, or a connection has yet to speak, it is asked for the sockets that matter.
"""

from __future__ import annotations

import os
import time
from collections.abc import Set
from contextlib import suppress

from fastx_list.agent.accounts import Account
from fastx_list.agent.diag import Diag, Kept
from fastx_list.agent.diag_messages import DiagError
from fastx_list.agent.door import Unanswered
from fastx_list.agent.signs import Change, Signs

# Of a core, for asking on a machine whose sockets change all the time: to ask takes 1 to 5 ms.
MOST_SECONDS, SHARE = 0.05, 0.01
MAX_SILENT = 32  # connections that have yet to speak and are asked for, the youngest
MAX_BYTES = 16 * 1024  # of a file of counts
_ACCEPTED = 5  # the place of PassiveOpens among the values
FADING = 0.1  # of the time since such a one was first seen: so much later it is asked for again


class Traffic:
    """Tells at which sockets something has changed."""

    def __init__(self) -> None:
        # What counts sockets, and accepted connections.
        self._counts = Counts()
        # What it said before what was compared last was asked for.
        self._said: object = None
        # What the kernel has told.
        self._kept: Kept = {}
        # What the last look saw; None if nothing can be compared with it.
        self._signs: Signs | None = None
        # When each connection that has not spoken was first seen, and when it is asked for next, by
        # the monotonic clock.
        self._silent: dict[bytes, tuple[float, float]] = {}
        # Processor time for asking, and how much that took last.
        self._account = Account(MOST_SECONDS, SHARE, time.monotonic())
        self._cost = 0.0
        # Why nothing can be told; None if it can.
        self.problem: str | None = None

    def begin(self) -> None:
        """Begin a look."""
        self._said, self._signs = self._counts.read(), None

    def follow(self, signs: Signs | None) -> None:
        """Compare from now on with what that look saw."""
        self._signs = signs
        self._take(frozenset() if signs is None else signs.silent, time.monotonic())

    def changes(self) -> set[Change]:
        """Return what has changed, as a rule once."""
        if self._signs is None:
            return set()
        now, said = time.monotonic(), self._counts.read()
        # Where nothing is counted, something may always be new
        is_new = said is None or said != self._said
        is_due = any(due <= now for _, due in self._silent.values())
        if not (is_new or is_due) or self._account.balance(now) < min(self._cost, MOST_SECONDS):
            return set()
        began = time.thread_time()
        try:
            with Diag(kept=self._kept) as diag:
                changes: set[Change] = set()
                if is_new:
                    changes, silent = self._signs.changes(diag)
                    self._take(silent, now)
                    self._said = said
                return changes | self._spoken(self._signs, diag, now)
        except Unanswered:
            return set()  # the next look knows
        except DiagError as error:
            self._signs, self.problem = None, str(error)
            return set()
        finally:
            self._cost = time.thread_time() - began
            self._account.spend(self._cost, now)

    def _take(self, silent: Set[bytes], now: float) -> None:
        """Take note of those that have not spoken; of too many the youngest."""
        known = {key: times for key, times in self._silent.items() if key in silent}
        known |= dict.fromkeys(silent - known.keys(), (now, now))
        self._silent = dict(list(known.items())[-MAX_SILENT:])

    def close(self) -> None:
        self._counts.close()

    def _spoken(self, signs: Signs, diag: Diag, now: float) -> set[Change]:
        changes: set[Change] = set()
        for key, (since, due) in self._silent.items():
            if due <= now:
                changes |= signs.spoken(key, diag)
                self._silent[key] = since, now + FADING * (now - since)
        return changes


class Counts:
    """The kernel's counts for our network namespace, proc_net(5)."""

    def __init__(self) -> None:
        self._files: list[int] = []
        with suppress(OSError):
            for name in ("sockstat", "snmp"):
                self._files.append(os.open(f"/proc/net/{name}", os.O_RDONLY | os.O_CLOEXEC))

    def read(self) -> tuple[bytes, bytes] | None:
        """Return how many sockets there are, and how often a connection was accepted, as text;
        ``None`` if nobody says so."""
        try:
            sockets, tcp = (os.pread(each, MAX_BYTES, 0) for each in self._files)
            # The values follow the names, in a line that begins with the same word
            values = (
                tcp.partition(b"\nTcp: ")[2].partition(b"\nTcp: ")[2].split(b" ", _ACCEPTED + 1)
            )
            return sockets.partition(b"\n")[0], values[_ACCEPTED]
        except (OSError, ValueError, IndexError):
            return None

    def close(self) -> None:
        for each in self._files:
            os.close(each)
        self._files = []
