"""The sessions of a topic, filtered and sorted once, then kept so as they change.

So a page of 50 out of 50,000 costs what 50 cost: nothing else is looked at, compared or encoded
again. What was sorted and filtered is kept up to date for whoever asks for it, not before: who asks
much pays for it, and nobody else.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import Any, Generic, TypeVar

from fastx_list.model.query import Filter, Query, look_up, matches, sort_key
from fastx_list.model.session import started_of
from fastx_list.replica.many import kept_at_once

MAX_ORDERS = 8  # that one view keeps
MAX_NARROWED = 8
# Where more of the sessions have changed, sorting anew is quicker than putting each in place
SORT_ANEW_SHARE = 1 / 8
MANY = 1024  # entries, of which what is sorted or filtered is better done in parts
PART = 256  # of them at once
FEW = 8  # changes, of which none is worth sorting anew
PLACE_BYTES = 170  # about what a place in an order takes, without the text that is sorted by
ENTRY_BYTES = 120  # about what being in one more view takes

_versions = count(1)
_decode = json.JSONDecoder().decode

_Item = tuple[int, Any, str]  # a sort key of two parts, and an id


@dataclass(frozen=True)
class Entry:
    """One session or server. A process that makes something of each entry once, such as a frame,
    has a subclass of its own for it."""

    id: str
    login: str  # whose session it is; "" for a server
    text: bytes  # its JSON, in UTF-8
    place: int = field(default=0, compare=False)  # where it last changed: see :mod:`trail`

    @cached_property
    def members(self) -> Mapping[str, Any]:
        """What the JSON says, parsed when first needed."""
        members: Mapping[str, Any] = _decode(self.text.decode())
        return members

    def value(self, name: str) -> Any:
        """Return what ``name`` stands for. The default order needs no parsing, as a rule."""
        started = started_of(self.text) if name == "started" else None
        return look_up(self.members, name) if started is None else started

    @cached_property
    def digest(self) -> bytes:
        """A fingerprint of the JSON, so that an answer's needs only these."""
        return hashlib.blake2b(self.text, digest_size=16).digest()


E = TypeVar("E", bound=Entry)


class Order:
    """Ids in the order of one name, as :class:`fastx_list.model.query.Query` has it: what has no
    place comes last, ties come by id."""

    def __init__(self, name: str, entries: Iterable[Entry]) -> None:
        # The member or param that is sorted by
        self.name = name
        # Those that have a sort key, from low to high
        self._placed: list[_Item] = []
        # The ids of those that have none
        self._last: list[str] = []
        # Of the texts that are sorted by, in characters
        self._length = 0
        self.collect(entries)
        self.sort()

    def collect(self, entries: Iterable[Entry]) -> None:
        """Take in ``entries``, which are in no order before :meth:`sort`."""
        with kept_at_once():
            for entry in entries:
                key = sort_key(entry.value(self.name))
                if key is None:
                    self._last.append(entry.id)
                else:
                    self._placed.append((*key, entry.id))
                    if key[0]:
                        self._length += len(key[1])

    def sort(self) -> None:
        self._placed.sort()
        self._last.sort()

    def _item(self, entry: Entry) -> _Item | None:
        key = sort_key(entry.value(self.name))
        return None if key is None else (*key, entry.id)

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        return PLACE_BYTES * (len(self._placed) + len(self._last)) + self._length

    def add(self, entry: Entry) -> None:
        item = self._item(entry)
        if item is None:
            insort(self._last, entry.id)
        else:
            insort(self._placed, item)
            self._length += _length(item)

    def remove(self, entry: Entry) -> None:
        item = self._item(entry)
        if item is None:
            del self._last[bisect_left(self._last, entry.id)]
        else:
            del self._placed[bisect_left(self._placed, item)]
            self._length -= _length(item)

    def update(self, before: Entry | None, after: Entry | None) -> None:
        if before is not None:
            self.remove(before)
        if after is not None:
            self.add(after)

    def ids(self, start: int, stop: int, reverse: bool) -> list[str]:
        """Return the ids at these positions; ``reverse`` turns the order of the keys, not that of
        ties."""
        placed = self._reversed(start, stop) if reverse else self._placed[start:stop]
        count = len(self._placed)
        return [item[2] for item in placed] + self._last[
            max(0, start - count) : max(0, stop - count)
        ]

    def _reversed(self, start: int, stop: int) -> list[_Item]:
        placed, found = self._placed, list[_Item]()
        size = len(placed)
        stop = min(stop, size)
        high = None
        # With those beside it, since a group of ties may reach beyond the page
        around = placed[max(0, size - stop - 1) : size - start + 1]
        if len({item[1] for item in around}) == len(around):
            return placed[size - stop : max(0, size - start)][::-1]
        while start + len(found) < stop:
            position = start + len(found)
            key = placed[size - 1 - position][:2]
            # Ties stand together from low to high. In reverse they come as one group, which begins
            # at size - high.
            if high is None:
                high = bisect_right(placed, key, key=_key)
            low = high - 1
            if low and placed[low - 1][:2] == key:
                low = bisect_left(placed, key)  # which comes before all that begin with it
            first = low + position - (size - high)
            found += placed[first : min(high, first + stop - position)]
            high = low
        return found


