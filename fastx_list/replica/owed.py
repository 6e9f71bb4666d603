"""Revocations that a store has lost are written to it again, beside all else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from threading import Thread

from fastx_list.store import Followed

RETRY_SECONDS = 1.0  # until what was not read since is written again

log = logging.getLogger(__name__)


def in_a_thread(call: Callable[[], None]) -> None:
    Thread(target=call, daemon=True).start()


class Owed:
    """The revocations that a store is to get again. Nobody waits for it to take them."""

    def __init__(self, store: Followed, apart: Callable[[Callable[[], None]], object]) -> None:
        """``apart`` lets a call run in another thread, and returns at once."""
        self._store = store
        self._apart = apart
        self._tokens: dict[str, int] = {}
        self._is_paying = False  # whether they are just being written
        self._error: Exception | None = None  # why they could not be, if nobody was told yet
        self._next_attempt = 0.0

    def add(self, tokens: Mapping[str, int]) -> None:
        """Begin to write ``tokens``, which the store has just lost, whatever was written before."""
        if tokens:
            self._tokens.update(tokens)
            self._next_attempt = 0.0
        self.pay()

    def has(self, tokens: Iterable[str], kept_from: int) -> None:
        """Take note that the store has ``tokens``, and keeps none that expire before
        ``kept_from``."""
        if self._tokens:
            there = {*tokens, *(jti for jti, end in self._tokens.items() if end < kept_from)}
            self._tokens = {jti: end for jti, end in self._tokens.items() if jti not in there}

    def pay(self) -> None:
        """Begin to write what is still owed, unless that goes on, or was just done or failed. What
        is written is owed until it was read: a store that is restored again has lost it again."""
        if not self._tokens or self._is_paying or time.monotonic() < self._next_attempt:
            return
        if self._error is not None:  # a full disk, say; here they stay revoked
            log.error("revoked tokens could not be written to the store again: %s", self._error)
            self._error = None
        self._is_paying = True
        self._apart(self._pay)

    def _pay(self) -> None:
        tokens = self._tokens.copy()
        try:
            self._store.revoke(tokens)
        except Exception as error:  # told by whoever pays next, in a thread that may
            self._error = error
        finally:
            self._next_attempt = time.monotonic() + RETRY_SECONDS
            self._is_paying = False
