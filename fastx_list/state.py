"""What the product keeps in files, and what it is told to read: opened so that nobody in whose
directory root works can lead it elsewhere.

A path is in the hands of those who own a directory or a link on the way to it. They can exchange
what comes behind it at any time, also between a look and an opening. So root finds out in whose
hands a path is, and works there as that user (``setfsuid(2)``, in this thread alone). Whatever is
exchanged then, root gets no further than that user would alone.
"""

from __future__ import annotations

import ctypes
import errno
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MAX_FILE_BYTES = 64 * 1024
ANY_MACHINE = "any"  # what one without an id takes itself for
MAX_LINKS = 40  # on the way to a file, as many as Linux follows
_NOBODY = -1  # as a user or group: setfsuid(2) changes nothing, and says who it is now

_libc = ctypes.CDLL(None)
_libc.setfsuid.restype = _libc.setfsgid.restype = ctypes.c_uint
_AS_WE_ARE: AbstractContextManager[None] = nullcontext()


class StateError(OSError):
    """A file or directory that cannot be trusted; the message says why and what to do."""


class Owner(NamedTuple):
    """Another user, as whom root works."""

    uid: int
    gid: int


class _Step(NamedTuple):
    """A directory, a link, or the file itself, on the way to a path."""

    path: Path
    status: os.stat_result
    is_last: bool  # whether nothing of the path follows, unless it is a link


@cache
def machine() -> str:
    """Return a name of this machine that outlives its boots and its host's name;
    :data:`ANY_MACHINE` if there is none.

    Copies of a machine have names of their own, unless they were not told that they are copies.
    machine-id(5) asks to keep the id itself for oneself.
    """
    try:
        name = Path("/etc/machine-id").read_bytes().strip()
        # While there is a file in /run, it is the id of this boot alone
        is_of_this_boot = is_there(Path("/run/machine-id"))
    except OSError:
        return ANY_MACHINE
    if is_of_this_boot or not re.fullmatch(rb"[0-9a-f]{32}", name):
        return ANY_MACHINE
    return hmac.new(name, b"fastx-list", "sha256").hexdigest()[:16]


def machine_mark() -> str:
    """Return what tells this machine's file from others' of that name, where several share a
    directory; nothing if it has no name, whose file one that it gets later takes over."""
    return "" if machine() == ANY_MACHINE else f"-{machine()}"


def reason(error: Exception) -> str:
    """Return why a file of ours cannot be used, for people who are to mend it."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EROFS:
        return "its file system is read-only; make it writable"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "its file system is full; make room"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def is_there(path: Path) -> bool:
    """Return whether there is anything at ``path``.

    Raises ``OSError`` if that cannot be known: some releases of Python take that for a no in
    ``Path.exists``.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def make_directory(path: Path) -> None:
    """Make a directory for our files, closed to other users, if there is none. Raises
    ``OSError``."""
    with working_as(_in_whose_hands(path, _way(path))):
        missing = [each for each in path.parents if not is_there(each)]
        for each in reversed(missing):
            each.mkdir(mode=0o755, exist_ok=True)  # whatever the umask
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:  # it is a file
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def owner_of(directory: Path) -> Owner | None:
    """Return as whom to work on our files in ``directory``, which is there; ``None``: as ourselves.

    Raises :class:`StateError` if others could exchange it or lay files in it, else ``OSError``.
    """
    status = os.stat(directory)  # first: it may just be made by another process that starts
    way = _way(directory)
    owner = _in_whose_hands(directory, way)
    if not os.path.samestat(status, way[-1].status) or not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateError(
            f"others can write to {directory}, and could lay files there; close it with: chmod go-w"
            f" {directory}"
        )
    if os.geteuid() not in (0, status.st_uid) and status.st_uid != 0:
        raise StateError(
            f"{directory} belongs to another user (uid {status.st_uid}), who could lay files there;"
            " run this as that user, or name a directory of your own with FASTX_LIST_STATE_DIR"
        )
    return owner


def working_as(owner: Owner | None) -> AbstractContextManager[None]:
    """Let this thread open and make files as ``owner``, within the block, with none of our own
    rights."""
    return _AS_WE_ARE if owner is None else _working_as(owner)


def read_file(path: Path, limit: int = MAX_FILE_BYTES) -> tuple[bytes, os.stat_result]:
    """Return what is in the file at ``path``, and its status. It waits for nobody.

    Raises :class:`StateError` if it is no regular file, too long, or a link that is not root's;
    else ``OSError``.
    """
    way = _way(path)
    if not way[-1].is_last:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    for step in way:
        if step.is_last and stat.S_ISLNK(step.status.st_mode) and step.status.st_uid != 0:
            raise StateError("it is a symbolic link; put the file itself there")
    with working_as(_in_whose_hands(path, way)):
        # A FIFO or a lease (fcntl(2)) is not waited for
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            raise StateError("it is no regular file")
        if not os.path.samestat(status, way[-1].status):
            raise StateError("it was exchanged while it was opened; try again")
        data = os.read(file, min(status.st_size, limit) + 1)
        if len(data) > limit:
            raise StateError(f"it is over {limit} bytes")
        return data, status
    finally:
        os.close(file)


