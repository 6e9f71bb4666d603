"""Who is told of which change: the bus knows the subscribers of each topic, and hands them news.

What a subscriber cannot be sent at once is owed to it, in its mailbox. A mailbox keeps only the
newest state of each session, and nothing of a session that began and ended before the subscriber
heard of it. So it never holds more than the sessions that there are and those that the subscriber
knows. States in between may be skipped; the last one always arrives.

Telling the subscribers of a login may take long, and only they wait for it: topics take turns.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import NamedTuple, Protocol

from fastx_list.api.counters import counters
from fastx_list.live.frames import FramedEntry, session_frame
from fastx_list.model.query import Filter, matches
from fastx_list.replica.topics import Change, Topic

TURN_SECONDS = 0.002  # that telling subscribers takes, before all else has its turn
CHANGES_AT_ONCE = 64  # that a subscriber is told of
_TOLD_AT_ONCE = 4  # subscribers, between two looks at the clock
Filters = tuple[Filter, ...]


class Told(NamedTuple):
    """What a subscriber is told of one session; under the id ``None``, of all before."""

    id: str | None
    state: FramedEntry | bytes  # the newest; once it has ended, the frame that says so
    is_known: bool  # whether the subscriber may have heard of it before

    @property
    def frame(self) -> bytes:
        return self.state if isinstance(self.state, bytes) else self.state.frame

    @property
    def deflated(self) -> bytes:
        """The frame for who takes compressed ones. The end of a session is too short for that."""
        return self.state if isinstance(self.state, bytes) else self.state.deflated


Tellable = Told | FramedEntry  # an entry alone is one that the subscriber may have heard of


class News:
    """What all subscribers with equal filters are told at once."""

    def __init__(self, told: Sequence[Tellable]) -> None:
        self.told = told

    @cached_property
    def data(self) -> bytes:
        """All its frames, made when first needed and not while all wait."""
        return b"".join([each.frame for each in self.told])

    @cached_property
    def deflated(self) -> bytes:
        """The same for who takes compressed frames."""
        return b"".join([each.deflated for each in self.told])

    def after(self, sent: int, deflated: bool) -> tuple[memoryview | None, Sequence[Tellable]]:
        """Return what is left of ``data``, or of ``deflated``, once ``sent`` bytes of it are out:
        the rest of a frame that is partly out, if one is, and what comes behind it."""
        if not sent:
            return None, self.told
        for index, each in enumerate(self.told):
            if sent <= 0:
                return None, self.told[index:]
            frame = each.deflated if deflated else each.frame
            sent -= len(frame)
            if sent < 0:
                return memoryview(frame)[sent:], self.told[index + 1 :]
        return None, ()


def passes(entry: FramedEntry | None, filters: Filters) -> bool:
    """Whether ``entry`` is there and passes all ``filters``."""
    return entry is not None and (not filters or matches(entry.members, filters))


def news_of(changes: Iterable[Change[FramedEntry]], filters: Filters) -> News:
    """Return what all subscribers with these ``filters`` are told of ``changes``: for them, what
    does not pass is not there."""
    told = []
    for change in changes:
        was_there = passes(change.before, filters)
        if change.entry is not None and passes(change.entry, filters):
            told.append(Told(change.id, change.entry, was_there))
        elif was_there:
            told.append(Told(change.id, session_frame(change.id, None), True))
    return News(told)


def snapshot_of(entries: Iterable[FramedEntry], filters: Filters) -> list[FramedEntry]:
    """Return what a new subscriber with these ``filters`` is told of ``entries``, of which it may
    know from elsewhere."""
    return [entry for entry in entries if passes(entry, filters)] if filters else list(entries)


class Mailbox:
    """What one subscriber is owed, in the order in which the sessions first changed."""

    __slots__ = ("_owed",)

    def __init__(self) -> None:
        # By session
        self._owed: dict[str | None, Tellable] = {}

    def __contains__(self, session_id: str | None) -> bool:
        return session_id in self._owed

    def put(self, told: Tellable) -> None:
        """Owe it what ``told`` says."""
        waiting = self._owed.get(told.id)
        if waiting is not None:
            told = Told(told.id, told.state, waiting.is_known)
        if told.is_known or isinstance(told.state, FramedEntry):
            self._owed[told.id] = told
        else:
            self._owed.pop(told.id, None)  # what it has never heard of need not end for it either

    def forget(self, session_id: str | None) -> None:
        """Owe nothing of this session: its newest state is on its way."""
        self._owed.pop(session_id, None)

    def take(self, count: int, deflated: bool = False) -> list[bytes]:
        """Remove and return the ``count`` oldest frames, in the form that its owner takes."""
        if len(self._owed) <= count:
            taken = list(self._owed.values())
            self._owed.clear()
        else:
            taken = [self._owed.pop(session_id) for session_id in list(islice(self._owed, count))]
        return [told.deflated if deflated else told.frame for told in taken]


class Subscriber(Protocol):
    """Who follows a topic."""

    @property
    def filters(self) -> Filters:
        """All of which a session has to pass."""

    def tell(self, news: News) -> None:
        """Send ``news`` without waiting, or owe what cannot be sent now."""


class _Group(NamedTuple):
    """Those who followed a topic with equal filters."""

    filters: Filters
    then: list[Subscriber]
    now: dict[Subscriber, None]  # who of them has not left is here, and maybe others


@dataclass
class _Round:
    """Changes for those who followed a topic when the first of them came."""

    # The newest state of each session, beside the state before the round
    changes: dict[str, Change[FramedEntry]]
    audience: list[_Group]
    # Of the topic, with the last of these changes
    revision: str = ""


@dataclass
class _Followed:
    """A topic that somebody follows."""

    # By filters, and in the order in which they came
    groups: dict[Filters, dict[Subscriber, None]] = field(default_factory=dict)
    # Of which they have not been told
    rounds: deque[_Round] = field(default_factory=deque)
    # Whether changes may join the last round. Not once somebody has come who knows what it says
    is_open: bool = False
    # The round that was the first, and what tells of it
    telling: tuple[_Round, Iterator[None]] | None = None
    # The revision of the last round that all were told of
    told: str | None = None

    @property
    def is_busy(self) -> bool:
        return bool(self.rounds) or self.telling is not None

    def note(self, change: Change[FramedEntry], revision: str) -> None:
        if not self.is_open:
            audience = [_Group(filters, list(now), now) for filters, now in self.groups.items()]
            self.rounds.append(_Round({}, audience))
            self.is_open = True
        self.rounds[-1].revision = revision
        changes = self.rounds[-1].changes
        earlier = changes.get(change.id)
        if earlier is not None:
            change = replace(change, before=earlier.before)
        changes[change.id] = change
        if change.entry is None and change.before is None:
            del changes[change.id]  # nobody has heard of it

    def tell(self, is_over: Callable[[], bool]) -> bool:
        """Tell of what has come until ``is_over``; return whether all has been told."""
        while self.is_busy:
            if self.telling is None:
                first = self.rounds.popleft()
                self.telling = first, _tell(first)
                self.is_open = self.is_open and bool(self.rounds)
            done, parts = self.telling
            for _ in parts:
                if is_over():
                    return False
            self.told, self.telling = done.revision, None
        return True


def _tell(told: _Round) -> Iterator[None]:
    """Tell everyone of the changes; yield where there may be a break. Who has left meanwhile is
    passed over."""
    changes = iter(told.changes.values())
    while some := list(islice(changes, CHANGES_AT_ONCE)):
        for filters, then, now in told.audience:
            news = news_of(some, filters)
            if not news.told:
                yield
                continue
            for start in range(0, len(then), _TOLD_AT_ONCE):
                there = 0
                for subscriber in then[start : start + _TOLD_AT_ONCE]:
                    if subscriber in now:
                        subscriber.tell(news)
                        there += 1
                counters.add("messages", there * len(news.told))
                yield


class Bus:
    """Hands each change to the subscribers of its topic. For one thread, or the greenlets of
    one."""

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        revision_of: Callable[[Topic], str] = lambda topic: "",
    ) -> None:
        # The seconds in which turns are measured
        self._clock = clock
        # The revision of a topic with all that was published
        self._revision_of = revision_of
        # No topic stands here that nobody follows
        self._followed: dict[Topic, _Followed] = {}
        # Those with changes to tell of; the one whose turn is next comes first
        self._busy: OrderedDict[Topic, None] = OrderedDict()

    def subscribe(self, topic: Topic, subscriber: Subscriber) -> None:
        """Tell ``subscriber`` of what is published from now on."""
        followed = self._followed.setdefault(topic, _Followed())
        followed.groups.setdefault(subscriber.filters, {})[subscriber] = None
        followed.is_open = False

    def unsubscribe(self, topic: Topic, subscriber: Subscriber) -> None:
        followed = self._followed.get(topic)
        if followed is None:
            return
        filters = subscriber.filters
        group = followed.groups.get(filters, {})
        group.pop(subscriber, None)
        if not group:
            followed.groups.pop(filters, None)
        if not followed.groups:
            del self._followed[topic]

    def told(self, topic: Topic) -> str | None:
        """Return the revision up to which the subscribers of ``topic`` have been told all that was
        published; ``None`` if that is not known yet. Who has come since knows more."""
        followed = self._followed.get(topic)
        if followed is None or not followed.is_busy:
            return self._revision_of(topic)
        return followed.told

    def publish(self, changes: Iterable[Change[FramedEntry]]) -> None:
        """Note ``changes``, of which :meth:`tell` tells."""
        for change in changes:
            for topic, change_there in change.by_topic():
                self._note(topic, change_there)

    def _note(self, topic: Topic, change: Change[FramedEntry]) -> None:
        followed = self._followed.get(topic)
        if followed is not None:
            followed.note(change, self._revision_of(topic))
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
