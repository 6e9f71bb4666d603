"""What a store holds, read with care: anybody may have written it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from fastx_list.model.event import Event
from fastx_list.model.json import to_json
from fastx_list.model.params import MAX_PARAMS_DEPTH, is_deeper, merge_params
from fastx_list.model.past import Past
from fastx_list.model.server import check_server
from fastx_list.model.session import PLAIN, check_session
from fastx_list.store import Changes, Record, Revision, ServerRecord

MAX_BYTES = 256 * 1024  # of a session or a server, several times what one can have
MAX_DIGITS = 16  # of a number
MAX_NAMES_TOLD, MAX_NAME_TOLD = 20, 32  # in an event: of params, and their characters
FOREVER = 2**53  # an expiry in seconds that no token outlives

log = logging.getLogger(__name__)


class Records:
    """Decodes what is read of one store. What is no session, server, change or revoked token is
    reported once and left out."""

    def __init__(self, where: object) -> None:
        self._where = where  # where the store is, for people
        self._reported: set[str] = set()  # the names of what was left out

    def sessions(self, rows: Iterable[tuple[object, object, object, object]]) -> Iterator[Record]:
        """Yield the sessions whose ids, logins, servers and JSON these are, or their ends where
        there is no JSON."""
        for name, login, server_id, text in rows:
            plain = PLAIN.fullmatch(text) if isinstance(text, str) else None
            # As it is as a rule
            if plain is not None and plain[1] == name and len(plain.string) <= MAX_BYTES:
                yield Record(plain[1], plain[2], plain[3], plain.string)
            elif text is None:
                yield from self.ended(name, login, server_id)
            else:
                yield from self.session(name, text)

    def session(self, name: object, text: object) -> Iterator[Record]:
        """Yield the session ``name`` whose JSON is ``text``."""
        try:
            session_id, written = _text(name), _text(text)
            plain = PLAIN.fullmatch(written)
            if plain is not None and plain[1] == session_id and len(written) <= MAX_BYTES:
                yield Record(session_id, plain[2], plain[3], written)
                return
            members, found = _members(written)
            check_session(members)
            if members["id"] != session_id or "params" not in members:
                raise ValueError("it is another one, or has no params")
            yield Record(members["id"], members["login"], members["serverId"], found)
        except (ValueError, KeyError, RecursionError) as error:
            self._report("session", name, error)

    def ended(self, name: object, login: object, server_id: object) -> Iterator[Record]:
        """Yield the end of the session ``name``."""
        try:
            yield Record(_text(name), _text(login), _text(server_id), None)
        except ValueError as error:
            self._report("session", name, error)

    def server(self, name: object, text: object) -> Iterator[ServerRecord]:
        """Yield the server ``name`` whose JSON is ``text``; ``None``: it has gone."""
        try:
            server_id, found = _text(name), None
            if text is not None:
                members, found = _members(text)
                check_server(members)
                if members["id"] != server_id:
                    raise ValueError("it is another one")
            yield ServerRecord(server_id, found)
        except (ValueError, KeyError, RecursionError) as error:
            self._report("server", name, error)

    def revoked(self, jti: object, expires: object) -> Iterator[tuple[str, int]]:
        """Yield the token ``jti`` that is revoked, and until when. An end of time that is none is
        later than any, so that no token comes to life by it."""
        try:
            name = _text(jti)
            try:
                until = (
                    float(expires) if isinstance(expires, (bytes, str, int, float)) else math.inf
                )
            except (ValueError, OverflowError):
                until = math.inf
            yield name, int(until) if 0 <= until < FOREVER else FOREVER
        except ValueError as error:
            self._report("revoked token", jti, error)

    def params(self, name: object, text: object) -> dict[str, Any] | None:
        """Return the params of the session ``name`` whose JSON is ``text``, if they are sound."""
        try:
            return _members(text)[0]
        except (ValueError, RecursionError) as error:
            self._report("params of session", name, error)
            return None

    def changes(
        self,
        revision: Revision,
        entries: Iterable[Mapping[bytes, bytes]],
        steps: Sequence[str],
        more: bool,
        kept_from: int,
    ) -> Changes:
        """Return what ``entries`` of the stream, the last of which is ``revision``, say in all."""
        records: dict[str, Record] = {}
        servers: dict[str, ServerRecord] = {}
        revoked: dict[str, int] = {}
        for entry in entries:
            try:
                for record in self._changed_session(entry):
                    records.pop(record.id, None)  # it stands where it was last changed
                    records[record.id] = record
                if b"m" in entry:
                    for server in self.server(entry[b"m"], entry.get(b"d")):
                        servers.pop(server.id, None)
                        servers[server.id] = server
                if b"j" in entry:
                    revoked[_text(entry[b"j"])] = whole(entry[b"e"])
            except (ValueError, KeyError) as error:
                name = b" ".join(part for pair in entry.items() for part in pair)
                self._report("change", name, error)
        there = tuple(servers.values())
        return Changes(revision, list(records.values()), revoked, there, steps, more, kept_from)

    def _changed_session(self, entry: Mapping[bytes, bytes]) -> Iterator[Record]:
        if b"d" in entry and b"s" in entry:
            yield from self.session(entry[b"s"], entry[b"d"])
        elif b"s" in entry:
            yield from self.ended(entry[b"s"], entry[b"l"], entry[b"v"])

    def past(self, name: object, past: Past | None) -> Iterator[Past]:
        """Yield the ``past`` of the session ``name``, of which ``None`` was not sound."""
        if past is None:
            self._report("past of session", name, ValueError("it is not sound"))
        else:
            yield past

    def event(
        self, event_id: str, at: object, what: object, about: Sequence[object], more: object
    ) -> Iterator[Event]:
        """Yield an event: see :func:`event_of`."""
        try:
            yield event_of(event_id, at, what, about, more)
        except (ValueError, RecursionError) as error:
            self._report("event", event_id, error)

    def _report(self, what: str, name: object, error: Exception) -> None:
        shown = repr(readable(name)[:200])
        if shown not in self._reported and len(self._reported) < 1000:
            self._reported.add(shown)
            log.error(
                "the store, %s, holds as %s %s what is none, which is left out: %r",
                self._where,
                what,
                shown,
                error,
            )


class WithParams(NamedTuple):
    """A session whose params were set."""

    text: str  # its JSON
    params: str  # that of its params
    names: list[str]  # of those that have changed, as far as an event tells of them


def with_params(text: str, patch: Mapping[str, Any]) -> WithParams | None:
    """Return what the session with the JSON ``text`` becomes with ``patch`` merged into its params;
    ``None`` if that changes nothing. Raises :class:`fastx_list.model.params.ParamsError`."""
    members = json.loads(text)
    before, params = members["params"], merge_params(members["params"], patch)
    # As text, for in Python 1 equals true
    names = [
        name
        for name in sorted({*before, *params})
        if (name in before) != (name in params)
        or to_json(before.get(name)) != to_json(params.get(name))
    ]
    if not names:
        return None
    return WithParams(to_json({**members, "params": params}), to_json(params), _told(names))


def _told(names: list[str]) -> list[str]:
    """Return what an event says of ``names``, of each the beginning: who sets long ones again and
    again is not to fill the store with them."""
    return [name[:MAX_NAME_TOLD] for name in names[:MAX_NAMES_TOLD]]


def params_of(record: Record) -> str:
    """Return the JSON of the params of a session that runs."""
    return to_json(json.loads(str(record.text))["params"])


def pairs(values: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and values that Redis answers one after the other."""
    return zip(values[::2], values[1::2], strict=True)


