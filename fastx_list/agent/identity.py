"""Who this agent is: a random name in the state directory, which tells it from another agent that
has the same server id.

The file's name holds the server id, since several machines may share a directory, such as a home on
NFS.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastx_list.config import PREFIX, ConfigError, Settings
from fastx_list.state import owner_of, read_own, working_as, write_new


def path(settings: Settings) -> Path:
    """Return the file that holds the name."""
    return settings.state_dir / f"agent-{settings.server_id}"


def read(settings: Settings) -> str:
    """Return this agent's name, made on first use. Raises :class:`ConfigError` if it can be neither
    read nor made."""
    file = path(settings)
    try:
        if (name := _name_in(file)) is not None:
            return name
        name = secrets.token_hex(16)
        write_new(file, name)
        return _name_in(file) or name
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the agent's name cannot be kept in {file}: {error}; remove it, or set"
            f" {PREFIX}STATE_DIR"
        ) from None


def find(settings: Settings) -> str | None:
    """Return this agent's name, or ``None`` if it never had one or it cannot be read."""
    try:
        return _name_in(path(settings))
    except (OSError, ValueError):
        return None


def _name_in(file: Path) -> str | None:
    try:
        text = read_own(file)[0].decode().strip()
    except FileNotFoundError:
        return None
    if not re.fullmatch("[0-9a-f]{32}", text):
        raise ValueError("what it holds is no such name")
    return text


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """See to it that one agent runs on this state directory; raises :class:`ConfigError` for the
    second one."""
    read(settings)
    file = path(settings)
    try:
        with working_as(owner_of(file.parent)):
            # Where it was exchanged since it was read: no FIFO is waited for
            descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"the agent's name in {file} cannot be used: {error}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"an agent runs already as {settings.server_id!r} on {settings.state_dir}; stop it"
                f" first, or set {PREFIX}STATE_DIR"
            ) from None
        yield
    finally:
        os.close(descriptor)
