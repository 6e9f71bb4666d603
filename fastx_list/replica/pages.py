"""Finished answers, each kept for as long as the sessions in it are unchanged.

Portals ask the same question again and again: it is answered with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, NamedTuple

from fastx_list.model.query import Query
from fastx_list.replica.topics import Topic
from fastx_list.replica.view import View

# Of pages kept with their questions, all logins together
MAX_PAGES_BYTES = 64 * 1024 * 1024
MAX_PAGES = 10_000


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


class Pages:
    """The pages asked for last."""

    def __init__(self) -> None:
        # The one that was made longest ago first
        self._kept: OrderedDict[tuple[Topic, Query], _KeptPage] = OrderedDict()
        # The sizes of them all
        self._bytes = 0

    def page(self, topic: Topic, view: View[Any], query: Query) -> Page:
        """Return the answer to ``query`` over ``view``, which holds all of ``topic``."""
        kept = self._kept.get((topic, query))
        if kept is not None and kept.topic_version == view.version:
            return kept.page
        filtered = view.narrow(query.filters)
        if kept is not None and kept.version == filtered.version:
            self._kept[topic, query] = kept._replace(topic_version=view.version)
            return kept.page
        body = b"[" + b",".join([entry.text for entry in filtered.page(query)]) + b"]"
        total = len(filtered.entries)
        etag = hashlib.blake2b(body + b"%d" % total, digest_size=12).hexdigest()
        page = Page(body, total, etag)
        size = len(body) + query.size
        self._keep((topic, query), _KeptPage(page, filtered.version, view.version, size))
        return page

    def _keep(self, key: tuple[Topic, Query], new: _KeptPage) -> None:
        stale = self._kept.pop(key, None)
        self._kept[key] = new
        self._bytes += new.size - (stale.size if stale else 0)
        while len(self._kept) > 1 and (
            self._bytes > MAX_PAGES_BYTES or len(self._kept) > MAX_PAGES
        ):
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.size
