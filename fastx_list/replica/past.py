"""Answers questions about the history, which stays in the store."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

from fastx_list.model.history import HistoryQuery
from fastx_list.model.past import encode_past
from fastx_list.model.query import matches
from fastx_list.model.session import published_part
from fastx_list.replica.view import Entry, Order
from fastx_list.store.archive import Archive, Span

PART = 200  # sessions that are read at once
MAX_START = 10**9  # far beyond all that is kept; no store takes a number of any length
MAX_LOOKED_AT = 20_000  # sessions, for a filter or an order


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
