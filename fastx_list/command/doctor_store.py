"""What ``fastx-list doctor`` says of the store, and of the agent as that has written of itself."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastx_list.agent import identity
from fastx_list.agent.rights import missing
from fastx_list.command.findings import Finding, differences, failure, note, ok, unseen, warning
from fastx_list.config import PREFIX, Settings, fingerprint
from fastx_list.model.json import from_json
from fastx_list.state import is_there
from fastx_list.store import Held, ServerRecord, StoreError, address, open_store
from fastx_list.store.sqlite_harm import aside
from fastx_list.text import amount

START = "start it with: systemctl start fastx-list-agent, or fastx-list up"
RESTART = "systemctl restart fastx-list-agent"


def examine(settings: Settings, is_service: bool) -> Iterator[Finding]:
    """Look into the store and try to write; an agent that ``is_service`` is to see all users'
    sessions."""
    where = address.parse(settings.store)
    if isinstance(where, Path):
        try:
            if not is_there(where):
                yield failure(f"agent: none has run yet: there is no store at {where}; {START}")
                return
            yield from _file(where)
        except OSError as error:
            yield failure(f"store: {unseen(where, error)}")
            return
    try:
        store = open_store(settings.store, create=False, keep=settings.keep)
        try:
            snapshot, held = store.snapshot(), store.holder(settings.server_id)
            overdue = store.overdue
            sessions = f"{amount(len(snapshot.records), 'session')} in it"
            try:
                store.end_leases()
                yield ok(f"store: {where} can be read and written; {sessions}")
            except StoreError as error:
                yield failure(f"store: {where} can be read, not written; {sessions}")
                yield failure(str(error))
        finally:
            store.close()
        yield from _overdue(overdue)
        if settings.server_id not in overdue:
            yield from _lease(settings, held)
        if held is not None:
            yield from _agent(settings, _members(settings, snapshot.servers), is_service)
    except StoreError as error:
        yield failure(str(error))


def _file(where: Path) -> Iterator[Finding]:
    if where.stat().st_mode & stat.S_IRWXO:
        yield warning(f"store: {where} is open to other users; close it with: chmod o= {where}")
    for damaged in aside(where):
        yield warning(
            f"store: {damaged} was damaged and set aside; params may be lost, and tokens that"
            " were revoked may be good again. See the agent's log, and remove the file"
        )


def _overdue(servers: Sequence[str]) -> Iterator[Finding]:
    for server_id in servers:
        yield failure(
            f"agent: {server_id!r} has written nothing for longer than {PREFIX}SERVER_EXPIRY: it"
            " has stopped or cannot write: its log says more"
        )


def _lease(settings: Settings, held: Held | None) -> Iterator[Finding]:
    mend = f"give each machine another {PREFIX}SERVER_ID"
    if held is None:
        yield failure(f"agent: none is running as {settings.server_id!r}; {START}")
    elif (problem := identity.problem(settings)) is not None:
        yield failure(
            f"agent: {settings.server_id!r} is in use on {held.host}; whether by the agent of this"
            f" machine is not known, as {problem}; if it is, {RESTART}, else {mend}"
        )
    elif held.holder != identity.find(settings):
        yield failure(
            f"agent: {settings.server_id!r} is in use by another agent, on {held.host}; {mend}"
        )
    elif held.rival is not None:
        yield failure(
            f"agent: another one, on {held.rival}, also calls itself {settings.server_id!r}; {mend}"
        )
    else:
        yield ok(f"agent: {settings.server_id!r} is kept up to date from {held.host}")


def _members(settings: Settings, servers: Sequence[ServerRecord]) -> Mapping[str, Any]:
    """Return what the agent has written of itself."""
    for record in servers:
        if record.id == settings.server_id and record.text is not None:
            found: dict[str, Any] = from_json(record.text)
            return found
    return {}


def _agent(settings: Settings, members: Mapping[str, Any], is_service: bool) -> Iterator[Finding]:
    for problem in members.get("problems") or ():
        yield warning(f"agent: {problem}")
    key = identity.find(settings)
    expected = None if key is None else fingerprint(settings, key)
    yield from differences("agent", members, expected, RESTART)
    if "rights" not in members:
        return
    lacks = missing(members["rights"])
    if lacks:
        say = warning if is_service else note
        yield say(
            f"agent: it lacks {' and '.join(lacks)}: of other users' sessions, command, geometry"
            " and clients of some kinds stay unknown; run it as root, or with its unit"
        )
    else:
        yield ok("agent: it sees the sessions of all users in full")