def _key(item: _Item) -> tuple[int, Any]:
    return item[:2]


def _length(item: _Item) -> int:
    return len(item[1]) if isinstance(item[1], str) else 0


_Changes = dict[str, tuple[E | None, E | None]]  # what a session was, and what it is, by id


def _note(changes: _Changes[E], name: str, before: E | None, after: E | None) -> None:
    first, _ = changes.get(name, (before, None))
    changes[name] = first, after


def _order_of(query: Query) -> str:
    return query.sort_by or "started"


class View(Generic[E]):
    """Those sessions of a topic that pass ``filters``."""

    def __init__(self, entries: Iterable[E] = (), filters: tuple[Filter, ...] = ()) -> None:
        # All of which an entry has to pass
        self.filters = filters
        # What is in the view, by id, in the order in which it last changed
        self.entries: dict[str, E] = {}
        self.collect(entries)
        # Another number after each change of the entries; no two views ever have the same
        self.version = next(_versions)
        # How often it was sorted or filtered
        self.sorts = 0
        # Its ids as they were sorted last, by name of the member; the one used last at the end
        self._orders: OrderedDict[str, Order] = OrderedDict()
        # Views of those that pass more filters; the one used last at the end
        self._narrowed: OrderedDict[tuple[Filter, ...], View[E]] = OrderedDict()
        # Which changes those two have not taken over yet: what a session was, and what it is
        self._late: _Changes[E] = {}
        # Those that what is prepared now has not taken over yet
        self._meanwhile: list[_Changes[E]] = []

    def _passes(self, entry: E) -> bool:
        return not self.filters or matches(entry.members, self.filters)

    def update(self, before: E | None, after: E | None) -> None:
        """Take over that session ``before`` is now ``after``: ``None`` before it began, or once it
        has ended or left."""
        if before is not None:
            before = self.entries.pop(before.id, None)
        if after is not None and not self._passes(after):
            after = None
        if after is not None:
            self.entries[after.id] = after
        changed = after or before
        if changed is None:
            return
        self.version = next(_versions)
        for changes in self._meanwhile:
            _note(changes, changed.id, before, after)
        if self._orders or self._narrowed:
            _note(self._late, changed.id, before, after)
            if len(self._late) > max(FEW, len(self.entries) * SORT_ANEW_SHARE):
                self.forget()

    def _catch_up(self) -> None:
        for before, after in self._late.values():
            for view in self._narrowed.values():
                view.update(before, after)
            for order in self._orders.values():
                order.update(before, after)
        self._late.clear()

    @property
    def size(self) -> int:
        """About how many bytes all takes that was sorted and filtered."""
        return sum(order.size for order in self._orders.values()) + sum(
            ENTRY_BYTES * len(view.entries) + view.size for view in self._narrowed.values()
        )

    def shrink(self, size: int) -> None:
        """Drop what was used the longest ago, until the rest takes at most ``size`` bytes or is
        what was used last."""
        while len(self._narrowed) > 1 and self.size > size:
            self._narrowed.popitem(last=False)
        while len(self._orders) > 1 and self.size > size:
            self._orders.popitem(last=False)
        for view in self._narrowed.values():
            view.shrink(size - self.size + view.size)

    def forget(self) -> None:
        """Drop what was sorted and filtered."""
        self._orders.clear()
        self._narrowed.clear()
        self._late.clear()

    def takes_long(self, query: Query) -> bool:
        """Whether there is much to sort or to filter for ``query``."""
        if len(self.entries) < MANY:
            return False
        if query.filters:
            view = self._narrowed.get(query.filters)
            return view is None or view.takes_long(replace(query, filters=()))
        return _order_of(query) not in self._orders

    def prepare(self, query: Query) -> Iterator[None]:
        """Sort and filter in parts what there is to for ``query``, and yield after each; there may
        be changes meanwhile. Then :meth:`narrow` and :meth:`page` find it done."""
        if query.filters:
            if query.filters not in self._narrowed:
                view: View[E] = View((), query.filters)
                yield from self._go_through(view.collect, view.update)
                self._keep_narrowed(view)
            narrowed = self._narrowed.get(query.filters)
            if narrowed is not None:
                yield from narrowed.prepare(replace(query, filters=()))
        elif (name := _order_of(query)) not in self._orders:
            order = Order(name, ())
            yield from self._go_through(order.collect, order.update, order.sort)
            self._keep_order(order)

    def _go_through(
        self,
        collect: Callable[[Iterable[E]], None],
        update: Callable[[E | None, E | None], None],
        at_end: Callable[[], None] = lambda: None,
    ) -> Iterator[None]:
        changes: _Changes[E] = {}
        entries = list(self.entries.values())
        self._meanwhile.append(changes)
        try:
            with kept_at_once():  # also while others have their turn, which is not for long
                for start in range(0, len(entries), PART):
                    collect(entries[start : start + PART])
                    yield
        finally:
            self._meanwhile = [each for each in self._meanwhile if each is not changes]
        at_end()
        # What it takes over now, the others that are kept are still to
        self._catch_up()
        for before, after in changes.values():
            update(before, after)

    def collect(self, entries: Iterable[E]) -> None:
        """Take in those of ``entries`` that pass the filters; none is in it yet."""
        with kept_at_once():
            passing = filter(self._passes, entries) if self.filters else entries
            self.entries.update({entry.id: entry for entry in passing})

    def _keep_narrowed(self, view: View[E]) -> None:
        self.sorts += 1
        self._narrowed[view.filters] = view
        if len(self._narrowed) > MAX_NARROWED:
            self._narrowed.popitem(last=False)

    def _keep_order(self, order: Order) -> None:
        self.sorts += 1
        self._orders[order.name] = order
        if len(self._orders) > MAX_ORDERS:
            self._orders.popitem(last=False)

    def narrow(self, filters: tuple[Filter, ...]) -> View[E]:
        """Return the view of those sessions that pass ``filters`` as well."""
        if not filters:
            return self
        self._catch_up()
        view = self._narrowed.get(filters)
        if view is None:
            view = View(self.entries.values(), filters)
            self._keep_narrowed(view)
        self._narrowed.move_to_end(filters)
        return view

    def page(self, query: Query) -> list[E]:
        """Return the sessions that ``query`` sorts to its page; its filters are for
        :meth:`narrow`."""
        self._catch_up()
        name = _order_of(query)
        order = self._orders.get(name)
        if order is None:
            order = Order(name, self.entries.values())
            self._keep_order(order)
        self._orders.move_to_end(name)
        stop = len(self.entries) if query.limit is None else query.start + query.limit
        return [self.entries[name] for name in order.ids(query.start, stop, query.sort_reverse)]
