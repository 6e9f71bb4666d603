"""Who this agent is: its server id, which it keeps when the host is renamed, and a random name that
tells it from another agent of the same id.

Both are in the state directory. Several machines may share one, such as a home on NFS, and a copy
of a machine has the files of the first one; so what is there says of which machine it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastx_list.agent.process import (
    NO_PROCESS,
    boot_id,
    identity_of,
    identity_with,
    pid_in,
    read_any_stat,
)
from fastx_list.config import PREFIX, ConfigError, Settings, given, read_server_id, set_by
from fastx_list.state import (
    ANY_MACHINE,
    StateError,
    machine,
    machine_mark,
    make_directory,
    owner_of,
    read_own,
    reason,
    replace,
    working_as,
    write_new,
)
from fastx_list.text import printable
from fastx_list.values import Environment

MAX_HOLDER_BYTES = 512


def path(settings: Settings) -> Path:
    """Return the file that holds the random name."""
    return settings.state_dir / f"agent-{settings.server_id}{machine_mark()}"


def _earlier_path(settings: Settings) -> Path:
    """Return where earlier releases kept it, one for all machines."""
    return settings.state_dir / f"agent-{settings.server_id}"


def read(settings: Settings) -> str:
    """Return this agent's random name, made on first use. Raises :class:`ConfigError` if it can be
    neither read nor made."""
    file = path(settings)
    with _usable(file):
        found = _name_in(file)
        if found is None:
            name = _take_over(_earlier_path(settings)) or secrets.token_hex(16)
            write_new(file, f"{name} {machine()}")
            found = _name_in(file)
        if found is None or not _is_ours(found[1]):
            # A copy is not to take turns with what it was made of
            found = secrets.token_hex(16), None
        name, where = found
        if where is None:
            replace(file, f"{name} {machine()}")
        return name


def _take_over(file: Path) -> str | None:
    """Return the name that an earlier release has kept in ``file`` for this machine, and let no
    other one take it."""
    with _usable(file):
        found = _name_in(file)
        if found is None or not _is_ours(found[1]):
            return None
        replace(file, f"{found[0]} {machine()}")
        return found[0]


def find(settings: Settings) -> str | None:
    """Return this agent's random name, or ``None`` if it never had one or it cannot be read."""
    with suppress(OSError, ValueError):
        found = _name_in(path(settings)) or _name_in(_earlier_path(settings))
        if found is not None and _is_ours(found[1]):
            return found[0]
    return None


def problem(settings: Settings) -> str | None:
    """Return why this agent's random name is not known, for people; ``None`` if one can be read,
    also one of another machine."""
    own, earlier = path(settings), _earlier_path(settings)
    for file in (own, earlier):
        try:
            found = _name_in(file)
        except (OSError, ValueError) as error:
            return f"{file} cannot be read: {reason(error)}"
        if found is not None and (file == own or _is_ours(found[1])):
            return None
    return f"{own} is not there"


def place(settings: Settings) -> str:
    """Return what tells where :func:`only_one` runs from all other places while this machine is up:
    an agent whose file with the name was removed is known by it. Raises :class:`ConfigError`."""
    with _usable(settings.state_dir):
        status = settings.state_dir.stat()
        where = f"{boot_id()} {machine()} {status.st_dev} {status.st_ino}"
        return hashlib.sha256(where.encode()).hexdigest()[:16]


def server_id_problem(settings: Settings, environ: Environment) -> str | None:
    """Return why an agent with these settings would not start for its server id, for people."""
    file = settings.server_id_file
    if given(environ, "SERVER_ID") is not None:
        return None
    try:
        read_server_id(file)
    except FileNotFoundError:
        return None  # it will be made
    except ValueError as error:
        return f"{file} takes {error}; remove it"
    except OSError as error:
        return f"{file} cannot be read: {error.strerror or error}"
    return None


def _name_in(file: Path) -> tuple[str, str | None] | None:
    """Return the name in ``file`` and the machine whose it is, which older releases left out.
    Raises ``OSError`` or ``ValueError``."""
    try:
        text = read_own(file)[0].decode().strip()
    except FileNotFoundError:
        return None
    match = re.fullmatch("([0-9a-f]{32})(?: ([0-9a-z]+))?", text)
    if match is None:
        raise ValueError("what it holds is no such name; remove it")
    return match[1], match[2]


