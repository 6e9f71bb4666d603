"""What can be asked of a replica, and how it says that something has changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Generic

from fastx_list.replica.view import E


class Everything(Enum):
    """What an administrator may ask for: the sessions of all logins, and the servers."""

    SESSIONS = auto()
    SERVERS = auto()


Topic = str | Everything  # the sessions of a login, or everything of a kind


@dataclass(frozen=True)
class Change(Generic[E]):
    """The new state of a session or of a server."""

    id: str
    topic: Topic  # the session's login; of a server :attr:`Everything.SERVERS`
    entry: E | None  # None once it has ended
    before: E | None  # the state before this one; None if it is new

    def by_topic(self) -> Iterator[tuple[Topic, Change[E]]]:
        """Yield each topic that this is a change of, with what has changed there: for the login
        that a session was of before, it has ended."""
        if self.topic is not Everything.SERVERS:
            if self.before is not None and self.before.login != self.topic:
                yield self.before.login, replace(self, entry=None)
            yield Everything.SESSIONS, self
        yield self.topic, self
