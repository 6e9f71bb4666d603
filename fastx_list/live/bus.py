"""Who is told of which change: the bus knows the subscribers of each topic, and each of them has a
mailbox.

A mailbox keeps only the newest state of each session, and nothing of a session that began and ended
before the subscriber heard of it. So it never holds more than the sessions that there are and those
that the subscriber knows. States in between may be skipped; the last one always arrives.
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
    """What is owed of a session that the subscriber has never heard of: it need not hear of its end
    either."""

    entry: FramedEntry

    @property
    def frame(self) -> bytes:
        return self.entry.frame


class Mailbox:
    """What one subscriber is owed, in the order in which the sessions first changed."""

    __slots__ = ("_owed", "_filters", "_matching")

    def __init__(self, filters: tuple[Filter, ...] = ()) -> None:
        # By session: its newest state, or the frame of its end. The frame of an entry is made when
        # it is sent, not while all wait
        self._owed: dict[str, FramedEntry | _Unheard | bytes] = {}
        # All of which a session has to pass
        self._filters = filters
        # The sessions that the subscriber takes for matching; None if all do
        self._matching: set[str] | None = set() if filters else None

    def fill(self, entries: Iterable[FramedEntry], send: bool) -> None:
        """Start from the sessions there are; with ``send`` false the subscriber knows them
        already."""
        for entry in entries:
            if self._passes(entry):
                if self._matching is not None:
                    self._matching.add(entry.id)
                if send:
                    self._owed[entry.id] = entry

    def put(self, change: Change[FramedEntry], ended: bytes) -> None:
        """Note ``change``; ``ended`` is the frame that says its session is no longer there."""
        owed: FramedEntry | _Unheard | bytes = ended
        if change.entry is not None and self._passes(change.entry):
            owed = change.entry
        is_known = change.before is not None
        if self._matching is not None:
            if owed is ended:
                if change.id not in self._matching:
                    return
                self._matching.discard(change.id)
            elif change.id not in self._matching:
                self._matching.add(change.id)
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
    """Hands each change to the subscribers of its topic. For one thread, or the greenlets of
    one."""

    def __init__(self) -> None:
        # In the order in which they came; no topic stands here without any
        self._subscribers: dict[Topic, dict[Subscriber, None]] = {}

    def subscribe(self, topic: Topic, subscriber: Subscriber) -> None:
        self._subscribers.setdefault(topic, {})[subscriber] = None

    def unsubscribe(self, topic: Topic, subscriber: Subscriber) -> None:
        subscribers = self._subscribers.get(topic, {})
        subscribers.pop(subscriber, None)
        if not subscribers:
            self._subscribers.pop(topic, None)

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
        subscribers: Mapping[Subscriber, None] = self._subscribers.get(topic, {})
        if subscribers:
            ended = session_frame(change.id, None)
            for subscriber in subscribers:
                subscriber.mailbox.put(change, ended)
        return subscribers
