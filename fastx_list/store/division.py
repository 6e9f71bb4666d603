"""How much is written, and read, in one step: so much that others can have their turn soon."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from fastx_list.model.session import Session
from fastx_list.store import AT_ONCE, Changes, SnapshotNeeded, StoreError

UNFINISHED = "+"  # at the end of an edition of which there is more to write
READ_TRIES = 100  # when more is written meanwhile than is kept
CHANGES_TOO_FAST = "the store changes faster than it can be read"

T = TypeVar("T")


class Part(NamedTuple):
    """What one step writes of a server's sessions."""

    changed: Sequence[Session]
    ended: Sequence[str]
    is_last: bool


def is_unfinished(edition: object) -> bool:
    """Whether an ``edition`` is part of what its agent was to write."""
    return isinstance(edition, str) and edition.endswith(UNFINISHED)


def divide(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield ``items``, so many at once as one step takes."""
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def parts(stored: Mapping[str, object], sessions: Mapping[str, Session]) -> list[Part]:
    """Return what has to be written of a server's ``sessions``, of which those ``stored`` are known
    by their digests; one part at least.

    What is new or changed comes first: nothing new waits for a hundred thousand ends.
    """
    changed = [session for name, session in sessions.items() if stored.get(name) != session.digest]
    ended = [name for name in stored if name not in sessions]
    if len(changed) + len(ended) <= AT_ONCE:
        return [Part(changed, ended, True)]
    found = [Part(some, (), False) for some in divide(changed)]
    found += [Part((), some, False) for some in divide(ended)]
    return [*found[:-1], found[-1]._replace(is_last=True)]


def at_once(read_all: Callable[[], Generator[None, None, Changes]]) -> Changes:
    """Return what ``read_all`` reads in parts. Nobody waits for it."""
    for _ in range(READ_TRIES):
        with suppress(SnapshotNeeded):
            return finish(read_all())
    raise StoreError(CHANGES_TOO_FAST)


def finish(working: Generator[None, None, T]) -> T:
    """Return what ``working`` returns in the end. Nobody waits for its parts."""
    while True:
        try:
            next(working)
        except StopIteration as end:
            found: T = end.value
            return found
