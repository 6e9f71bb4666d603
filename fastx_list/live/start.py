"""What a subscriber is told first: what there is, or what has changed since it was last here."""

from __future__ import annotations

from typing import NamedTuple

from fastx_list.live.bus import Bus, Subscriber, Told, passes
from fastx_list.live.frames import FramedEntry, revision_frame, session_frame
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Topic

MAX_COMPARED = 1000  # sessions that filters are asked of at once


class Asked(NamedTuple):
    """What a WebSocket asks for; see :class:`fastx_list.model.query.LiveQuerySchema`."""

    snapshot: bool = True
    bookmarks: bool = False
    # Whether it comes back, and as of which step it knows this list; None if nobody can tell
    resumes: bool = False
    since: str | None = None
    # What the revisions of this list end with
    tag: str = ""


class First(NamedTuple):
    """What a subscriber is ``told`` at once, and the ``ids`` of what it is told after that."""

    told: list[Told]
    ids: list[str]


def mark(revision: str | None) -> Told:
    """Return that all has been told up to ``revision``; ``None``: that nobody knows what a
    subscriber has missed, and it has to drop what it has."""
    return Told(None, revision_frame(revision), True)


def start(
    subscriber: Subscriber, topic: Topic, asked: Asked, bus: Bus, replica: Replica[FramedEntry]
) -> First:
    """Subscribe to ``topic``, and return what ``subscriber`` is to be told before all else. Between
    the ids others may have their turn, and it may be told news."""
    # Before the snapshot is read, so that nothing falls between
    bus.subscribe(topic, subscriber)
    entries, filters = replica.entries(topic), subscriber.filters
    missed = None
    if asked.since is not None:
        missed = replica.trail.missed(topic, asked.since, entries)
    if missed is None or (filters and len(missed.changed) > MAX_COMPARED):
        ids = list(entries) if asked.snapshot else []
        return First([mark(None)] if asked.resumes else [], ids)
    # All at once, for who hears of one of them anew in between has to have heard that
    gone = missed.ended + [name for name in missed.changed if not passes(entries[name], filters)]
    return First([Told(name, session_frame(name, None), True) for name in gone], missed.changed)
