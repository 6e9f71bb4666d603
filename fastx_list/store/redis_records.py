"""What Redis holds, read with care: anybody may have written it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastx_list.model.json import from_json
from fastx_list.model.params import MAX_PARAMS_DEPTH, is_deeper
from fastx_list.store import Changes, Record, ServerRecord
from fastx_list.store.redis_address import Address

log = logging.getLogger(__name__)


class Records:
    """Decodes what is read of one store. What is no session, server or change is reported once and
    left out."""

    def __init__(self, address: Address) -> None:
        self._address = address  # where the store is
        self._reported: set[str] = set()  # the names of what was left out

    def session(self, name: bytes, text: bytes) -> Iterator[Record]:
        """Yield the session ``name`` whose JSON is ``text``."""
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

    def server(self, name: bytes, text: bytes | None) -> Iterator[ServerRecord]:
        """Yield the server ``name`` whose JSON is ``text``."""
        try:
            if text is not None and _members(text)["id"] != name.decode():
                raise ValueError("it is another one")
            yield ServerRecord(name.decode(), None if text is None else text.decode())
        except (ValueError, KeyError, RecursionError) as error:
            self._report("server", name, error)

    def changes(self, revision: int, entries: Iterable[Mapping[bytes, bytes]]) -> Changes:
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
                    revoked[entry[b"j"].decode()] = int(entry[b"e"])
            except (ValueError, KeyError) as error:
                name = b" ".join(part for pair in entry.items() for part in pair)[:200]
                self._report("change", name, error)
        return Changes(revision, list(records.values()), revoked, tuple(servers.values()))

    def _changed_session(self, entry: Mapping[bytes, bytes]) -> Iterator[Record]:
        if b"d" in entry and b"s" in entry:
            yield from self.session(entry[b"s"], entry[b"d"])
        elif b"s" in entry:
            yield Record(entry[b"s"].decode(), entry[b"l"].decode(), entry[b"v"].decode(), None)

    def _report(self, what: str, name: bytes, error: Exception) -> None:
        shown = repr(name.decode(errors="replace"))
        if shown not in self._reported:
            self._reported.add(shown)
            log.error(
                "the store, %s, holds as %s %s what is none, which is left out: %r",
                self._address,
                what,
                shown,
                error,
            )


def pairs(values: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and values that Redis answers one after the other."""
    return zip(values[::2], values[1::2], strict=True)


def _members(text: bytes) -> dict[str, Any]:
    """Return the members of the JSON object ``text``; raises ``ValueError`` or ``RecursionError``
    if it is none that is sound."""
    members = from_json(text)
    if not isinstance(members, dict) or is_deeper(members, MAX_PARAMS_DEPTH + 1):
        raise ValueError("it is no object, or nested too deep")
    return members
