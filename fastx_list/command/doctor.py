"""``fastx-list doctor``: what this machine runs, what the agent may see of it, and whether our own
files are in order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fastx_list.agent import identity
from fastx_list.agent.door import Unanswered
from fastx_list.agent.facts import Source
from fastx_list.agent.limits import Limits
from fastx_list.agent.machine import Machine, sees_everything
from fastx_list.agent.process import login_of
from fastx_list.agent.sources import load_sources
from fastx_list.agent.unclaimed import find_unclaimed
from fastx_list.agent.xserver import XServers
from fastx_list.config import PREFIX, ConfigError, Settings, set_by, warnings
from fastx_list.model.json import from_json
from fastx_list.state import owner_of
from fastx_list.store import Held, ServerRecord, StoreError, address, open_store
from fastx_list.store.sqlite_harm import aside
from fastx_list.text import amount
from fastx_list.tokens import read_secret


class Finding(NamedTuple):
    """One line of the report: ``ok`` is false for what someone should mend, ``None`` for what is
    only worth knowing."""

    ok: bool | None
    text: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything once, and try whether the store can be written; nothing else is made or
    changed by it."""
    for problem in warnings(set_by()):
        yield Finding(False, f"settings: {problem}")
    machine = Machine(Limits(settings.max_sessions_per_login))
    machine.look()
    yield from _rights(machine)
    yield from _sources(settings, machine)
    if not _may_look_into(settings.state_dir):
        yield Finding(
            False,
            f"state directory: {settings.state_dir} may not be looked into by"
            f" {login_of(os.geteuid())}; run this as its owner, or set {PREFIX}STATE_DIR",
        )
        return
    yield from _state_dir(settings)
    yield from _secret(settings)
    yield from _store(settings)
    yield from _spool(settings)


def _state_dir(settings: Settings) -> Iterator[Finding]:
    directory = settings.state_dir
    try:
        if directory.exists():
            owner_of(directory)
            if os.statvfs(directory).f_flag & os.ST_RDONLY:
                yield Finding(
                    False,
                    f"state directory: {directory} is on a file system that is read-only; make it"
                    f" writable, or set {PREFIX}STATE_DIR to another directory",
                )
    except OSError as error:
        yield Finding(False, f"state directory: {error}")


def _may_look_into(directory: Path) -> bool:
    try:
        os.stat(directory)
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return os.access(directory, os.R_OK | os.X_OK, effective_ids=True)


