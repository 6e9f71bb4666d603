"""What is remembered of a session while it runs and once it has ended: when it began, for how long
clients were connected, and from where. All times are milliseconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

from fastx_list.model.addresses import MAX_ADDRESSES
from fastx_list.model.json import to_json
from fastx_list.model.member import Member, declared, writing_schema
from fastx_list.model.session import MILLISECONDS, Session

# Clients that come, and that leave, of which one change of a session tells each; who registers a
# session may say any number
MAX_TOLD = 20


@dataclass(frozen=True)
class Past:
    """The past of one session."""

    began: int  # when it was started, or else first seen
    ended: int | None = None  # None while it runs
    connected: int = 0  # for how many ms clients were connected, up to ``since``
    since: int | None = None  # when the first of those came that are connected
    # As they were when this was last written
    clients: int | None = None
    started: int | None = None
    last_connect: int | None = None
    last_disconnect: int | None = None
    addresses: tuple[str, ...] = ()  # of all clients that there were


class Visits(NamedTuple):
    """How many clients have come, and how many have left, as far as each is told of."""

    came: int = 0
    left: int = 0


def begin(session: Session, now: int) -> tuple[Past, Visits]:
    """Return the past of a session that is written for the first time. When the clients of one came
    that was found late nobody knows."""
    began = now if session.started is None else session.started
    past = _seen(Past(began), session, now, by=0)
    came = session.clients or 0 if session.last_connect is not None else 0
    return past, Visits(came=min(came, MAX_TOLD))


def go_on(past: Past, session: Session, now: int) -> tuple[Past, Visits]:
    """Return the past of a session that has changed, or is there again."""
    set_by = _set_by(past, session)
    began = min(past.began, now) if session.started is None else session.started
    visits = _visits(past, session, bool(set_by))
    return _seen(replace(past, began=began, ended=None), session, now, set_by), visits


def _set_by(past: Past, session: Session) -> int:
    """Return by how many ms the clock was set since ``past``, by which an agent moves all that it
    has seen: that may be no start."""
    started = _moved(past.started, session.started)
    came = _moved(past.last_connect, session.last_connect)
    left = _moved(past.last_disconnect, session.last_disconnect)
    # Who takes another's place within a look has come when that one left
    are_apart = past.last_connect != past.last_disconnect and left == came
    has_none_left = past.last_disconnect is session.last_disconnect is None
    is_no_visit = session.clients == past.clients and (are_apart or has_none_left)
    return started or (came if is_no_visit else 0)


def _moved(before: int | None, after: int | None) -> int:
    return 0 if before is None or after is None else after - before


def connected(past: Past, now: int) -> int:
    """Return for how many ms clients were connected until ``now``."""
    return past.connected + (0 if past.since is None else max(0, now - past.since))


def _seen(past: Past, session: Session, now: int, by: int) -> Past:
    clients = past.clients if session.clients is None else session.clients
    since, time = past.since, past.connected
    if since is not None:
        since = min(since + by, now)  # a clock may have been set back
    if clients and since is None:
        since = now
    elif not clients and since is not None:
        time, since = time + max(0, now - since), None
    return replace(
        past,
        connected=time,
        since=since,
        clients=clients,
        started=session.started,
        last_connect=session.last_connect,
        last_disconnect=session.last_disconnect,
        addresses=_joined(past.addresses, addresses_of(session)),
    )


def _visits(past: Past, session: Session, is_set: bool) -> Visits:
    if session.clients is None or past.clients is None:
        return Visits()
    more = session.clients - past.clients
    # One that takes another's place within a look; a clock that is set moves both times, too
    changed = not is_set and (
        session.last_connect != past.last_connect,
        session.last_disconnect != past.last_disconnect,
    ) == (True, True)
    both = 1 if changed else 0
    came, left = max(more, 0) + both, max(-more, 0) + both
    return Visits(min(came, MAX_TOLD), min(left, MAX_TOLD))


def addresses_of(session: Session) -> tuple[str, ...]:
    """Return where the clients of a session are that are connected, as far as that is known."""
    return session.client_addresses or ()


def _joined(known: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*known, *more]))[:MAX_ADDRESSES]


@dataclass(frozen=True, kw_only=True)
class Course:
    """What history says of a session beside its last state."""

    began: Annotated[
        int, Member("began", "Began", "when it was started, or first seen", unit=MILLISECONDS)
    ]
    ended: Annotated[
        int | None, Member("ended", "Ended", "when it ended, null while it runs", unit=MILLISECONDS)
    ]
    connected_seconds: Annotated[
        int,
        Member("connectedSeconds", "Connected", "for how long clients were connected", "seconds"),
    ]
    addresses: Annotated[
        tuple[str, ...], Member("addresses", "Addresses", "where its clients came from")
    ]


CourseSchema = writing_schema(Course)
_NAMES = [(each.member.name, each.attribute) for each in declared(Course)]


def encode_past(text: str, past: Past, now: int) -> str:
    """Return the JSON that history has of a session whose last state is the JSON ``text``."""
    course = Course(
        began=past.began,
        ended=past.ended,
        connected_seconds=connected(past, now) // 1000,
        addresses=past.addresses,
    )
    # As the schema would write it, which takes half of the time that a page does
    said = to_json({name: getattr(course, attribute) for name, attribute in _NAMES})
    return f"{text[:-1]},{said[1:]}"
