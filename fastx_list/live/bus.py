"""The in-memory event bus: a topic for each login, for all of them and for servers, and a
conflating mailbox a subscriber.

A mailbox keeps only the newest frame of each session, and none of one that began and ended without
the reader's having heard of it. So what a slow reader costs is bounded by the number of sessions
that it knows and of those there are; states in between may be skipped, the last one always arrives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import NamedTuple, Protocol

from fastx_list.live.frames import FramedEntry, session_frame
from fastx_list.model.query import Filter, matches
from fastx_list.replica.topics import Change, Everything, Topic


class _Unheard(NamedTuple):
    """A session that the subscriber has never heard of, so that it need not hear of its end
    either."""

    entry: FramedEntry

    @property
    def frame(self) -> bytes:
        return self.entry.frame


class Mailbox:
    """What one subscriber is owed: frames in the order in which their sessions first changed."""

    __slots__ = ("_owed", "_filters", "_shown")

    def __init__(self, filters: tuple[Filter, ...] = ()) -> None:
        # An entry's frame is made when it is sent, not while all wait
        self._owed: dict[str, FramedEntry | _Unheard | bytes] = {}
        self._filters = filters
        # The sessions that the subscriber takes for matching
        self._shown: set[str] | None = set() if filters else None

    def fill(self, entries: Iterable[FramedEntry], send: bool) -> None:
        """Start from the sessions there are; with ``send`` false the subscriber knows them
        already."""
        for entry in entries:
            if self._passes(entry):
                if self._shown is not None:
                    self._shown.add(entry.id)
                if send:
                    self._owed[entry.id] = entry

    def put(self, change: Change[FramedEntry], ended: bytes) -> None:
        """Note ``change``; ``ended`` is the frame that says its session is no longer there."""
        owed: FramedEntry | _Unheard | bytes = ended
        if change.entry is not None and self._passes(change.entry):
            owed = change.entry
        is_known = change.before is not None
        if self._shown is not None:
            if owed is ended:
                if change.id not in self._shown:
                    return
                self._shown.discard(change.id)
            elif change.id not in self._shown:
                self._shown.add(change.id)
                is_known = change.before is not None and self._passes(change.before)
        waiting = self._owed.get(change.id)
        if isinstance(waiting, _Unheard) or (waiting is None and not is_known):
            if isinstance(owed, FramedEntry):
                owed = _Unheard(owed)
            elif waiting is not None:
                del self._owed[change.id]
                return
        self._owed[change.id] = owed

    def take(self, count: int) -> list[bytes]:
        """Remove and return the ``count`` oldest frames."""
        if not self._owed:
            return []
        if len(self._owed) <= count:
            taken = list(self._owed.values())
            self._owed.clear()
        else:
            taken = [self._owed.pop(session_id) for session_id in list(islice(self._owed, count))]
        return [owed if isinstance(owed, bytes) else owed.frame for owed in taken]

    def _passes(self, entry: FramedEntry) -> bool:
        return not self._filters or matches(entry.members, self._filters)


class Subscriber(Protocol):
    """Who has a mailbox and is told when there is something in it."""

    mailbox: Mailbox

    def flush(self) -> None:
        """Send what can be sent now, without waiting."""


class Bus:
    """Hands each change to the subscribers of its login. For one thread, or the greenlets of
    one."""

    def __init__(self) -> None:
        self._topics: dict[Topic, dict[Subscriber, None]] = {}

    def subscribe(self, topic: Topic, subscriber: Subscriber) -> None:
        self._topics.setdefault(topic, {})[subscriber] = None

    def unsubscribe(self, topic: Topic, subscriber: Subscriber) -> None:
        subscribers = self._topics.get(topic, {})
        subscribers.pop(subscriber, None)
        if not subscribers:
            self._topics.pop(topic, None)

    def publish(self, changes: Iterable[Change[FramedEntry]]) -> None:
        """Put ``changes`` into the mailboxes they belong in, then have each of those sent once."""
        touched: dict[Subscriber, None] = {}
        for change in changes:
            if change.topic is not Everything.SERVERS:
                if change.before is not None and change.before.login != change.topic:
                    touched.update(self._deliver(change.before.login, replace(change, entry=None)))
                touched.update(self._deliver(Everything.SESSIONS, change))
            touched.update(self._deliver(change.topic, change))
        for subscriber in touched:
            subscriber.flush()

    def _deliver(self, topic: Topic, change: Change[FramedEntry]) -> Mapping[Subscriber, None]:
        subscribers: Mapping[Subscriber, None] = self._topics.get(topic, {})
        if subscribers:
            ended = session_frame(change.id, None)
            for subscriber in subscribers:
                subscriber.mailbox.put(change, ended)
        return subscribers
