"""Who is told of which change: the bus knows the subscribers of each topic, and each of them has a
mailbox.

A mailbox keeps only the newest state of each session, and nothing of a session that began and ended
before the subscriber heard of it. So it never holds more than the sessions that there are and those
that the subscriber knows. States in between may be skipped; the last one always arrives.

Telling the subscribers of a login may take long, and only they wait for it: topics take turns.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple, Protocol

from fastx_list.live.frames import FramedEntry, session_frame
from fastx_list.model.query import Filter, matches
from fastx_list.replica.topics import Change, Topic

TURN_SECONDS = 0.002  # that telling subscribers takes, before all else has its turn
# Subscribers between two looks at the clock
_PUTS_AT_ONCE = 64
_FLUSHES_AT_ONCE = 4
Filters = tuple[Filter, ...]


class _Unheard(NamedTuple):
    """What is owed of a session that the subscriber has never heard of: it need not hear of its end
    either."""

    entry: FramedEntry

    @property
    def frame(self) -> bytes:
        return self.entry.frame


class Verdict(NamedTuple):
    """Whether a session passes filters, and whether it did before a change. One that is not there
    does not."""

    now: bool
    before: bool


def passes(entry: FramedEntry | None, filters: Filters) -> bool:
    """Whether ``entry`` is there and passes all ``filters``."""
    return entry is not None and (not filters or matches(entry.members, filters))


def judge(change: Change[FramedEntry], filters: Filters) -> Verdict:
    """Return what all subscribers with these ``filters`` have to know of ``change``."""
    return Verdict(passes(change.entry, filters), passes(change.before, filters))


class Mailbox:
    """What one subscriber is owed, in the order in which the sessions first changed."""

    __slots__ = ("filters", "_owed", "_matching")

    def __init__(self, filters: Filters = ()) -> None:
        # All of which a session has to pass
        self.filters = filters
        # By session: its newest state, or the frame of its end. The frame of an entry is made when
        # it is sent, not while all wait
        self._owed: dict[str, FramedEntry | _Unheard | bytes] = {}
        # The sessions that the subscriber takes for matching; None if all do
        self._matching: set[str] | None = set() if filters else None

    def fill(self, entries: Iterable[FramedEntry], send: bool) -> None:
        """Start from the sessions there are; with ``send`` false the subscriber knows them
        already."""
        for entry in entries:
            if passes(entry, self.filters):
                if self._matching is not None:
                    self._matching.add(entry.id)
                if send:
                    self._owed[entry.id] = entry

    def put(self, change: Change[FramedEntry], verdict: Verdict, ended: bytes) -> None:
        """Note ``change``, on which its filters give this ``verdict``; ``ended`` is the frame that
        says its session is no longer there."""
        owed: FramedEntry | _Unheard | bytes = ended
        if change.entry is not None and verdict.now:
            owed = change.entry
        is_known = change.before is not None
        if self._matching is not None:
            if owed is ended:
                if change.id not in self._matching:
                    return
                self._matching.discard(change.id)
            elif change.id not in self._matching:
                self._matching.add(change.id)
                is_known = verdict.before
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


class Subscriber(Protocol):
    """Who has a mailbox and is told when there is something in it."""

    mailbox: Mailbox

    def flush(self) -> None:
        """Send what can be sent now, without waiting."""


class _Group(NamedTuple):
    """Those who followed a topic with equal filters."""

    filters: Filters
    then: list[Subscriber]
    now: dict[Subscriber, None]  # who of them has not left is here, and maybe others


@dataclass(frozen=True)
class _Round:
    """Changes for those who followed a topic when the first of them came."""

    # The newest state of each session, beside the state before the round
    changes: dict[str, Change[FramedEntry]]
    audience: list[_Group]


@dataclass
class _Followed:
    """A topic that somebody follows."""

    # By filters, and in the order in which they came
    groups: dict[Filters, dict[Subscriber, None]] = field(default_factory=dict)
    # Of which they have not been told
    rounds: deque[_Round] = field(default_factory=deque)
    # Whether changes may join the last round. Not once somebody has come who knows what it says
    is_open: bool = False
    # Tells of the round that was the first
    telling: Iterator[None] | None = None

    def note(self, change: Change[FramedEntry]) -> None:
        if not self.is_open:
            audience = [_Group(filters, list(now), now) for filters, now in self.groups.items()]
            self.rounds.append(_Round({}, audience))
            self.is_open = True
        changes = self.rounds[-1].changes
        earlier = changes.get(change.id)
        if earlier is not None:
            change = replace(change, before=earlier.before)
        changes[change.id] = change
        if change.entry is None and change.before is None:
            del changes[change.id]  # nobody has heard of it

    def tell(self, is_over: Callable[[], bool]) -> bool:
        """Tell of what has come until ``is_over``; return whether all has been told."""
        while self.rounds or self.telling is not None:
            if self.telling is None:
                self.telling = _tell(self.rounds.popleft())
                self.is_open = self.is_open and bool(self.rounds)
            for _ in self.telling:
                if is_over():
                    return False
            self.telling = None
        return True


def _tell(told: _Round) -> Iterator[None]:
    """Put the changes into the mailboxes, then have each sent once; yield where there may be a
    break. Who has left meanwhile is passed over."""
    for change in told.changes.values():
        ended = session_frame(change.id, None)
        for filters, then, now in told.audience:
            verdict = judge(change, filters)
            for start in range(0, len(then), _PUTS_AT_ONCE):
                for subscriber in then[start : start + _PUTS_AT_ONCE]:
                    if subscriber in now:
                        subscriber.mailbox.put(change, verdict, ended)
                yield
    for _, then, now in told.audience:
        for start in range(0, len(then), _FLUSHES_AT_ONCE):
            for subscriber in then[start : start + _FLUSHES_AT_ONCE]:
                if subscriber in now:
                    subscriber.flush()
            yield


class Bus:
    """Hands each change to the subscribers of its topic. For one thread, or the greenlets of
    one."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        # The seconds in which turns are measured
        self._clock = clock
        # No topic stands here that nobody follows
        self._followed: dict[Topic, _Followed] = {}
        # Those with changes to tell of; the one whose turn is next comes first
        self._busy: OrderedDict[Topic, None] = OrderedDict()

    def subscribe(self, topic: Topic, subscriber: Subscriber) -> None:
        """Tell ``subscriber`` of what is published from now on."""
        followed = self._followed.setdefault(topic, _Followed())
        followed.groups.setdefault(subscriber.mailbox.filters, {})[subscriber] = None
        followed.is_open = False

    def unsubscribe(self, topic: Topic, subscriber: Subscriber) -> None:
        followed = self._followed.get(topic)
        if followed is None:
            return
        filters = subscriber.mailbox.filters
        group = followed.groups.get(filters, {})
        group.pop(subscriber, None)
        if not group:
            followed.groups.pop(filters, None)
        if not followed.groups:
            del self._followed[topic]

    def publish(self, changes: Iterable[Change[FramedEntry]]) -> None:
        """Note ``changes``, of which :meth:`tell` tells."""
        for change in changes:
            for topic, change_there in change.by_topic():
                self._note(topic, change_there)

    def _note(self, topic: Topic, change: Change[FramedEntry]) -> None:
        followed = self._followed.get(topic)
        if followed is not None:
            followed.note(change)
            self._busy[topic] = None

    def tell(self) -> bool:
        """Tell subscribers of what was published, for one turn; return whether more is to do."""
        end = self._clock() + TURN_SECONDS

        def is_over() -> bool:
            return self._clock() >= end

        while self._busy:
            topic, _ = self._busy.popitem(last=False)
            followed = self._followed.get(topic)
            if followed is not None and not followed.tell(is_over):
                self._busy[topic] = None
            if is_over():
                break
        return bool(self._busy)
