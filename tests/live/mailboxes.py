"""What the tests of bus and mailbox put in, and how they read what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fastx_list.live.bus import Bus, Filters, Mailbox, News, news_of, snapshot_of
from fastx_list.live.frames import FramedEntry
from fastx_list.model.query import Filter
from fastx_list.model.session import Session, encode
from fastx_list.replica.topics import Change

ENOUGH = 10**6  # more frames than any mailbox here holds
IDLE = (Filter("clients", frozenset({"0"})),)
# Both have to hold, and the second is one of the params
PINK = (*IDLE, Filter("colour", frozenset({"pink"})))


class Box(Mailbox):
    """A mailbox, beside the filters of its owner and the sessions that there are."""

    def __init__(self, filters: Filters = ()) -> None:
        super().__init__()
        self.filters = filters
        self.now: dict[str, FramedEntry | None] = {}

    def fill(self, entries: Iterable[FramedEntry], send: bool = True) -> None:
        """Begin with ``entries``, of which a snapshot is owed or not."""
        self.now |= {entry.id: entry for entry in entries}
        if send:
            self.owe(News(snapshot_of(entries, self.filters)))

    def owe(self, news: News) -> None:
        for told in news.told:
            self.put(told)


class Reader:
    """A subscriber that is owed all, and counts how often it is told something."""

    def __init__(self, filters: Filters = ()) -> None:
        self.filters = filters
        self.mailbox = Box(filters)
        self.told = 0

    def tell(self, news: News) -> None:
        self.mailbox.owe(news)
        self.told += 1


def make_entry(
    session_id: str = "s1", login: str = "alice", colour: str = "pink", **facts: Any
) -> FramedEntry:
    session = Session(id=session_id, login=login, server_id="server", hostname="host", **facts)
    return FramedEntry(session_id, login, encode(session, {"colour": colour}).encode())


def new(entry: FramedEntry, before: FramedEntry | None = None) -> Change[FramedEntry]:
    return Change(entry.id, entry.login, entry, before)


def end(entry: FramedEntry) -> Change[FramedEntry]:
    return Change(entry.id, entry.login, None, entry)


def put(box: Box, *changes: Change[FramedEntry]) -> None:
    """Put in what the owner is told of ``changes``; what was before them need not be said."""
    for change in changes:
        before = change.before or box.now.get(change.id)
        box.now[change.id] = change.entry
        box.owe(news_of([replace(change, before=before)], box.filters))


def publish(bus: Bus, *changes: Change[FramedEntry]) -> None:
    """Publish ``changes``, and tell of them all."""
    bus.publish(changes)
    while bus.tell():
        pass


def messages(frames: Iterable[bytes]) -> list[tuple[str, Any]]:
    """Return what the frames say, as pairs of id and data."""
    messages = []
    for frame in frames:
        message = json.loads(frame[frame.index(b'{"id":') :])
        messages.append((message["id"], message["data"]))
    return messages


def taken(mailbox: Mailbox, count: int = ENOUGH) -> list[tuple[str, Any]]:
    return messages(mailbox.take(count))


def clients_in(mailbox: Mailbox) -> list[tuple[str, int | None]]:
    """Return what is in the mailbox, as pairs of id and number of clients; ``None`` is the end of
    the session."""
    return [(session_id, data and data["clients"]) for session_id, data in taken(mailbox)]
