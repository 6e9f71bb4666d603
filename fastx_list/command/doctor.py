"""``fastx-list doctor``: whether the settings are in order, what runs on this machine, and whether
our own files are in order. The agent and the store are in ``doctor_store``, list, sidecar and nginx
in ``doctor_serving``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fastx_list import config
from fastx_list.agent.door import Unanswered
from fastx_list.agent.facts import Source
from fastx_list.agent.identity import server_id_problem
from fastx_list.agent.limits import Limits
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import login_of
from fastx_list.agent.rights import missing, rights
from fastx_list.agent.sources import load_sources
from fastx_list.agent.unclaimed import find_unclaimed
from fastx_list.agent.xserver import XServers
from fastx_list.command import doctor_serving, doctor_store
from fastx_list.command.findings import Finding, failure, note, ok, unseen, warning
from fastx_list.config import PREFIX, ConfigError, Settings, set_by
from fastx_list.state import is_there, owner_of
from fastx_list.text import amount
from fastx_list.tokens import read_secret
from fastx_list.values import Environment


def examine(environ: Environment | None = None) -> Iterator[Finding]:
    """Look at everything once, ask the services, and try whether the store can be written; nothing
    else is made or changed by it. ``environ`` stands in for the environment."""
    try:
        found = set_by(environ)
    except ConfigError as error:
        yield failure(f"settings: {error}")
        return
    for problem in config.warnings(found):
        yield warning(f"settings: {problem}")
    settings, errors = config.read(found)
    for each in errors:
        yield failure(f"settings: {each}")
    if settings is None:
        return
    yield from _machine(settings)
    closed = _closed(settings.state_dir)
    if closed is not None:
        yield failure(f"state directory: {closed}, or set {PREFIX}STATE_DIR")
        return
    yield from _state_dir(settings)
    yield from _secret(settings)
    unnamed = server_id_problem(settings, found.environ)
    if unnamed is not None:
        yield failure(f"agent: it does not start, as its server id is not known: {unnamed}")
    yield from doctor_store.examine(settings, is_service=os.geteuid() == 0 or bool(found.lines))
    yield from doctor_serving.examine(settings)
    yield from _spool(settings)


def _state_dir(settings: Settings) -> Iterator[Finding]:
    directory = settings.state_dir
    try:
        if is_there(directory):
            owner_of(directory)
            if os.statvfs(directory).f_flag & os.ST_RDONLY:
                yield failure(
                    f"state directory: {directory} is on a file system that is read-only; make it"
                    f" writable, or set {PREFIX}STATE_DIR to another directory"
                )
    except OSError as error:
        yield failure(f"state directory: {error}")


def _closed(directory: Path) -> str | None:
    """Return why this user cannot read what is in ``directory``, and what to do; ``None`` if they
    can, or it is not there."""
    try:
        status = os.stat(directory)
    except FileNotFoundError:
        return None
    except PermissionError:
        pass
    except OSError as error:
        return f"{unseen(directory, error)}; mend that"
    else:
        if not stat.S_ISDIR(status.st_mode):
            return f"{directory} is no directory; put one there"
        if os.access(directory, os.R_OK | os.X_OK, effective_ids=True):
            return None
    return f"{directory} may not be looked into by {login_of(os.geteuid())}; run this as its owner"


def _machine(settings: Settings) -> Iterator[Finding]:
    machine = Machine(Limits(settings.max_sessions_per_login))
    machine.look()
    if missing(rights()):
        yield note(
            f"this report is {login_of(os.geteuid())}'s, who does not see all of other users:"
            " the agent may see more sessions than it counts"
        )
    if not any(process.pid == 1 for process in machine.processes.values()):
        yield warning(
            "/proc hides other users' processes (hidepid): their sessions are not seen at all; run"
            " the agent as root, or in the group that the mount option gid= of /proc names"
        )
    yield from _sources(settings, machine)


def _sources(settings: Settings, machine: Machine) -> Iterator[Finding]:
    try:
        sources = load_sources(settings)
    except ConfigError as error:
        yield failure(f"settings: {error}")
        return
    for name, source in sources.items():
        try:
            finding = _source(name, source, machine)
        except Exception as error:  # another package's may raise anything
            finding = warning(f"{name}: it fails, and its sessions are not seen: {error!r}")
        if finding is not None:
            yield finding
    try:
        for text in find_unclaimed(machine):
            yield note(f"{text}; a package or a session file can add it")
    except Unanswered as error:
        yield note(f"sockets: {error}")


def _source(name: str, source: Source, machine: Machine) -> Finding | None:
    """Return what there is to say of one kind of session; ``None`` for one that is neither listed
    nor there."""
    found = len(list(source.scan(machine)))
    sessions = f"{name}: {amount(found, 'session')}"
    say = ok if found else note
    if not isinstance(source, XServers):
        return say(sessions)
    source.close(machine)
    programs = source.own_programs or source.programs
    running = len(machine.named(programs))
    processes = f"{amount(running, 'process')} of {programs[0]}"
    if source.listed:
        return say(f"{sessions}; {processes}")
    if running:
        return note(f"{name}: {processes}, not listed; {PREFIX}SOURCES can add it")
    return None


def _secret(settings: Settings) -> Iterator[Finding]:
    if settings.secret_key:
        yield ok(f"secret: given by {PREFIX}SECRET_KEY")
        return
    try:
        if not is_there(settings.secret_file):
            yield note(f"secret: {settings.secret_file} will be made on first use")
            return
        read_secret(settings.secret_file)
        yield ok(f"secret: {settings.secret_file} is closed to other users and long enough")
    except ConfigError as error:
        yield failure(f"secret: {error}")
    except OSError as error:
        yield failure(f"secret: {unseen(settings.secret_file, error)}")


def _spool(settings: Settings) -> Iterator[Finding]:
    problem = _closed(settings.spool)
    if problem is not None:
        yield warning(f"spool: {problem}")
        return
    try:
        mode = os.stat(settings.spool).st_mode
    except FileNotFoundError:
        yield note(
            f"spool: {settings.spool} is not there; launchers that register sessions need it"
        )
        return
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield warning(
            f"spool: in {settings.spool} anybody can remove anybody's files; mend with: chmod +t"
            f" {settings.spool}"
        )
    else:
        yield ok(f"spool: {settings.spool} can be read")