def readable(value: object) -> str:
    """Return what people can read of a value that should be text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def whole(text: bytes) -> int:
    """Return the whole number that is written so; raises ``ValueError``."""
    if not text.isdigit() or len(text) > MAX_DIGITS:
        raise ValueError("it is no whole number, or too large")
    return int(text)


def past_of(numbers: Sequence[object], addresses: object) -> Past | None:
    """Return the past with these numbers, in their order, and with the JSON of the addresses;
    ``None`` if it is none that is sound."""
    try:
        began, ended, connected, since, clients, started, came, left = map(_number, numbers)
        found = _decode(_text(addresses))
        if began is None or connected is None or not isinstance(found, list):
            return None
        known = tuple(map(_text, found))
        return Past(began, ended, connected, since, clients, started, came, left, known)
    except (ValueError, RecursionError):
        return None


def event_of(
    event_id: str, at: object, what: object, about: Sequence[object], more: object
) -> Event:
    """Return the event that is ``about`` a session, a login and a server, each of which may be
    ``None``, and says ``more``, in JSON; raises ``ValueError`` or ``RecursionError`` if it is none
    that is sound."""
    session_id, login, server_id = (None if each is None else _text(each) for each in about)
    members = _members(more)[0] if more else {}
    when = _number(at)
    if when is None:
        raise ValueError("it does not say when")
    return Event(event_id, when, _text(what), session_id, login, server_id, members)


def _number(value: object) -> int | None:
    """Return a whole number that is not negative, or none; raises ``ValueError``."""
    if value is not None and (not isinstance(value, int) or not 0 <= value < 10**MAX_DIGITS):
        raise ValueError("it is no whole number, or too large")
    return value


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise ValueError(f"it is no text but {type(value).__name__}")
    return value


def _members(value: object) -> tuple[dict[str, Any], str]:
    """Return the members of the JSON object ``value``, and its text; raises ``ValueError`` or
    ``RecursionError`` if it is none that is sound."""
    text = _text(value)
    if len(text) > MAX_BYTES:
        raise ValueError(f"it is over {MAX_BYTES} bytes")
    members = _decode(text)
    may_be_deep = text.count("{") + text.count("[") > MAX_PARAMS_DEPTH + 1
    if not isinstance(members, dict) or (may_be_deep and is_deeper(members, MAX_PARAMS_DEPTH + 1)):
        raise ValueError("it is no object, or nested too deep")
    if "\\u" in text:  # half a pair of surrogates, which could not be written again
        to_json(members).encode()
    return members, text


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no number")


_decode = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).decode
