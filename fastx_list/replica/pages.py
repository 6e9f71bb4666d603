"""Finished answers, each kept for as long as the sessions in it are unchanged.

Portals ask the same question again and again: it is answered with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, NamedTuple

from fastx_list.model.query import Asked, Query
from fastx_list.replica.topics import Everything, Topic
from fastx_list.replica.view import View

# Of pages kept with their questions: all together, and of one login
MAX_PAGES_BYTES = 64 * 2**20
MAX_PAGES = 10_000
MAX_PAGES_BYTES_OF_LOGIN = 16 * 2**20
MAX_PAGES_OF_LOGIN = 64  # more would crowd out of the processor's cache what all requests need
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
        # By question; the one that was made longest ago first
        self.pages: OrderedDict[Asked, _KeptPage] = OrderedDict()
        # The sizes of them all
        self.size = 0


class Pages:
    """The pages asked for last."""

    def __init__(self) -> None:
        # By topic, none of them empty; the one that had no new page for the longest first
        self._shares: OrderedDict[Topic, _Share] = OrderedDict()
        # How many pages they are, and the sizes of them all
        self._count = 0
        self._bytes = 0
        # The views that were sorted or filtered, with how much of that they keep; the one that was
        # asked last at the end
        self._sorted: OrderedDict[View[Any], int] = OrderedDict()
        # What the last of them was like then
        self._last: tuple[int, ...] = ()
        # All of that together
        self._sorted_bytes = 0

    def page(self, topic: Topic, view: View[Any], query: Query) -> Page:
        """Return the answer to ``query`` over ``view``, which holds all of ``topic``."""
        share, asked = self._shares.get(topic), query.asked
        kept = None if share is None else share.pages.get(asked)
        if kept is not None and kept.topic_version == view.version:
            return kept.page
        filtered = view.narrow(query.filters)
        if share is not None and kept is not None and kept.version == filtered.version:
            share.pages[asked] = kept._replace(topic_version=view.version)
            return kept.page
        entries, total = filtered.page(query), len(filtered.entries)
        body = b"[" + b",".join([entry.text for entry in entries]) + b"]"
        digests = b"".join([entry.digest for entry in entries])
        etag = hashlib.blake2b(digests + b"%d" % total, digest_size=12).hexdigest()
        page = Page(body, total, etag)
        size = len(body) + query.size
        self._keep(topic, asked, _KeptPage(page, filtered.version, view.version, size))
        now = view.version, view.sorts, filtered.version, filtered.sorts
        if now != self._last:  # else it keeps what it kept
            self._bound(topic, view)
            self._last = now
        return page

    def forget(self, view: View[Any]) -> None:
        """Let go of ``view``, which is nobody's any more."""
        self._sorted_bytes -= self._sorted.pop(view, 0)

    def _keep(self, topic: Topic, asked: Asked, new: _KeptPage) -> None:
        share = self._shares.get(topic)
        if share is None:
            share = self._shares[topic] = _Share()
        else:
            self._shares.move_to_end(topic)
            before = share.pages.pop(asked, None)
            if before is not None:
                self._count_page(share, -1, -before.size)
        share.pages[asked] = new
        self._count_page(share, 1, new.size)
        while (
            not isinstance(topic, Everything)
            and len(share.pages) > 1
            and (share.size > MAX_PAGES_BYTES_OF_LOGIN or len(share.pages) > MAX_PAGES_OF_LOGIN)
        ):
            self._drop_oldest(topic, share)
        while self._count > 1 and (self._bytes > MAX_PAGES_BYTES or self._count > MAX_PAGES):
            self._drop_oldest(*next(iter(self._shares.items())))

    def _count_page(self, share: _Share, number: int, size: int) -> None:
        self._count += number
        self._bytes += size
        share.size += size

    def _drop_oldest(self, topic: Topic, share: _Share) -> None:
        _, dropped = share.pages.popitem(last=False)
        self._count_page(share, -1, -dropped.size)
        if not share.pages:
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