def read_own(path: Path, limit: int = MAX_FILE_BYTES) -> tuple[bytes, os.stat_result]:
    """Do as :func:`read_file` does with a file of ours, in whose directory nobody else may write.
    Raises the same."""
    owner_of(path.parent)
    return read_file(path, limit)


def write_new(path: Path, text: str) -> None:
    """Make a file of ours with mode 0600. It has its name once it is on the disk whole; what
    another process has given that name meanwhile is kept. Raises ``OSError``."""
    make_directory(path.parent)
    with working_as(owner_of(path.parent)):
        draft = _write_draft(path, text)
        try:
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            os.unlink(draft)


def create(path: Path, text: str) -> None:
    """Make a file with mode 0600, whole at once. Raises ``FileExistsError`` if one is there, else
    ``OSError``."""
    with working_as(_in_whose_hands(path.parent, _way(path.parent))):
        draft = _write_draft(path, text)
        try:
            os.link(draft, path)
        finally:
            os.unlink(draft)


def replace(path: Path, text: str) -> None:
    """Make a file with mode 0600, whole at once, in place of what was there. Raises ``OSError``."""
    with working_as(_in_whose_hands(path.parent, _way(path.parent))):
        os.replace(_write_draft(path, text), path)


def open_own(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file of ours with these ``flags`` and return its descriptor; with ``O_CREAT`` one is
    made with ``mode``. It waits for nobody.

    Raises :class:`StateError` if it is no regular file, else ``OSError``, also for a link.
    """
    safely = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with working_as(_in_whose_hands(path.parent, _way(path.parent))):
        file = os.open(path, flags | safely, mode)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise StateError(f"{path} is no regular file")
    return file


def remove(path: Path) -> None:
    """Remove a file, if it is there. Raises ``OSError``."""
    with working_as(_in_whose_hands(path.parent, _way(path.parent))):
        path.unlink(missing_ok=True)


def _write_draft(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(draft, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # a power failure is not to leave an empty one
    except OSError:  # as a full disk leaves half of it
        with suppress(OSError):
            os.unlink(draft)
        raise
    return draft


def _way(path: Path) -> list[_Step]:
    """Return what lies on the way to ``path``, links and what they lead through included, as far as
    it is there. Raises ``OSError``."""
    steps: list[_Step] = []
    names = [*reversed(path.absolute().parts)]
    here, where, links = -1, Path("/"), 0
    try:
        while names:
            name = names.pop()
            if here >= 0 and name != "/":
                status = os.stat(name, dir_fd=here, follow_symlinks=False)
                where = where / name
            else:
                status, where = os.stat("/"), Path("/")
            steps.append(_Step(where, status, not names))
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
                target = PurePosixPath(os.readlink(name, dir_fd=here))
                names += reversed(target.parts)
                where = where.parent
            elif stat.S_ISDIR(status.st_mode):
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inner = os.open(name, flags, dir_fd=None if name == "/" else here)
                if here >= 0:
                    os.close(here)
                here = inner
    except (FileNotFoundError, NotADirectoryError):
        pass
    finally:
        if here >= 0:
            os.close(here)
    return steps


def _in_whose_hands(path: Path, way: list[_Step]) -> Owner | None:
    """Return as whom to work at ``path``, which ``way`` leads to; ``None``: as ourselves."""
    owners: dict[int, int] = {}
    for where, status, _ in way:
        mode = status.st_mode
        if stat.S_ISDIR(mode) and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise StateError(
                f"anybody can exchange what is in {where}, and so what is at {path}; close it with:"
                f" chmod o-w {where}"
            )
        owners[status.st_uid] = status.st_gid
    owners.pop(0, None)
    if os.geteuid() != 0 or not owners:
        return None
    if len(owners) > 1:
        users = " and ".join(map(str, sorted(owners)))
        raise StateError(
            f"{path} is in the hands of several users (uids {users}), who could mislead root; use a"
            " path whose directories are root's or one user's"
        )
    return Owner(*owners.popitem())


@contextmanager
def _working_as(owner: Owner) -> Iterator[None]:
    if os.getgroups():
        os.setgroups([])  # root needs none, and they would be rights that the owner has not
    gid, uid = _libc.setfsgid(owner.gid), _libc.setfsuid(owner.uid)
    try:
        if (_libc.setfsuid(_NOBODY), _libc.setfsgid(_NOBODY)) != owner:
            raise StateError(
                f"this needs the right to work as user {owner.uid}; run it as that one"
            )
        yield
    finally:
        _libc.setfsuid(uid)
        _libc.setfsgid(gid)
