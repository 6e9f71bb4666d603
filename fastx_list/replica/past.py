"""Answers questions about the history and the events, which stay in the store."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

from fastx_list.model.event import Event, EventsQuery, members_of
from fastx_list.model.history import MAX_MOMENT, HistoryQuery
from fastx_list.model.past import encode_past
from fastx_list.model.query import matches
from fastx_list.model.session import published_part
from fastx_list.replica.view import Entry, Order
from fastx_list.store.archive import Archive, EventSpan, Span

PART = 200  # sessions that are read at once
MAX_START = 10**9  # far beyond all that is kept; no store takes a number of any length
MAX_LOOKED_AT = 20_000  # sessions, for a filter or an order; events, for an answer
CLOCKS_DIFFER = 3_600_000  # ms at most, as is taken for granted


NOT_ALL_KEPT = "not all events up to here are kept (any more)"


class TooMany(Exception):
    """There is too much to look at; the message says what helps."""


class PastPage(NamedTuple):
    """The JSON of each session of an answer, and how many there were before paging, if that is
    known."""

    texts: list[str]
    total: int | None


def past_page(
    archive: Archive, login: str | None, query: HistoryQuery, hides_ours: bool, now: int
) -> Generator[None, None, PastPage]:
    """Work out in parts, and return, the answer to ``query`` over the sessions of ``login``, or of
    all; ``now`` is in ms since the Unix epoch.

    Raises :class:`TooMany`, and :class:`fastx_list.store.StoreError`.
    """
    span = Span(login, query.since, query.until)
    limit = query.limit or 0
    if query.is_usual:
        start = min(query.start, MAX_START)
        ids = archive.find(span, start, limit, not query.sort_reverse) if limit else []
        texts: list[str] = []
        for part in _parts(ids):
            texts += (text for _, text in _read(archive, part, hides_ours, now))
            yield
        return PastPage(texts, archive.count(span))
    count = archive.count(span)
    if count is None or count > MAX_LOOKED_AT:
        raise TooMany(
            "since, until: a filter or an order takes a time with at most"
            f" {MAX_LOOKED_AT} sessions; there are {'more' if count is None else count}"
        )
    ids = archive.find(span, 0, MAX_LOOKED_AT, last_first=True)
    found: list[Entry] = []
    for part in _parts(ids):
        for session_id, text in _read(archive, part, hides_ours, now):
            entry = Entry(session_id, "", text.encode())
            if matches(entry.members, query.filters):
                found.append(entry)
        yield
    ordered = _in_order(found, query)[query.start : query.start + limit]
    return PastPage([entry.text.decode() for entry in ordered], len(found))


class EventsFound(NamedTuple):
    """The members of each event of an answer."""

    items: list[dict[str, Any]]
    has_gap: bool  # whether not all are kept that might belong to it
    # The id of the last event that was looked at, from which it goes on; None where that is unknown
    place: str | None


def events_page(
    archive: Archive, login: str | None, query: EventsQuery, shown: Callable[[str], str] = str
) -> Generator[None, None, EventsFound]:
    """Work out in parts, and return, the answer to ``query`` over the events of ``login``, or of
    all; ``shown`` makes of an event's id what is told of it.

    Raises :class:`TooMany`, and :class:`fastx_list.store.StoreError`.
    """
    # After an event all that followed are looked at, and those are as a rule few
    turned = query.sort_reverse and query.after is not None
    span = EventSpan(
        login or _only_login(query),
        None if query.since is None else max(0, query.since - CLOCKS_DIFFER),
        None if query.until is None else query.until + CLOCKS_DIFFER,
        query.sort_reverse and not turned,
    )
    limit = query.limit or 0
    enough = MAX_LOOKED_AT if turned else query.start + limit
    found: list[dict[str, Any]] = []
    place, last, looked_at, has_gap = query.after, None, 0, False
    while limit and len(found) < enough:
        if looked_at >= MAX_LOOKED_AT:
            raise TooMany(
                f"since, until: an answer takes a time with at most {MAX_LOOKED_AT} events; there"
                " are more"
            )
        size = PART if query.filters else min(PART, enough - len(found))
        page = archive.events(place, size, span)
        has_gap = has_gap or (not looked_at and page.has_gap)
        for event in page.events:
            if len(found) == enough:
                break
            last = event.id
            members = members_of(event._replace(id=shown(event.id)))
            if _is_in_time(event, query) and matches(members, query.filters):
                found.append(members)
        looked_at += size
        place = page.place
        if place is None:
            break
        yield
    ordered = found[::-1] if turned else found
    last = None if query.sort_reverse else last or (None if has_gap else query.after)
    return EventsFound(ordered[query.start : query.start + limit], has_gap, last)


def _is_in_time(event: Event, query: EventsQuery) -> bool:
    until = MAX_MOMENT + 1 if query.until is None else query.until
    return (query.since or 0) <= event.at < until


def _only_login(query: EventsQuery) -> str | None:
    """Return the one login that the filters leave, if they are like that."""
    for each in query.filters:
        if each.name == "login" and len(each.values) == 1 and "" not in each.values:
            return next(iter(each.values))
    return None


def _parts(ids: list[str]) -> list[list[str]]:
    return [ids[start : start + PART] for start in range(0, len(ids), PART)]


def _read(
    archive: Archive, ids: list[str], hides_ours: bool, now: int
) -> Iterator[tuple[str, str]]:
    """Yield the id and the JSON of each of these that is kept."""
    for record in archive.read(ids):
        text = published_part(record.text) if hides_ours else record.text
        yield record.id, encode_past(text, record.past, now)


def _in_order(found: list[Entry], query: HistoryQuery) -> list[Entry]:
    """Return ``found``, which come in the order of their ends, as the list would order them."""
    if query.sort_by is None:
        return found[::-1] if query.sort_reverse else found
    by_id = {entry.id: entry for entry in found}
    order = Order(query.sort_by, found)
    return [by_id[each] for each in order.ids(0, len(found), query.sort_reverse)]
