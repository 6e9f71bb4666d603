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
from fastx_list.agent.arrivals import Arrivals
from fastx_list.agent.diag import Diag, Kept
from fastx_list.agent.diag_messages import DiagError
from fastx_list.agent.door import Unanswered
from fastx_list.agent.signs import WAITS, Change, Signs
from fastx_list.agent.subordinates import Payer, payer

# Of a core, for asking on a machine whose sockets change all the time: to ask takes 1 to 5 ms.
MOST_SECONDS, SHARE = 0.05, 0.01
MAX_SILENT = 32  # connections that have yet to speak and are asked for, the youngest
BOUND_SECONDS = 1.0  # in which who has made a socket is to wait there
# How many sockets there are is the beginning of its file. How many were accepted is read every so
# many times: it shows when one has taken the place of another.
_COUNT_BYTES, SELDOM = 32, 4
MAX_BYTES = 8192  # of the other one
_PASSIVE_OPENS = 5
FADING = 0.1  # of the time since such a one was first seen: so much later it is asked for again


class Traffic:
    """Tells at which sockets something has changed."""

    def __init__(self) -> None:
        # What counts sockets, and accepted connections.
        self._counts = Counts()
        # What the kernel has told.
        self._kept: Kept = {}
        # What the last look saw; None if nothing can be compared with it.
        self._signs: Signs | None = None
        # What the one before saw, and whether something may have been new when the last one began.
        self._signs_before: Signs | None = None
        self._was_new = False
        # When each connection that has not spoken was first seen, and when it is asked for next, by
        # the monotonic clock.
        self._silent: dict[bytes, tuple[float, float]] = {}
        # Whether something may be new.
        self._is_new = False
        # New sockets of X servers, and until when each is expected to wait, by path and by the
        # monotonic clock.
        self._arrivals = Arrivals()
        self._bound: dict[str, float] = {}
        # Processor time for asking, and how much that took last.
        self._account = Account(MOST_SECONDS, SHARE, time.monotonic())
        self._cost = 0.0
        # Why nothing can be told; None if it can.
        self.problem: str | None = None

    @property
    def descriptor(self) -> int | None:
        """Can be read when somebody has made a socket for X clients; ``None`` if nobody tells."""
        return self._arrivals.descriptor

    def begin(self) -> None:
        """Begin a look."""
        self._arrivals.follow()
        self._was_new = self._counts.are_new() or self._is_new
        self._signs_before, self._signs, self._is_new = self._signs, None, False

    def follow(self, signs: Signs | None, left_out: Set[Payer] = frozenset()) -> set[Change]:
        """Compare from now on with what that look saw; return what of the users whom it has
        ``left_out`` had changed by then."""
        self._signs, before = signs, self._signs_before
        now = time.monotonic()
        self._take(frozenset() if signs is None else signs.silent, now)
        # The kernel does not count that one which it had begins to wait
        self._bound = {
            path: until
            for path, until in self._bound.items()
            if until > now and signs is not None and not signs.unix.listeners(path)
        }
        if not left_out or signs is None or before is None:
            return set()
        self._is_new = self._was_new
        return {
            each
            for each in before.new_listeners(signs.tcp, signs.unix)
            if each.uid is None or payer(each.uid) in left_out
        }

    def arrived(self) -> set[Change]:
        """Return by whom X servers' sockets were made, once: as a rule they wait there already."""
        arrived = self._arrivals.new()
        until = time.monotonic() + BOUND_SECONDS
        self._bound |= dict.fromkeys(arrived, until)
        return {Change(WAITS, uid) for uid in arrived.values()}

    def changes(self) -> set[Change]:
        """Return what else has changed, as a rule once."""
        if self._signs is None:
            return set()
        self._is_new |= self._counts.are_new() or bool(self._bound)
        if not self._is_new and not self._silent:
            return set()
        now = time.monotonic()
        is_due = self._is_new or any(due <= now for _, due in self._silent.values())
        if not is_due or self._account.balance(now) < min(self._cost, MOST_SECONDS):
            return set()
        began = time.thread_time()
        try:
            with Diag(kept=self._kept) as diag:
                changes: set[Change] = set()
                if self._is_new:
                    changes, silent = self._signs.changes(diag)
                    self._take(silent, now)
                    self._is_new = False
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
        self._arrivals.close()
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
        # Open files: that of sockets, and that of connections; None if there are none.
        self._files: tuple[int, int] | None = None
        with suppress(OSError):
            self._files = _open("sockstat"), _open("snmp")
        # What they said last, and how often that of connections was passed over since.
        self._sockets = self._accepted = b""
        self._passed_over = 0

    def are_new(self) -> bool:
        """Return whether there may be other sockets than when this was asked last: always, where
        nobody counts them."""
        if self._files is None:
            return True
        # Where they are counted there is little else to read
        sockets = os.pread(self._files[0], _COUNT_BYTES, 0)
        accepted = self._accepted
        self._passed_over = (self._passed_over + 1) % SELDOM
        if not self._passed_over:
            accepted = _accepted(os.pread(self._files[1], MAX_BYTES, 0))
        are_new = (sockets, accepted) != (self._sockets, self._accepted)
        self._sockets, self._accepted = sockets, accepted
        return are_new

    def close(self) -> None:
        for each in self._files or ():
            os.close(each)
        self._files = None


def _open(name: str) -> int:
    return os.open(f"/proc/net/{name}", os.O_RDONLY | os.O_CLOEXEC)


def _accepted(text: bytes) -> bytes:
    """Return how many connections were accepted: PassiveOpens (RFC 4022), among the values of TCP,
    whose line begins as that of their names does."""
    values = text.partition(b"\nTcp: ")[2].partition(b"\nTcp: ")[2].split(b" ", _PASSIVE_OPENS + 1)
    return values[_PASSIVE_OPENS] if len(values) > _PASSIVE_OPENS else b""
