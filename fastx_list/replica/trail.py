"""What changed after which step, so that who was away is told of that and no more.

A public revision is the name of the step that last changed what somebody follows. It is random, and
what happens to others does not move it. The trail knows for how long: of the last steps, and of
the last ends. Which step it was of one that is not in it nobody can tell any more, and who comes
with that is given all that there is.

Each reading of the store has a *place* in the order in which this process took them over. The steps
that came in one reading share one: who saw the first of them is told of all.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from itertools import islice, takewhile
from typing import NamedTuple

from fastx_list.replica.topics import Change, Everything, Topic
from fastx_list.replica.view import E, Entry

MAX_STEPS = 20_000
MAX_ENDS = 10_000  # of the sessions of all logins, and of servers
MAX_ENDS_OF_LOGIN = 1_000
MAX_ORIGINS = 50_000  # topics that have changed
UNKNOWN = -1  # the place of a step of which nobody here knows what there was after it


class Missed(NamedTuple):
    """The ids of the sessions or servers that who was away has missed, in the order in which they
    ended or changed last."""

    ended: list[str]
    changed: list[str]


class _Origin:
    """What is known of how a topic came to be as it is."""

    __slots__ = ("place", "name", "known_from", "ends")

    def __init__(self, place: int, name: str) -> None:
        # Where it last changed, and the name of the step that did it
        self.place = place
        self.name = name
        # The place after which nothing of it is forgotten
        self.known_from = place
        # Where what is no longer there ended, by id, in the order of the places
        self.ends: dict[str, int] = {}


class Trail:
    """Not for use by several threads at once, but for :meth:`revision`."""

    def __init__(self) -> None:
        # That of what is being taken over, or was last
        self.place = 0
        # Where the store was after each step, the oldest first
        self._places: OrderedDict[str, int] = OrderedDict()
        # The steps that were passed in a store that has lost them since
        self._lost: OrderedDict[str, int] = OrderedDict()
        # Of the topics that have changed since the trail began
        self._origins: dict[Topic, _Origin] = {}
        # That of all other topics
        self._quiet = _Origin(0, "")
        # The steps that are being taken over, those before them of which nobody here was told, and
        # the topics that have changed
        self._steps: list[str] = []
        self._passed: Collection[str] = ()
        self._changed: set[Topic] = set()
        # Whether a reading is being taken over, and whether it is of a store that has lost some
        self._is_reading = False
        self._is_lost = False

    def restart(self, kept: Iterable[str]) -> None:
        """Forget all: the store has lost steps, but for those that are ``kept``. Who has seen the
        others may yet name one before them, so that none of its names are taken for what it has
        now."""
        self._lost.update(self._places)
        for step in kept:
            self._lost.pop(step, None)
        while len(self._lost) > MAX_STEPS:
            self._lost.popitem(last=False)
        self._places.clear()
        self._forget(_any_name())
        self._steps.clear()
        self._is_lost = True

    def has_lost(self, steps: Iterable[str]) -> bool:
        """Return whether the store had lost any of ``steps``: then it has become an older one."""
        return not self._lost.keys().isdisjoint(steps)

    def read(self, steps: Iterable[str]) -> None:
        """Note that ``steps`` are being taken over, if need be beside others."""
        if not self._is_reading:
            self.place += 1
            self._is_reading = True
        self._steps += steps

    def pass_by(self, steps: Collection[str]) -> None:
        """Note that the store has come past ``steps``, and nobody here was told of each."""
        self._passed = steps

    @property
    def takes_several(self) -> bool:
        """Whether what is taken over comes of several steps. What it leaves as it was may have been
        something else in between, which another process has told of; whose it was is not asked."""
        return len(self._steps) > 1

    def noted(self, change: Change[E]) -> Change[E]:
        """Return ``change`` once it is noted."""
        if self._places:  # else there is nobody yet who has missed it
            for topic, there in change.by_topic():
                self._note(topic, change.id, there.entry is None)
        return change

    def _note(self, topic: Topic, name: str, has_ended: bool) -> None:
        origin = self._origins.get(topic)
        if origin is None:
            origin = self._origins[topic] = _Origin(self._quiet.place, self._quiet.name)
        origin.ends.pop(name, None)
        if has_ended:
            origin.ends[name] = self.place
            most = MAX_ENDS if isinstance(topic, Everything) else MAX_ENDS_OF_LOGIN
            if len(origin.ends) > most:
                _halve(origin)
        self._changed.add(topic)

    def end(self) -> None:
        """Note that all has been taken over that was read."""
        *steps, last = self._steps
        if self._is_lost or not last:
            last = _any_name()
        is_first = not self._places
        for step in self._passed:
            self._places.setdefault(step, UNKNOWN)
        for step in steps:
            self._places[step] = self.place - 1
        self._places[last] = self.place
        for topic in self._changed:
            origin = self._origins[topic]
            origin.place, origin.name = self.place, last
        self._changed.clear()
        self._steps.clear()
        self._passed = ()
        self._is_reading = self._is_lost = False
        while len(self._places) > MAX_STEPS:
            self._places.popitem(last=False)
        if is_first or len(self._origins) > MAX_ORIGINS:
            self._forget(last)

    def _forget(self, name: str) -> None:
        """Forget all but which steps the store has passed; what there is now is called ``name``."""
        self._places = OrderedDict.fromkeys(self._places, UNKNOWN)
        self._places[name] = self.place
        self._origins.clear()
        self._changed.clear()
        self._quiet = _Origin(self.place, name)

    def revision(self, topic: Topic) -> str:
        """Return the name of the step that last changed ``topic``."""
        return self._origins.get(topic, self._quiet).name

    def _place_of(self, topic: Topic, revision: str) -> int | None:
        """Return the place after which ``topic`` has changed for who knows it as of ``revision``;
        ``None`` if that is not known (any more)."""
        origin = self._origins.get(topic, self._quiet)
        place = origin.place if revision == origin.name else self._places.get(revision)
        return None if place is None or place < origin.known_from else place

    def missed(self, topic: Topic, revision: str, entries: Mapping[str, Entry]) -> Missed | None:
        """Return what has changed for who knows ``topic`` as of ``revision``; ``None`` if nobody
        can tell (any more). ``entries`` are what there is of it now, in the order of their last
        changes."""
        place = self._place_of(topic, revision)
        if place is None:
            return None
        ends = self._origins.get(topic, self._quiet).ends
        changed = list(takewhile(lambda name: entries[name].place > place, reversed(list(entries))))
        return Missed([name for name, end in ends.items() if end > place], changed[::-1])


def _any_name() -> str:
    return secrets.token_hex(8)


def _halve(origin: _Origin) -> None:
    for name in list(islice(origin.ends, len(origin.ends) // 2)):
        origin.known_from = origin.ends.pop(name)
