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
from contextlib import contextmanager, suppress
from pathlib import Path

from fastx_list.agent.files import read_up_to
from fastx_list.config import PREFIX, ConfigError, Settings
from fastx_list.state import give_to_owner_of, make_state_dir


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
        make_state_dir(file.parent)
        name = secrets.token_hex(16)
        draft = file.with_name(f"{file.name}.{name}")
        with open(
            os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8"
        ) as opened:
            opened.write(name)
            opened.flush()
            os.fsync(opened.fileno())  # a power failure is not to leave an empty one
        give_to_owner_of(file.parent, draft)
        with suppress(FileExistsError):  # another process was quicker
            os.link(draft, file)
        draft.unlink()
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
        text = read_up_to(str(file), 64).decode("utf-8").strip()
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
    descriptor = os.open(path(settings), os.O_RDWR | os.O_CLOEXEC)
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
