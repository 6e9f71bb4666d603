"""The store of several machines: Redis or Valkey, 6.2 or newer, through redis-py.

Every write is one call of the script ``redis.lua``, and so one atomic step.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

from fastx_list.model.json import to_json
from fastx_list.model.server import Server, encode_server
from fastx_list.model.session import Session, encode
from fastx_list.store import (
    Changes,
    EditionLost,
    Held,
    Lease,
    Record,
    Revision,
    ServerTaken,
    StoreError,
)
from fastx_list.store.archive import KEEP_SECONDS
from fastx_list.store.division import at_once, divide, parts
from fastx_list.store.records import Records, pairs, params_of, readable, with_params
from fastx_list.store.redis_address import Address
from fastx_list.store.redis_link import Link
from fastx_list.store.redis_past import RedisArchive, texts_of_past
from fastx_list.store.redis_reader import Reader
from fastx_list.store.redis_script import Script
from fastx_list.store.redis_watch import Watch

# How long one waits for a connection to be made, and for each answer, in seconds: a request, and
# everybody else.
QUICK = 0.1, 0.14
PATIENT = 1.0, 5.0
TRIES = 100  # to write when others write the same

_NO_PARAMS = '"params":{}'  # with quotes that are not escaped it stands in no string


class RedisStore:
    """See :class:`fastx_list.store.Store`. Not for use by several threads at once."""

    def __init__(
        self, address: Address, *, serving: bool = False, keep: float = KEEP_SECONDS
    ) -> None:
        """See :func:`fastx_list.store.open_store`; the past is kept for ``keep`` seconds."""
        self._address = address  # where the store is
        self._link_times = QUICK if serving else PATIENT
        self._quick = Link(self._address, *self._link_times)  # requests wait on it
        self._patient = Link(self._address, *PATIENT)  # an agent waits on it
        self._watch = Watch(self._address, 0.0, QUICK[1])  # what the reader leaves open
        self._script = Script(self._address.prefix, keep)  # every write, and the keys
        self._records = Records(self._address)  # decodes what is read
        self.archive = RedisArchive(self._script, self._records, self._quick)
        self._reader = Reader(  # everything that is followed
            self._address, self._script, self._records, self._quick, self._watch
        )

    def observe(
        self, server_id: str, sessions: Mapping[str, Session], lease: Lease | None = None
    ) -> str:
        for _ in range(TRIES):
            edition, digests = self._patient.transaction(
                ("GET", self._edition_key(server_id)),
                ("HGETALL", self._script.key("digests:" + server_id)),
            )
            # Whatever else stands there is no session's, and ends
            stored = {
                name.decode(errors="surrogateescape"): readable(value.partition(b" ")[0])
                for name, value in pairs(digests)
            }
            for part in parts(stored, sessions):
                now, lines = round(time.time() * 1000), self._past_lines(part.changed)
                status, *rest = self._script.run(
                    self._patient,
                    "observe",
                    server_id,
                    edition or b"",
                    *_claim(lease),
                    int(part.is_last),
                    len(part.changed),
                    *(
                        each
                        for session, line in zip(part.changed, lines, strict=True)
                        for each in (*_texts(session), *texts_of_past(session, line, now))
                    ),
                    *(name.encode(errors="surrogateescape") for name in part.ended),
                )
                if status == b"taken":
                    raise ServerTaken(server_id, readable(rest[0]))
                self._reader.expect_ends()
                if status != b"ok":
                    break
                [edition] = rest
            else:
                return readable(edition)
        raise StoreError(
            f"the store, {self._address}, was changed by others again and again while {server_id!r}"
            " was written"
        )

    def _past_lines(self, sessions: Sequence[Session]) -> list[bytes | None]:
        """Return what the store has of the past of these sessions. It stays so for as long as the
        edition of their server is the same."""
        if not sessions:
            return []
        names = (session.id for session in sessions)
        return list(self._patient.ask(("HMGET", self._script.key("past"), *names))[0])

    def edition(self, server_id: str) -> str | None:
        [name] = self._patient.ask(("GET", self._edition_key(server_id)))
        return None if name is None else readable(name)

    def heartbeat(self, server: Server, lease: Lease, edition: str | None = None) -> str | None:
        status, host = self._script.run(
            self._patient,
            "heartbeat",
            server.id,
            *_claim(lease),
            encode_server(server),
            edition or "",
        )
        if status == b"lost":
            raise EditionLost(server.id)
        if status == b"taken":
            raise ServerTaken(server.id, readable(host))
        self._reader.expect_ends()
        return readable(host) or None

    def holder(self, server_id: str) -> Held | None:
        found = [readable(value) for value in self._script.run(self._quick, "holder", server_id)]
        return Held(found[0], found[1], found[2] or None) if found else None

    def recall(self, server_id: str) -> list[Record]:
        found = self._script.run(self._patient, "recall", server_id)
        return [
            record for name, text in pairs(found) for record in self._records.session(name, text)
        ]

    def remembered(self) -> list[Record]:
        [servers] = self._patient.ask(("ZRANGE", self._script.key("remembered"), 0, -1))
        gone = self._script.key("gone:").encode()
        return [
            record
            for server in servers
            for name, text in pairs(self._patient.ask(("HGETALL", gone + server))[0])
            for record in self._records.session(name, text)
        ]

    def remember(self, records: Sequence[Record]) -> int:
        count = 0
        for some in divide(records):
            texts = ((each.id, each.server_id, str(each.text), params_of(each)) for each in some)
            flat = (each for four in texts for each in four)
            count += self._script.run(self._patient, "remember", *flat)
        return count

    def set_params(self, session_id: str, login: str, patch: Mapping[str, Any]) -> str | None:
        for _ in range(TRIES):
            [text] = self._quick.ask(("HGET", self._script.key("sessions"), session_id))
            found = (
                list(self._records.session(session_id.encode(), text)) if text is not None else []
            )
            if not found or found[0].login != login:
                self._reader.distrust_watch()  # which is not told that Redis was emptied
                return None
            old = str(found[0].text)
            new = with_params(old, patch)
            if new is None:
                return old
            about = login, found[0].server_id, to_json({"names": new.names})
            texts = old, new.text, new.params
            if self._script.run(self._quick, "params", session_id, *texts, *about):
                self._reader.distrust_watch()
                return new.text
        raise StoreError(
            f"the store, {self._address}, was changed by others again and again while params were"
            " written"
        )

    def revoke(self, tokens: Mapping[str, int]) -> int:
        count = 0
        with closing(Link(self._address, *self._link_times)) as this_threads:
            for some in divide(list(tokens.items())):
                words = (part for token in some for part in token)
                count += int(self._script.run(this_threads, "revoke", *words))
        self._reader.distrust_watch()
        return count

    @property
    def overdue(self) -> Sequence[str]:
        return self._reader.beats.overdue

    @property
    def renewed(self) -> Mapping[str, float]:
        return self._reader.beats.renewed

    def end_leases(self) -> None:
        self._script.run(self._quick, "end_leases")

    def snapshot(self) -> Changes:
        return at_once(self._reader.read_all)

    def read_all(self) -> Generator[None, None, Changes]:
        return self._reader.read_all()

    def changes(self, revision: Revision, timeout: float = 0) -> Changes | None:
        return self._reader.changes(revision, timeout)

    def close(self) -> None:
        self._quick.close()
        self._patient.close()
        self._watch.close()

    def _edition_key(self, server_id: str) -> str:
        return self._script.key("view:" + server_id)


def _claim(lease: Lease | None) -> tuple[str | int, ...]:
    if lease is None:
        return "", "", "", 0
    return lease.holder, lease.instance, lease.host, max(1, round(lease.seconds * 1000))


def _texts(session: Session) -> tuple[str, ...]:
    before, _, after = encode(session, {}).partition(_NO_PARAMS)
    return (
        session.id,
        session.login,
        session.digest,
        before + '"params":',
        after,
        to_json(session.params),
    )
