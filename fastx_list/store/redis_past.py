"""The past of sessions, and the events, in Redis. See :mod:`fastx_list.store.archive`.

Keys: ``past`` (id: see :func:`encode_line`), ``past-texts`` (id: JSON of the last state, once it
has ended), ``past-places`` and ``past-places:LOGIN`` (id by place), ``past-kept`` (id by when it
ended, by the store's clock), and ``events``, a stream: ``n`` is the name of the step, ``w`` what
has happened, ``k`` and ``a`` when, by the store's clock and by the machine's, ``s``, ``l`` and
``v`` the session, login and server that it is about, and ``m`` what else is to be said.
``events-of:LOGIN`` has the ids of a login's events, and ``events-dropped`` that of the last one
that was one too many of a login. What the script does with them is in ``redis_past.lua``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from fastx_list.model.event import Event, What
from fastx_list.model.json import to_json
from fastx_list.model.past import Past, addresses_of, begin, go_on
from fastx_list.model.session import Session
from fastx_list.store.archive import (
    EVERY_EVENT,
    Ended,
    EventPage,
    EventSpan,
    PastRecord,
    Span,
    bounds,
    place,
)
from fastx_list.store.division import divide
from fastx_list.store.records import Records, pairs, past_of, readable, whole
from fastx_list.store.redis_link import Link
from fastx_list.store.redis_script import Script

_NONE = b"-"


class RedisArchive:
    """See :class:`fastx_list.store.archive.Archive`."""

    def __init__(self, script: Script, records: Records, link: Link) -> None:
        self._script = script  # every write, and the keys
        self._records = records  # checks what is read
        self._link = link  # to Redis

    def find(self, span: Span, start: int, limit: int, last_first: bool) -> list[str]:
        since, until = bounds(span)
        command, *ends = ("ZRANGEBYSCORE", str(since), f"({until}")
        if last_first:
            command, *ends = ("ZREVRANGEBYSCORE", f"({until}", str(since))
        [ids] = self._link.ask((command, self._places(span), *ends, "LIMIT", start, limit))
        return [readable(name) for name in ids]

    def count(self, span: Span) -> int | None:
        since, until = bounds(span)
        [count] = self._link.ask(("ZCOUNT", self._places(span), since, f"({until}"))
        return int(count)

    def _places(self, span: Span) -> str:
        return self._script.key("past-places" + ("" if span.login is None else f":{span.login}"))

    def read(self, ids: Sequence[str]) -> list[PastRecord]:
        if not ids:
            return []
        lines, running, ended = self._link.ask(
            *(
                ("HMGET", self._script.key(name), *ids)
                for name in ("past", "sessions", "past-texts")
            )
        )
        found: list[PastRecord] = []
        for name, line, now, last in zip(ids, lines, running, ended, strict=True):
            text = now if now is not None else last
            if line is not None and text is not None:
                found += [
                    PastRecord(record.id, str(record.text), past)
                    for past in self._records.past(name, decode_line(line))
                    for record in self._records.session(name, text)
                ]
        return found

    def ages(self, ids: Sequence[str]) -> list[Ended]:
        if not ids:
            return []
        kept, now = self._link.transaction(
            ("ZMSCORE", self._script.key("past-kept"), *ids),
            ("HGET", self._script.key("clock"), "now"),
        )
        since = dict(zip(ids, kept, strict=True))
        return [
            Ended(record, max(0.0, (whole(now) - float(since[record.id])) / 1000))
            for record in self.read(ids)
            if since[record.id] is not None and record.past.ended
        ]

    def add(self, sessions: Sequence[Ended]) -> int:
        count = 0
        for some in divide(sessions):
            texts = (
                (
                    *(record.id, login, encode_line(record.past, login), str(record.past.ended)),
                    *(str(round(age * 1000)), record.text),
                )
                for record, age in some
                for login in (record.login,)
            )
            flat = (each for six in texts for each in six)
            count += int(self._script.run(self._link, "add_past", *flat))
        return count

    def erase(self, login: str) -> int:
        count, more = 0, 1
        while more:
            more = int(self._script.run(self._link, "erase_past", login))
            count += more
        cursor = b"-"
        while cursor:
            cursor = self._script.run(self._link, "erase_events", login, cursor)
        return count

    def events(self, after: str | None, limit: int, span: EventSpan = EVERY_EVENT) -> EventPage:
        where, _, name = (after or "").rpartition("-")
        key = self._script.key("events")
        if after is not None and not _is_id(where):
            return self.events(None, limit, span)._replace(has_gap=True)
        theirs, last = [], b""
        if span.login is not None:  # first, so that it is noticed what is dropped meanwhile
            theirs, last = self._script.run(
                self._link,
                "events_of",
                span.login,
                *_between(span, where),
                limit,
                int(span.last_first),
            )
        at, rest, first, dropped, found = self._link.transaction(
            ("XRANGE", key, where or "-", where or "-"),
            ("XRANGE", key, f"({where}" if where else "-", "+", "COUNT", 1),
            ("XRANGE", key, "-", "+", "COUNT", 1),
            ("GET", self._script.key("events-dropped")),
            _range(key, span, where, limit if span.login is None else 0),
        )
        if span.login is None:
            last = found[-1][0] if found and len(found) == limit else b""
        else:
            found = theirs
        is_there = bool(at) and readable(dict(pairs(at[0][1])).get(b"n")) == name
        is_lost = after is not None and not is_there and not (rest and first[0] != rest[0])
        is_lost = is_lost or (after is not None and _is_before(where, readable(dropped or b"")))
        events = [event for entry in found for event in self._event(*entry)]
        goes_on = f"{readable(last)}-" if last else None
        return EventPage(events, is_lost and not span.last_first, goes_on)

    def noted(self) -> int:
        key = self._script.key("events")
        if self._link.ask(("EXISTS", key)) == [0]:
            return 0
        [found] = self._link.ask(("XINFO", "STREAM", key))
        told = dict(pairs(found))
        return int(told.get(b"entries-added", told[b"length"]))  # not before Redis 7

    def last_event(self) -> str | None:
        [entries] = self._link.ask(("XREVRANGE", self._script.key("events"), "+", "-", "COUNT", 1))
        return next((event.id for entry in entries for event in self._event(*entry)), None)

    def _event(self, entry_id: bytes, values: list[bytes]) -> Iterator[Event]:
        fields, event_id = dict(pairs(values)), readable(entry_id)
        at: int | None = None
        with suppress(ValueError, KeyError):  # anybody may have written it
            event_id = f"{event_id}-{fields[b'n'].decode()}"
            at = whole(fields[b"a"])
        about = [fields.get(name) for name in (b"s", b"l", b"v")]
        yield from self._records.event(event_id, at, fields.get(b"w"), about, fields.get(b"m"))

    def note(
        self, what: What, login: str | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        said = to_json(more) if more else ""
        self._script.run(self._link, "note", what.value, login or "", said)


def _between(span: EventSpan, where: str) -> tuple[str, str]:
    """Return after and before which ids in the stream the events of ``span`` are, from ``where``
    on; of each side there may be none."""
    low = "" if span.since is None else f"{span.since}-0"
    high = "" if span.until is None else f"{span.until}-0"
    return (low, where or high) if span.last_first else (where or low, high)


def _range(key: str, span: EventSpan, where: str, limit: int) -> tuple[str | int, ...]:
    low, high = _between(span, where)
    ends = f"({low}" if low else "-", f"({high}" if high else "+"
    if span.last_first:
        return ("XREVRANGE", key, *reversed(ends), "COUNT", limit)
    return ("XRANGE", key, *ends, "COUNT", limit)


def texts_of_past(session: Session, line: bytes | None, now: int) -> tuple[str, str, str, str]:
    """Return what the script takes of the past of a session that has changed, which was ``line``:
    its new one, its place, what its clients did, and what is said of those."""
    before = decode_line(line)
    past, visits = begin(session, now) if before is None else go_on(before, session, now)
    begins = before is None or before.ended is not None
    return (
        encode_line(past, session.login),
        str(place(past)),
        f"{begins:d} {visits.left} {visits.came}",
        to_json({"clients": session.clients, "addresses": addresses_of(session)}),
    )


def encode_line(past: Past, login: str) -> str:
    """Return the past of a session of ``login`` as the store has it."""
    numbers = (
        *(past.began, past.ended, past.connected, past.since, past.clients, past.started),
        *(past.last_connect, past.last_disconnect),
    )
    words = ("-" if number is None else str(number) for number in numbers)
    return f"{' '.join(words)} {to_json(past.addresses)}\n{login}"


def decode_line(line: bytes | None) -> Past | None:
    """Return the past that ``line`` says; ``None`` if it says none."""
    with suppress(ValueError):  # anybody may have written it
        *numbers, addresses = (line or b"").partition(b"\n")[0].split(b" ", 8)
        return past_of([_number(number) for number in numbers], addresses)
    return None


def _number(word: bytes) -> int | None:
    return None if word == _NONE else whole(word)


def _is_before(one: str, other: str) -> bool:
    """Return whether one event is before another, both by their ids in the stream."""
    if not _is_id(other):  # nothing was dropped; or anybody may have written it
        return False
    return [*map(int, one.split("-"))] < [*map(int, other.split("-"))]


def _is_id(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,19}-[0-9]{1,19}", text) is not None  # two of 64 bits
