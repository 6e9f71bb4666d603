"""Finished answers, each kept for as long as the sessions in it are unchanged.

Portals ask the same question again and again: it is answered with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, NamedTuple

from fastx_list.model.query import Query
from fastx_list.replica.topics import Everything, Topic
from fastx_list.replica.view import View

# Of pages kept with their questions: all together, and of one login
MAX_PAGES_BYTES = 64 * 2**20
MAX_PAGES = 10_000
MAX_PAGES_BYTES_OF_LOGIN = 16 * 2**20
MAX_PAGES_OF_LOGIN = 1000
# Of what was sorted and filtered to make them
MAX_SORTED_BYTES = 128 * 2**20
MAX_SORTED_BYTES_OF_LOGIN = 32 * 2**20


class Page(NamedTuple):
    """A finished answer: a JSON array, how many sessions there were before paging, and a strong
    entity tag of the two."""

    body: bytes
    total: int
    etag: str


class _KeptPage(NamedTuple):
    page: Page
    version: int  # of the filtered view that the page shows
    topic_version: int  # of the topic's view, which that one was filtered from
    size: int  # about how many bytes it takes, question and answer together


class _Share:
    """What is kept of one topic."""

    def __init__(self) -> None:
        # The one whose page was made longest ago first
        self.queries: OrderedDict[Query, None] = OrderedDict()
        # The sizes of the pages
        self.size = 0


class Pages:
    """The pages asked for last."""

    def __init__(self) -> None:
        # The one that was made longest ago first
        self._kept: OrderedDict[tuple[Topic, Query], _KeptPage] = OrderedDict()
        # The sizes of them all
        self._bytes = 0
        # Whose they are; no topic stands here without any
        self._shares: dict[Topic, _Share] = {}
        # The views that were sorted or filtered, with how much of that they keep; the one that was
        # asked last at the end
        self._sorted: OrderedDict[View[Any], int] = OrderedDict()
        # What the last of them was like then
        self._last: tuple[int, ...] = ()
        # All of that together
        self._sorted_bytes = 0

    def page(self, topic: Topic, view: View[Any], query: Query) -> Page:
        """Return the answer to ``query`` over ``view``, which holds all of ``topic``."""
        kept = self._kept.get((topic, query))
        if kept is not None and kept.topic_version == view.version:
            return kept.page
        filtered = view.narrow(query.filters)
        if kept is not None and kept.version == filtered.version:
            self._kept[topic, query] = kept._replace(topic_version=view.version)
            return kept.page
        entries, total = filtered.page(query), len(filtered.entries)
        body = b"[" + b",".join([entry.text for entry in entries]) + b"]"
        digests = b"".join([entry.digest for entry in entries])
        etag = hashlib.blake2b(digests + b"%d" % total, digest_size=12).hexdigest()
        page = Page(body, total, etag)
        size = len(body) + query.size
        if kept is not None:
            self._drop(topic, query)
        self._keep(topic, query, _KeptPage(page, filtered.version, view.version, size))
        now = view.version, view.sorts, filtered.version, filtered.sorts
        if now != self._last:  # else it keeps what it kept
            self._bound(topic, view)
            self._last = now
        return page

    def forget(self, view: View[Any]) -> None:
        """Let go of ``view``, which is nobody's any more."""
        self._sorted_bytes -= self._sorted.pop(view, 0)

    def _keep(self, topic: Topic, query: Query, new: _KeptPage) -> None:
        self._kept[topic, query] = new
        self._bytes += new.size
        share = self._shares.get(topic)
        if share is None:
            share = self._shares[topic] = _Share()
        share.queries[query] = None
        share.size += new.size
        while (
            not isinstance(topic, Everything)
            and len(share.queries) > 1
            and (share.size > MAX_PAGES_BYTES_OF_LOGIN or len(share.queries) > MAX_PAGES_OF_LOGIN)
        ):
            self._drop(topic, next(iter(share.queries)))
        while len(self._kept) > 1 and (
            self._bytes > MAX_PAGES_BYTES or len(self._kept) > MAX_PAGES
        ):
            self._drop(*next(iter(self._kept)))

    def _drop(self, topic: Topic, query: Query) -> None:
        dropped = self._kept.pop((topic, query), None)
        if dropped is None:
            return
        self._bytes -= dropped.size
        share = self._shares[topic]
        share.size -= dropped.size
        del share.queries[query]
        if not share.queries:
            del self._shares[topic]

    def _bound(self, topic: Topic, view: View[Any]) -> None:
        """Keep what was sorted and filtered small: of each login, and of all."""
        most, size = MAX_SORTED_BYTES, view.size
        share = most if isinstance(topic, Everything) else MAX_SORTED_BYTES_OF_LOGIN
        if size > share:
            view.shrink(share)
            size = view.size
        self.forget(view)
        self._sorted[view] = size
        self._sorted_bytes += size
        while len(self._sorted) > 1 and self._sorted_bytes > most:
            other, size = self._sorted.popitem(last=False)
            other.forget()
            self._sorted_bytes -= size
