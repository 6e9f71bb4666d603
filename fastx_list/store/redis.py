"""The store of several machines: Redis or Valkey, 6.2 or newer, through redis-py.

Every write is one call of the script ``redis.lua``, and so one atomic step. Changes are a stream
whose ids are the revisions. A reader that finds the head as it left it, which is one short
question, has missed nothing; else it reads the stream from where it was, and each entry says which
one it follows, so that a reader of an order that is no longer kept (a server that was emptied, or
took over without the last writes) starts over. Who is asked often leaves a read open that Redis
answers as soon as there is something new: until it has, not even that question is needed.

Keys, all beginning with ``{prefix}:1:``, where 1 is the version of this layout: ``head``,
``changes``, ``sessions`` (id: JSON), ``params`` (id: JSON), ``servers`` (id: JSON), ``revoked``
(jti by expiry), ``clock``, ``expires`` (server by end of its lease), and for each server
``lease:``, ``view:`` (its edition), ``digests:`` (session id: digest and login), ``gone:`` and
``gone-params:``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from fastx_list.model.json import from_json, to_json
from fastx_list.model.params import MAX_PARAMS_DEPTH, is_deeper, merge_params
from fastx_list.model.server import Server, encode_server
from fastx_list.model.session import Session, encode
from fastx_list.store import (
    HISTORY_SECONDS,
    Changes,
    Held,
    Lease,
    OrderLost,
    Record,
    ServerRecord,
    ServerTaken,
    SnapshotNeeded,
    StoreError,
)
from fastx_list.store.redis_address import parse
from fastx_list.store.redis_link import Command, Link, StoreFull, Watch

MAX_CHANGES = 20_000
# How long one waits for a connection to be made, and for each answer, in seconds: a request, and
# everybody else.
QUICK = 0.1, 0.14
PATIENT = 1.0, 5.0
WATCH_SECONDS = 1.0  # until one asks again, though nothing was written
PAGE = 1000  # sessions read at once
TRIES = 100  # to write when others write the same
FULL_SECONDS = 1.0  # until one tries again to write what could not be saved

_SCRIPT = files("fastx_list.store").joinpath("redis.lua").read_text(encoding="utf-8")
_DIGEST = hashlib.sha1(_SCRIPT.encode()).hexdigest()  # what EVALSHA knows a script by
_NO_PARAMS = '"params":{}'  # with quotes that are not escaped it stands in no string

log = logging.getLogger(__name__)


class RedisStore:
    """See :class:`fastx_list.store.Store`. Not for use by several threads at once."""

    def __init__(self, url: str, *, serving: bool = False) -> None:
        self._address = parse(url)
        # Requests wait on one connection, an agent on the other.
        self._quick = Link(self._address, *(QUICK if serving else PATIENT))
        self._patient = Link(self._address, *PATIENT)
        self._watch = Watch(self._address, 0.0, QUICK[1])
        self._watched: int | None = None  # the revision after which the watch sees what is written
        self._prefix = f"{{{self._address.prefix}}}:1:"
        self._head = self._key("head")
        # The last revision that was answered, and the head then
        self._seen: tuple[int, bytes | None] = (-1, None)
        self._look_at = 0.0
        self._malformed: set[str] = set()

    def observe(
        self, server_id: str, sessions: Mapping[str, Session], lease: Lease | None = None
    ) -> str:
        for _ in range(TRIES):
            edition, digests = self._patient.transaction(
                ("GET", self._key("view:" + server_id)),
                ("HGETALL", self._key("digests:" + server_id)),
            )
            known = {
                name.decode(): value.partition(b" ")[0].decode() for name, value in _pairs(digests)
            }
            changed = [
                session
                for name, session in sessions.items()
                if known.pop(name, None) != session.digest
            ]
            status, *rest = self._run(
                self._patient,
                "observe",
                server_id,
                edition or b"",
                *_claim(lease),
                len(changed),
                *(part for session in changed for part in _parts(session)),
                *known,
            )
            if status == b"taken":
                raise ServerTaken(server_id, rest[0].decode())
            self._look_at = 0.0  # this lease may be the first to run out
            if status == b"ok":
                return str(rest[0].decode())
        raise StoreError(
            f"the store, {self._address}, was changed by others again and again while {server_id!r}"
            " was written"
        )

    def edition(self, server_id: str) -> str | None:
        [name] = self._patient.ask(("GET", self._key("view:" + server_id)))
        return None if name is None else str(name.decode())

    def heartbeat(self, server: Server, lease: Lease) -> str | None:
        status, host = self._run(
            self._patient, "heartbeat", server.id, *_claim(lease), encode_server(server)
        )
        if status == b"taken":
            raise ServerTaken(server.id, host.decode())
        self._look_at = 0.0
        return host.decode() or None

    def holder(self, server_id: str) -> Held | None:
        found = [value.decode() for value in self._run(self._quick, "holder", server_id)]
        return Held(found[0], found[1], found[2] or None) if found else None

    def recall(self, server_id: str) -> list[Record]:
        found = self._run(self._patient, "recall", server_id)
        return [record for name, text in _pairs(found) for record in self._record(name, text)]

    def set_params(self, session_id: str, login: str, patch: Mapping[str, Any]) -> str | None:
        for _ in range(TRIES):
            [text] = self._quick.ask(("HGET", self._key("sessions"), session_id))
            found = list(self._record(session_id.encode(), text)) if text is not None else []
            if not found or found[0].login != login:
                return None
            old = str(found[0].text)
            members = json.loads(old)
            params = merge_params(members["params"], patch)
            # As text, for in Python 1 equals true
            if to_json(params) == to_json(members["params"]):
                return old
            new = to_json({**members, "params": params})
            if self._run(self._quick, "params", session_id, old, new, to_json(params)):
                # Who writes reads it at once, whichever of two answers came first
                self._watched = None
                return new
        raise StoreError(
            f"the store, {self._address}, was changed by others again and again while params were"
            " written"
        )

    def revoke(self, jti: str, expires: int) -> None:
        self._run(self._quick, "revoke", jti, expires)
        self._watched = None

    def snapshot(self) -> Changes:
        for _ in range(TRIES):
            self._look()
            try:
                return self._read_all()
            except SnapshotNeeded:  # more was written meanwhile than is kept, or Redis was emptied
                continue
        raise StoreError(f"the store, {self._address}, changes faster than it can be read")

    def _read_all(self) -> Changes:
        """Read the sessions a page at a time, for all at once would keep everybody else waiting;
        then what changed meanwhile."""
        [head] = self._quick.ask(("GET", self._head))
        records: dict[str, Record] = {}
        cursor = b"0"
        while True:
            [[cursor, page]] = self._quick.ask(
                ("HSCAN", self._key("sessions"), cursor, "COUNT", PAGE)
            )
            records.update(
                (record.id, record)
                for name, text in _pairs(page)
                for record in self._record(name, text)
            )
            if cursor == b"0":
                break
        revoked, servers = self._quick.transaction(
            ("ZRANGE", self._key("revoked"), 0, -1, "WITHSCORES"), ("HGETALL", self._key("servers"))
        )
        tokens = {jti.decode(): int(float(expires)) for jti, expires in _pairs(revoked)}
        there = {
            record.id: record
            for name, text in _pairs(servers)
            for record in self._server_record(name, text)
        }
        revision = self._position(head)[0]
        later = self._read_changes(revision, head)
        records.update((record.id, record) for record in later.records)
        there.update((record.id, record) for record in later.servers)
        return Changes(
            later.revision,
            [record for record in records.values() if record.text is not None],
            {**tokens, **later.revoked},
            tuple(record for record in there.values() if record.text is not None),
        )

    def changes(self, revision: int, timeout: float = 0) -> Changes | None:
        now = time.monotonic()
        if (
            not timeout
            and revision == self._watched
            and now < self._look_at
            and self._watch.goes_on()
        ):
            return None
        deadline = now + timeout
        while True:
            self._look()
            [head] = self._quick.ask(("GET", self._head))
            if (revision, head) != self._seen:
                changes = self._read_changes(
                    revision, self._seen[1] if self._seen[0] == revision else None
                )
                if changes.servers:
                    self._look_at = 0.0  # the lease of one of them may be the first to run out
                if changes.revision != revision:
                    return changes
            now = time.monotonic()
            if now >= deadline:
                if not timeout and not (revision == self._watched and self._watch.is_asked):
                    self._watched = revision
                    self._watch.begin(
                        ("GET", self._head),
                        head,
                        self._await(revision, WATCH_SECONDS),
                        WATCH_SECONDS,
                    )
                return None
            wait = max(0.001, min(deadline, self._look_at) - now)
            self._quick.ask(self._await(revision, wait), more=wait)

    def _await(self, revision: int, seconds: float) -> Command:
        """Return what Redis answers once anything is written after ``revision``, or after so many
        seconds."""
        return (
            "XREAD",
            "COUNT",
            1,
            "BLOCK",
            round(seconds * 1000) or 1,
            "STREAMS",
            self._key("changes"),
            f"{revision}-0",
        )

    def _read_changes(self, revision: int, head_then: bytes | None) -> Changes:
        """Read what followed ``revision``; ``head_then`` is the head that was read with it, if that
        is known."""
        head, entries = self._quick.transaction(
            ("GET", self._head), ("XRANGE", self._key("changes"), f"({revision}-0", "+")
        )
        current, tip = self._position(head)
        fields = [dict(_pairs(values)) for _, values in entries]
        follows = fields[0].get(b"p") if fields else tip
        is_complete = len(entries) == current - revision
        if current < revision or (
            is_complete and head_then is not None and follows != self._position(head_then)[1]
        ):
            raise OrderLost
        if not is_complete:
            raise SnapshotNeeded
        changes = self._decode(current, fields)
        self._seen = current, head
        return changes

    def _decode(self, revision: int, entries: Iterable[Mapping[bytes, bytes]]) -> Changes:
        records: dict[str, Record] = {}
        servers: dict[str, ServerRecord] = {}
        revoked: dict[str, int] = {}
        for entry in entries:
            try:
                for record in self._change(entry):
                    records.pop(record.id, None)  # it stands where it was last changed
                    records[record.id] = record
                if b"m" in entry:
                    for server in self._server_record(entry[b"m"], entry.get(b"d")):
                        servers.pop(server.id, None)
                        servers[server.id] = server
                if b"j" in entry:
                    revoked[entry[b"j"].decode()] = int(entry[b"e"])
            except (ValueError, KeyError) as error:
                self._report(
                    "change",
                    b" ".join(part for pair in entry.items() for part in pair)[:200],
                    error,
                )
        return Changes(revision, list(records.values()), revoked, tuple(servers.values()))

    def _change(self, entry: Mapping[bytes, bytes]) -> Iterator[Record]:
        if b"d" in entry and b"s" in entry:
            yield from self._record(entry[b"s"], entry[b"d"])
        elif b"s" in entry:
            yield Record(entry[b"s"].decode(), entry[b"l"].decode(), entry[b"v"].decode(), None)

    def _record(self, name: bytes, text: bytes) -> Iterator[Record]:
        """Yield the session, unless what Redis holds is none: then it is reported once and left
        out."""
        try:
            members = _members(text)
            session_id, login, server_id, _ = own = [
                members[each] for each in ("id", "login", "serverId", "hostname")
            ]
            if not all(isinstance(each, str) for each in own) or not isinstance(
                members["params"], dict
            ):
                raise ValueError(
                    "its id, login, serverId and hostname are to be texts, and its params an object"
                )
            if session_id.encode() != name:
                raise ValueError("it is another one")
            yield Record(session_id, login, server_id, text.decode())
        except (ValueError, KeyError, RecursionError) as error:
            self._report("session", name, error)

    def _server_record(self, name: bytes, text: bytes | None) -> Iterator[ServerRecord]:
        try:
            if text is not None and _members(text)["id"] != name.decode():
                raise ValueError("it is another one")
            yield ServerRecord(name.decode(), None if text is None else text.decode())
        except (ValueError, KeyError, RecursionError) as error:
            self._report("server", name, error)

    def _report(self, what: str, name: bytes, error: Exception) -> None:
        shown = repr(name.decode(errors="replace"))
        if shown not in self._malformed:
            self._malformed.add(shown)
            log.error(
                "the store, %s, holds as %s %s what is none, which is left out: %r",
                self._address,
                what,
                shown,
                error,
            )

    def _look(self) -> None:
        """Carry out the ends of leases, when it is time to."""
        if time.monotonic() < self._look_at:
            return
        try:
            again = self._run(self._quick, "look") / 1000
        except StoreFull:  # which takes no new state but can still be read
            again = FULL_SECONDS
        self._look_at = time.monotonic() + again

    def _run(self, link: Link, step: str, *arguments: str | bytes | int) -> Any:
        """Call the script."""
        values = self._head, step, secrets.token_hex(8), MAX_CHANGES, HISTORY_SECONDS, *arguments
        try:
            return link.ask(("EVALSHA", _DIGEST, 1, *values))[0]
        except NoScriptError:
            return link.ask(("EVAL", _SCRIPT, 1, *values))[0]

    def _position(self, head: bytes | None) -> tuple[int, bytes]:
        """Return the revision that ``head`` is at, and the name of the step that made it."""
        if head is None:
            return 0, b""
        revision, _, name = head.partition(b" ")
        if not revision.isdigit():
            raise StoreError(
                f"the store, {self._address}, holds at {self._head!r} what it has not written;"
                " remove that key"
            )
        return int(revision), name

    def _key(self, name: str) -> str:
        return self._prefix + name

    def close(self) -> None:
        self._quick.close()
        self._patient.close()
        self._watch.close()


def _pairs(values: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(values[::2], values[1::2], strict=True)


def _members(text: bytes) -> dict[str, Any]:
    """Return the members of the JSON object ``text``; raises ``ValueError`` or ``RecursionError``
    if it is none that is sound."""
    members = from_json(text)
    if not isinstance(members, dict) or is_deeper(members, MAX_PARAMS_DEPTH + 1):
        raise ValueError("it is no object, or nested too deep")
    return members


def _claim(lease: Lease | None) -> tuple[str | int, ...]:
    if lease is None:
        return "", "", "", 0
    return lease.holder, lease.instance, lease.host, max(1, round(lease.seconds * 1000))


def _parts(session: Session) -> tuple[str, ...]:
    before, _, after = encode(session, {}).partition(_NO_PARAMS)
    return (
        session.id,
        session.login,
        session.digest,
        before + '"params":',
        after,
        to_json(session.params),
    )
