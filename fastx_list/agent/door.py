"""The door to what belongs to others: calls that its owner can make wait, with a deadline.

A directory on FUSE or on a dead network mount, the command line of a process whose memory is
locked, and the name of a user may each take for ever, whatever flags they are asked with. So they
are asked from another thread. One that does not come back in time is left to wait, and until it
does, its owner is asked nothing more; everybody else is. That the machine is busy is no owner's
doing: while a thread only waits for a processor, nobody's time runs.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from fastx_list.agent.accounts import Account, Accounts
from fastx_list.agent.subordinates import Payer, payer

# How long we wait for one owner, in seconds, and which part of the time since gives it back.
OWNER_SECONDS, OWNER_SHARE = 0.25, 0.05
# The same for all owners together.
ALL_SECONDS, ALL_SHARE = 2.0, 0.25
LEAST_SECONDS = 0.02  # with less left there is no asking
BUSY_SECONDS = 1.0  # that we wait beyond that for a thread which is kept from running
MAX_WAITING = 32  # threads that are left to wait

T = TypeVar("T")


# What there may be none of for a moment: it says nothing of what is looked at.
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


class Unanswered(Exception):
    """It takes too long. What it would have said is unknown; the next look asks again."""


class _Outcome(NamedTuple):
    value: Any
    error: BaseException | None
    seconds: float  # it took, without the time that the thread waited for a processor
    work: float  # the thread's processor time for it, in seconds


class _Courier:
    """A thread that makes one call after the other."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._outcomes: SimpleQueue[_Outcome] = SimpleQueue()
        # A daemon, for one that hangs is not to hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        delays: int | None = None
        with suppress(OSError):
            delays = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        while (call := self._calls.get()) is not None:
            value: Any = None
            failure: BaseException | None = None
            began, worked = time.monotonic() - _delay(delays), time.thread_time()
            try:
                value = call()
            except BaseException as error:  # it is raised where the call came from
                failure = error
            took = time.monotonic() - _delay(delays) - began
            self._outcomes.put(_Outcome(value, failure, took, time.thread_time() - worked))
            del call, value, failure  # nothing is kept alive by waiting for the next one
        if delays is not None:
            os.close(delays)

    def send(self, call: Callable[[], Any] | None) -> None:
        """Make ``call``; with ``None`` end."""
        self._calls.put(call)

    def outcome(self, seconds: float) -> _Outcome | None:
        """Return what the call came to; ``None`` if that takes longer than ``seconds``."""
        try:
            return self._outcomes.get(timeout=seconds) if seconds else self._outcomes.get_nowait()
        except Empty:
            return None

    def late_outcome(self) -> _Outcome | None:
        """Return what the call came to, or comes to while all that it waits for is a processor;
        ``None`` if its owner lets it wait."""
        until = time.monotonic() + BUSY_SECONDS
        while True:
            can_run = self._can_run()
            outcome = self.outcome(LEAST_SECONDS)
            if outcome is not None or not can_run or time.monotonic() > until:
                return outcome

    def _can_run(self) -> bool:
        """Return whether the thread runs or is to run: the state "R" of proc(5)."""
        with suppress(OSError):
            with open(f"/proc/self/task/{self._thread.native_id}/stat", "rb") as stat:
                return stat.read().rpartition(b")")[2].split()[:1] == [b"R"]
        return False


def _delay(schedstat: int | None) -> float:
    """Return how long a thread has waited for a processor, in seconds since it began (the kernel's
    sched-stats.rst), from its open ``schedstat``; 0 where the kernel does not say."""
    with suppress(OSError, ValueError, IndexError):
        return int(os.pread(schedstat, 128, 0).split()[1]) / 1e9 if schedstat is not None else 0.0
    return 0.0


@dataclass
class _Waiting:
    """A courier that was left to wait."""

    courier: _Courier
    what: str  # it asks
    since: float  # in seconds since the Unix epoch


class Door:
    """Makes calls that may hang."""

    def __init__(self) -> None:
        # Has no call to make; None if there is none such.
        self._free: _Courier | None = None
        # Those that were left to wait, by owner.
        self._waiting: dict[Payer, _Waiting] = {}
        self._accounts = Accounts(OWNER_SECONDS, OWNER_SHARE)
        self._all = Account(ALL_SECONDS, ALL_SHARE, time.monotonic())
        # The processor time of all calls that were answered in time, in seconds.
        self.work = 0.0
        # One asks at a time.
        self._lock = threading.Lock()

    def ask(
        self, owner: Payer, what: str, call: Callable[[], T], seconds: float | None = None
    ) -> T:
        """Return what ``call`` returns, or raise what it raises. ``what`` it asks is said to
        people. It may not ask in turn.

        Raises :class:`Unanswered` if that takes longer than is left of the owner's time, or than
        the ``seconds`` that those who run the machine may take in each look; or if the owner still
        has not answered an earlier call. An answer that is late is dropped. For subordinate users
        their login is the owner.
        """
        owner = payer(owner) if isinstance(owner, int) else owner
        with self._lock:
            began = time.monotonic()
            accounts = [] if seconds is not None else [self._accounts.of(owner, began), self._all]
            left = min([account.balance(began) for account in accounts], default=seconds or 0.0)
            if self._still_waits(owner) or left < LEAST_SECONDS or self._is_full():
                raise Unanswered(what)
            courier, self._free = self._free or _Courier(), None
            courier.send(call)
            outcome = courier.outcome(left) or courier.late_outcome()
            now = time.monotonic()
            for account in accounts:
                account.spend(now - began if outcome is None else outcome.seconds, now)
            if outcome is None:
                self._waiting[owner] = _Waiting(courier, what, time.time())
                raise Unanswered(what)
            self._free = courier
            self.work += outcome.work
        if outcome.error is not None:
            raise outcome.error
        value: T = outcome.value
        return value

    def unanswered(self) -> dict[Payer, str]:
        """Return what was asked of the owners that have not answered, and since when, for
        people."""
        with self._lock:
            return {
                owner: f"{each.what}, since {time.strftime('%H:%M', time.localtime(each.since))}"
                for owner, each in list(self._waiting.items())
                if self._still_waits(owner)
            }

    def _still_waits(self, owner: Payer) -> bool:
        waiting = self._waiting.get(owner)
        if waiting is None:
            return False
        if waiting.courier.outcome(0) is None:
            return True
        del self._waiting[owner]
        if self._free is None:
            self._free = waiting.courier
        else:
            waiting.courier.send(None)
        return False

    def _is_full(self) -> bool:
        return (
            len(self._waiting) >= MAX_WAITING
            and sum(map(self._still_waits, list(self._waiting))) >= MAX_WAITING
        )


door = Door()
ask = door.ask


def work() -> float:
    """Return how much processor time this thread and those that ask for it have had, in seconds."""
    return time.thread_time() + door.work
