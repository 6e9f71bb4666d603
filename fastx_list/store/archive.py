"""What a store keeps of what has happened: the past of each session, and the events. This file is
the contract of that part.

Both are written in the step that they tell of. So an event is there once, whoever dies, and in the
order in which things happened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from fastx_list.model.event import Event, What
from fastx_list.model.past import Past

KEEP_SECONDS = 30 * 86_400.0  # unless the settings say otherwise
MAX_KEPT = 1_000_000  # sessions that have ended, and events
# Of a login, for a user can make hundreds each second: sessions that have ended, and events
MAX_KEPT_OF_LOGIN, MAX_EVENTS_OF_LOGIN = 10_000, 100_000
LEAST_EVENTS_SECONDS = 3600.0  # that events are kept for those who follow them
FORGET_AT_ONCE = 1000  # of what is too old, in one step
MAX_COUNT = 100_000  # sessions of a part of the history that are counted

# The place of a session in the order of ends: when it ended, or, while it runs, this and when it
# began
RUNNING = 4 * 10**15


class Span(NamedTuple):
    """Which sessions are meant: those of a login, or of all; that ended in a time, in ms since the
    Unix epoch, or run if it has no end."""

    login: str | None
    since: int | None = None
    until: int | None = None


class PastRecord(NamedTuple):
    """A session of the history: its id, the JSON of its last state, and its past."""

    id: str
    text: str
    past: Past

    @property
    def login(self) -> str:
        """Whose it was."""
        return str(json.loads(self.text)["login"])


class Ended(NamedTuple):
    """A session of the history that has ended, and how many seconds ago, by the store's clock."""

    record: PastRecord
    age: float


class EventSpan(NamedTuple):
    """Which events are meant: those of a login, or of all; that happened in a time, in ms since the
    Unix epoch, or about then, as the clocks of those who write are not all alike."""

    login: str | None = None
    since: int | None = None
    until: int | None = None
    last_first: bool = False


class EventPage(NamedTuple):
    """Some events, in their order."""

    events: Sequence[Event]
    # Whether those that followed the one that was asked about are not all kept, or the store has
    # lost what it had
    has_gap: bool = False
    # The id of the last one that was looked at; None if there are no more
    place: str | None = None


EVERY_EVENT = EventSpan()


class Archive(Protocol):
    """Every method may raise :class:`fastx_list.store.StoreError`."""

    def find(self, span: Span, start: int, limit: int, last_first: bool) -> list[str]:
        """Return up to ``limit`` ids of sessions, without the first ``start``, in the order of
        their ends; those that run have none yet and come in that of their beginnings, as if they
        ended later than all others."""

    def count(self, span: Span) -> int | None:
        """Return how many there are; ``None`` if there are more than are counted."""

    def read(self, ids: Sequence[str]) -> list[PastRecord]:
        """Return these sessions, but for those that are not kept any more."""

    def ages(self, ids: Sequence[str]) -> list[Ended]:
        """Return those of these sessions that have ended, with for how long they have been
        kept."""

    def add(self, sessions: Sequence[Ended]) -> int:
        """Add sessions that have ended to the history, but for those that it has; return how many.
        Each is kept for as long as if it had been here since it ended."""

    def erase(self, login: str) -> int:
        """Forget the sessions of a login that have ended, and its events; return how many sessions
        these were."""

    def events(self, after: str | None, limit: int, span: EventSpan = EVERY_EVENT) -> EventPage:
        """Return up to ``limit`` events that followed the one with this id, or, with
        ``last_first``, that were before it; ``None``: from the first that are kept, or the
        last."""

    def noted(self) -> int:
        """Return how many events there were since the store was made, as far as that is known."""

    def last_event(self) -> str | None:
        """Return the id of the last event, if there is any."""

    def note(
        self, what: What, login: str | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        """Add an event that comes with no change of anything else in the store."""


def place(past: Past) -> int:
    """Return the place of a session in the order of ends."""
    return RUNNING + past.began if past.ended is None else past.ended


def bounds(span: Span) -> tuple[int, int]:
    """Return the places that belong to ``span``: from, and below."""
    return span.since or 0, 2 * RUNNING if span.until is None else min(span.until, RUNNING)
