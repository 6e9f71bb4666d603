"""A read that Redis leaves open until something is written."""

from __future__ import annotations

import time

from fastx_list.store import StoreError
from fastx_list.store.redis_address import Address
from fastx_list.store.redis_link import Command, Link


class Watch:
    """A question that Redis answers as soon as there is something to say: until it has, nothing has
    happened.

    So whoever wants to know looks at a socket of his own machine, and need not ask again.
    """

    def __init__(self, address: Address, patience: float, seconds: float) -> None:
        """The times are those of :class:`Link`."""
        self._link = Link(address, patience, seconds)  # a connection for the question alone
        self._seconds = seconds  # how late the answer may come
        self._until: float | None = (
            None  # when the question counts no more; ``None``: none is asked
        )
        # The answer that tells that Redis has the question; empty once it has come
        self._awaited: list[object] = []

    def begin(self, check: Command, answer: object, command: Command, seconds: float) -> None:
        """Ask ``check`` and with it ``command``, which Redis answers after ``seconds`` if nothing
        happens.

        That counts once ``check`` has been answered with ``answer``. If they cannot be asked,
        nothing is watched.
        """
        self._end()
        try:
            self._link.send(check, command)
        except StoreError:
            return
        self._until, self._awaited = time.monotonic() + seconds + self._seconds, [answer]

    @property
    def is_asked(self) -> bool:
        """Whether there is a question that may still be answered."""
        return self._until is not None and time.monotonic() < self._until

    def goes_on(self) -> bool:
        """Return whether Redis has the question and has not answered it yet, though it still
        may."""
        if not self.is_asked:
            return False
        has_answer = self._link.has_answer()
        if self._awaited:
            if not has_answer:
                return False  # not yet
            if self._link.take() != [self._awaited.pop()]:
                self.close()
                return False
            has_answer = self._link.has_answer()
        if has_answer:
            self._end()
        return not has_answer

    def _end(self) -> None:
        if self._until is None:
            return
        self._until = None
        for _ in range(len(self._awaited) + 1):
            if not self._link.has_answer() or not self._link.take():
                self._link.close()  # an answer that comes later would be taken for another's
                return

    def close(self) -> None:
        self._until = None
        self._link.close()