def _rights(machine: Machine) -> Iterator[Finding]:
    who = login_of(os.geteuid())
    if sees_everything():
        yield Finding(True, f"running as {who}: the sessions of all users can be seen in full")
    else:
        yield Finding(
            None,
            f"running as {who}: of other users' sessions, command, geometry and clients of some"
            " kinds stay unknown; the agent sees them as root, or with the capabilities"
            " CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        )
    if not any(process.pid == 1 for process in machine.processes.values()):
        yield Finding(
            False,
            "/proc hides other users' processes (hidepid): their sessions are not seen at all; run"
            " the agent as root, or in the group that the mount option gid= of /proc names",
        )


def _sources(settings: Settings, machine: Machine) -> Iterator[Finding]:
    try:
        sources = load_sources(settings)
    except ConfigError as error:
        yield Finding(False, str(error))
        return
    for name, source in sources.items():
        try:
            finding = _source(name, source, machine)
        except Exception as error:  # another package's may raise anything
            finding = Finding(False, f"{name}: it fails, and its sessions are not seen: {error!r}")
        if finding is not None:
            yield finding
    try:
        for text in find_unclaimed(machine):
            yield Finding(None, f"{text}; a package or a session file can add it")
    except Unanswered as error:
        yield Finding(None, f"sockets: {error}")


def _source(name: str, source: Source, machine: Machine) -> Finding | None:
    """Return what there is to say of one kind of session; ``None`` for one that is neither listed
    nor there."""
    found = len(list(source.scan(machine)))
    sessions = f"{name}: {amount(found, 'session')}"
    if not isinstance(source, XServers):
        return Finding(found > 0 or None, sessions)
    source.close(machine)
    programs = source.own_programs or source.programs
    running = len(machine.named(programs))
    processes = f"{amount(running, 'process')} of {programs[0]}"
    if source.listed:
        return Finding(found > 0 or None, f"{sessions}; {processes}")
    if running:
        return Finding(None, f"{name}: {processes}, not listed; {PREFIX}SOURCES can add it")
    return None


def _secret(settings: Settings) -> Iterator[Finding]:
    if settings.secret_key:
        yield Finding(True, f"secret: given by {PREFIX}SECRET_KEY")
    elif not settings.secret_file.exists():
        yield Finding(None, f"secret: {settings.secret_file} will be made on first use")
    else:
        try:
            read_secret(settings.secret_file)
            yield Finding(
                True, f"secret: {settings.secret_file} is closed to other users and long enough"
            )
        except ConfigError as error:
            yield Finding(False, f"secret: {error}")


def _store(settings: Settings) -> Iterator[Finding]:
    where = address.parse(settings.store)
    if isinstance(where, Path):
        if not where.exists():
            yield Finding(None, f"store: {where} will be made by the agent")
            return
        if where.stat().st_mode & stat.S_IRWXO:
            yield Finding(
                False, f"store: {where} is open to other users; close it with: chmod o= {where}"
            )
        for damaged in aside(where):
            yield Finding(
                False,
                f"store: {damaged} was damaged and set aside; params may be lost, and tokens that"
                " were revoked may be good again. See the agent's log, and remove the file",
            )
    try:
        store = open_store(settings.store, create=False)
        try:
            snapshot, held = store.snapshot(), store.holder(settings.server_id)
            overdue = store.overdue
            sessions = f"{amount(len(snapshot.records), 'session')} in it"
            try:
                store.end_leases()
                yield Finding(True, f"store: {where} can be read and written; {sessions}")
            except StoreError as error:
                yield Finding(False, f"store: {where} can be read, not written; {sessions}")
                yield Finding(False, str(error))
        finally:
            store.close()
        yield from _overdue(overdue)
        if settings.server_id not in overdue:
            yield from _lease(settings, held)
        yield from _problems(settings, snapshot.servers)
    except StoreError as error:
        yield Finding(False, str(error))


def _overdue(servers: Sequence[str]) -> Iterator[Finding]:
    for server_id in servers:
        yield Finding(
            False,
            f"agent: {server_id!r} has written nothing for longer than {PREFIX}SERVER_EXPIRY: it"
            " has stopped or cannot write: its log says more",
        )


def _lease(settings: Settings, held: Held | None) -> Iterator[Finding]:
    mend = f"give each machine another {PREFIX}SERVER_ID"
    if held is None:
        yield Finding(None, f"agent: none is running as {settings.server_id!r}")
    elif held.holder != identity.find(settings):
        yield Finding(
            False,
            f"agent: {settings.server_id!r} is in use by another agent, on {held.host}; {mend}",
        )
    elif held.rival is not None:
        yield Finding(
            False,
            f"agent: another one, on {held.rival}, also calls itself {settings.server_id!r};"
            f" {mend}",
        )
    else:
        yield Finding(True, f"agent: {settings.server_id!r} is kept up to date from {held.host}")


def _problems(settings: Settings, servers: Sequence[ServerRecord]) -> Iterator[Finding]:
    """Return what the running agent says that it cannot see."""
    for record in servers:
        if record.id == settings.server_id and record.text is not None:
            for problem in from_json(record.text).get("problems") or ():
                yield Finding(False, f"agent: {problem}")


def _spool(settings: Settings) -> Iterator[Finding]:
    if not settings.spool.is_dir():
        yield Finding(
            None, f"spool: {settings.spool} is not there; launchers that register sessions need it"
        )
        return
    mode = settings.spool.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield Finding(
            False,
            f"spool: in {settings.spool} anybody can remove anybody's files; mend with: chmod +t"
            f" {settings.spool}",
        )
    elif not _may_look_into(settings.spool):
        yield Finding(False, f"spool: {settings.spool} cannot be read by {login_of(os.geteuid())}")
    else:
        yield Finding(True, f"spool: {settings.spool} can be read")