@contextmanager
def _usable(file: Path) -> Iterator[None]:
    """Say of what goes wrong with ``file`` that the name cannot be kept there."""
    try:
        yield
    except ConfigError:  # which names another file
        raise
    except (OSError, ValueError) as error:
        raise _unusable(f"the agent's name cannot be kept in {file}", error) from None


def _is_ours(where: str | None) -> bool:
    return where in (None, ANY_MACHINE, machine()) or machine() == ANY_MACHINE


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """See to it that one agent of this machine runs on this state directory, and that it has its
    names; raises :class:`ConfigError` for the second one, and where they cannot be kept."""
    file = settings.state_dir / f"lock-{machine()}"
    try:
        make_directory(settings.state_dir)
        lock = _locked(file)
    except BlockingIOError as error:
        raise ConfigError(
            f"an agent runs already as {error.filename!r} on {settings.state_dir}; stop it first,"
            f" or set {PREFIX}STATE_DIR"
        ) from None
    except OSError as error:
        raise _unusable(f"{file} cannot be locked", error) from None
    held = [lock]
    try:
        # So that no directory that is made instead has the inode of this one
        with _usable(settings.state_dir):
            held.append(os.open(settings.state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        _keep_server_id(settings)
        read(settings)
        holder = settings.server_id, identity_of(os.getpid()) or NO_PROCESS
        with suppress(OSError):
            os.ftruncate(lock, 0)
            os.pwrite(lock, "\n".join(holder).encode(), 0)
        yield
    finally:
        for each in held:
            os.close(each)


def _locked(file: Path) -> int:
    """Return ``file``, opened and locked until it is closed, also by the death of this process. A
    process that was ended and still hangs is left a lock that counts no more.

    Raises ``BlockingIOError`` with the id of the agent that has it as the name of a file, else
    ``OSError``.
    """
    flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        with working_as(owner_of(file.parent)):
            lock = os.open(file, flags, 0o600)
        try:
            status = os.fstat(lock)
            if not stat.S_ISREG(status.st_mode):
                raise StateError("it is no regular file; remove it")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                text = os.pread(lock, MAX_HOLDER_BYTES, 0).decode(errors="replace")
                holder, process, *_ = *text.splitlines(), "", ""
                if not _has_been_ended(process):
                    error.filename = printable(holder)
                    raise
                _remove(file, status)
            else:
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.stat(file, follow_symlinks=False), status):
                        return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # it was removed just then


def _has_been_ended(identity: str) -> bool:
    """Return whether the process with this :attr:`~fastx_list.agent.process.Process.identity` is
    there but does nothing any more. While one of its threads waits in the kernel for what never
    comes, all that it had open stays open."""
    pid = pid_in(identity)
    if pid is None or (stat := read_any_stat(pid)) is None:
        return False
    return stat.has_ended and identity_with(pid, stat) == identity


def _remove(file: Path, status: os.stat_result) -> None:
    """Remove ``file`` if it is still the one with this ``status``, and not what another agent has
    made in its place just now."""
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # one at a time
        with suppress(FileNotFoundError), working_as(owner_of(file.parent)):
            if os.path.samestat(os.stat(file, follow_symlinks=False), status):
                os.unlink(file)
    finally:
        os.close(directory)


def _keep_server_id(settings: Settings) -> None:
    """Keep the id that was found, so that a host that gets another name stays the same server."""
    if given(set_by().environ, "SERVER_ID") is not None:
        return
    file = settings.server_id_file
    try:
        with suppress(FileNotFoundError):
            read_server_id(file)
            return
        write_new(file, settings.server_id)
    except (OSError, ValueError) as error:
        raise _unusable(f"the server's id cannot be kept in {file}", error) from None


def _unusable(what: str, error: Exception) -> ConfigError:
    return ConfigError(f"{what}: {reason(error)}, or set {PREFIX}STATE_DIR to another directory")
