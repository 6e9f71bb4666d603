"""What one application answers requests with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import current_app

from fastx_list.config import Settings
from fastx_list.errors import Unavailable
from fastx_list.replica.replica import Replica
from fastx_list.store import Store, StoreError
from fastx_list.tokens import Tokens

EXTENSION = "fastx-list"
STALE = "the store is not up to date, or cannot be read; this is its last known state"


@dataclass(frozen=True)
class Services:
    """The settings, and what was made from them."""

    settings: Settings
    store: Store
    replica: Replica[Any]  # list and sidecar have entries of their own
    tokens: Tokens
    # Whether somebody in this process follows the store for all requests
    follows: bool = False
    # What /health tells beside that this process answers, and what is counted of it
    tells: Mapping[str, str] = field(default_factory=dict)

    def refresh(self, since: float = math.inf) -> None:
        """Bring the replica up to date, unless it was looked for changes after ``since``, by
        ``time.monotonic()``. Raises :class:`Unavailable` if there never was a store to read."""
        try:
            if not self.follows:
                self.replica.refresh(since)
        except StoreError:
            pass
        if not self.replica.loaded:
            raise Unavailable("the list cannot be read yet; try again soon")


def services() -> Services:
    """Return the services of the application that serves this request."""
    found: Services = current_app.extensions[EXTENSION]
    return found
