"""What can be wrong with the file of a SQLite store and the place where it lies: what people are
told, and how a damaged file makes room for a new one.

A process that opens the file holds a shared lock on its directory (flock(2)) while it does so, and
one that makes or exchanges the file an exclusive one. So nobody opens an old file with the
write-ahead log of a new one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from fastx_list.store import StoreError

WAIT_SECONDS = 5.0  # for others to open or exchange the file
POLL_SECONDS = 0.01
LASTING_SECONDS = 5.0  # after which damage is no longer that of a file that is just being written
ROOM_BYTES = 64 * 1024  # that there is to be beside a database: its -shm takes half of it
# All that SQLite says if it cannot make a file beside the database
_MAKES_NO_FILE = {"disk I/O error", "unable to open database file"}
MAX_ASIDE = 3  # damaged files that are kept
MOUNTS = Path("/proc/self/mountinfo")
# Of processes on several machines, https://sqlite.org/wal.html: "WAL does not work over a network
# filesystem"; and few of these have locks that hold
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs", "ncpfs"}
    | {"coda", "ocfs2", "gfs2", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph"}
)
SUFFIXES = ("", "-wal", "-shm", "-journal")


class Kept(NamedTuple):
    """What can still be read of a damaged file."""

    revoked: list[tuple[object, ...]]  # ids of tokens, and when these expire
    sessions: list[tuple[object, ...]]  # id, server, login, params and text of each
    has_all_revoked: bool


def check_place(file: Path) -> None:
    """Raise :class:`StoreError` if ``file`` is on another machine's disk."""
    with suppress(OSError):
        directory = next(each for each in file.absolute().parents if each.exists())
        device = os.stat(directory).st_dev
        name = f"{os.major(device)}:{os.minor(device)}"
        for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
            mount, _, system = line.partition(" - ")
            kind = system.partition(" ")[0]
            if mount.split()[2] == name and kind in NETWORK:
                raise StoreError(
                    f"the store {file} is on a network file system ({kind}), where SQLite does not"
                    " work; set FASTX_LIST_STORE to a file on a local disk, such as"
                    f" sqlite:////var/tmp/fastx-list-{os.geteuid()}/{file.name}, or to Redis"
                )


def is_damage(error: Exception) -> bool:
    """Return whether ``error`` says that what is in the file is no sound store."""
    # SQLITE_CORRUPT and SQLITE_NOTADB; whatever may be over soon is one of the subclasses
    return type(error) is sqlite3.DatabaseError


def is_busy(error: Exception) -> bool:
    """Return whether ``error`` says that others use the file just now: SQLITE_BUSY, which Python
    3.10 knows by its words alone."""
    return str(error) == "database is locked"


def explain(error: Exception, file: Path) -> str:
    """Return ``error`` as people need it, who are to mend it."""
    with suppress(OSError):
        if os.statvfs(file.parent).f_flag & os.ST_RDONLY:
            return (
                f"{error}; its file system is read-only: make it writable, or set FASTX_LIST_STORE"
                " to another file"
            )
    if "is full" in str(error) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return f"{error}; make room on the file system of {file.parent}"
    if str(error) in _MAKES_NO_FILE and _has_no_room(file.parent):
        return f"{error}; make room on the file system of {file.parent}, which is full"
    if is_damage(error):
        return f"{error}; it is damaged: a running agent sets it aside and begins a new one"
    return str(error)


def _has_no_room(directory: Path) -> bool:
    """Return whether there is no room in ``directory`` for the files that SQLite makes beside a
    database, be it for lack of blocks or of inodes."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    lacks_blocks = found.f_blocks and found.f_bavail * found.f_frsize < ROOM_BYTES
    lacks_inodes = found.f_files and not found.f_favail
    return bool(lacks_blocks or lacks_inodes)


def identity(file: Path) -> tuple[int, int] | None:
    """Return device and inode of ``file``, if it is there."""
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


class Damage:
    """When a file was first found to be damaged."""

    def __init__(self) -> None:
        self._since: tuple[tuple[int, int] | None, float] | None = None  # which file, and when

    def lasts(self, which: tuple[int, int] | None) -> bool:
        """Return whether the file ``which``, which is damaged, has been for a while."""
        now = time.monotonic()
        if self._since is None or self._since[0] != which:
            self._since = which, now
        return now - self._since[1] >= LASTING_SECONDS


@contextmanager
def locked(directory: Path, how: int) -> Iterator[None]:
    """Hold a lock on ``directory``, ``LOCK_SH`` or ``LOCK_EX``; none where it cannot be had."""
    file = -1
    try:
        with suppress(PermissionError):
            file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            _lock(file, how)
        yield
    finally:
        if file >= 0:
            os.close(file)


def _lock(file: int, how: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        except OSError:
            return  # a file system without locks
        time.sleep(POLL_SECONDS)


def make_file(file: Path) -> None:
    """Make an empty file with mode 0600, unless there is one."""
    with locked(file.parent, fcntl.LOCK_EX):
        if identity(file) is None:
            for suffix in SUFFIXES[1:]:  # those of a file that was removed
                _beside(file, suffix).unlink(missing_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def set_aside(file: Path, which: tuple[int, int] | None, make: Callable[[Path, Kept], None]) -> str:
    """Put a new store in place of the damaged ``file``, device and inode ``which``; ``make`` is
    told where to make it, and of what. Return what was done, for people.

    Raises ``OSError`` or :class:`StoreError` if it cannot be done; nothing has changed then.
    """
    if len(aside(file)) >= MAX_ASIDE:
        raise StoreError(
            f"the store {file} is damaged, again; mend the disk, and remove {file}.damaged-*"
        )
    kept = _read(file)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    old = file.with_name(f"{file.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    try:
        make(draft, kept)
        with locked(file.parent, fcntl.LOCK_EX):
            if identity(file) != which:
                raise StoreError(f"the store {file} has just been replaced")
            for suffix in reversed(SUFFIXES):
                with suppress(FileNotFoundError):
                    _beside(file, suffix).rename(_beside(old, suffix))
            draft.rename(file)
    finally:
        for suffix in SUFFIXES:
            _beside(draft, suffix).unlink(missing_ok=True)
    lost = (
        "all tokens that were revoked still are"
        if kept.has_all_revoked
        else "tokens that were revoked may be good again: revoke them again, or change the secret"
    )
    return (
        f"the store {file} was damaged, is now {old.name}, and a new one has been begun with what"
        f" could be read: {lost}; some params may be lost"
    )


def aside(file: Path) -> list[Path]:
    """Return the damaged files that lie beside ``file``."""
    found = file.parent.glob(f"{file.name}.damaged-*")
    return sorted(each for each in found if not each.name.endswith(SUFFIXES[1:]))


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _read(file: Path) -> Kept:
    revoked, sessions, has_all_revoked = [], [], False
    with suppress(sqlite3.Error):
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as db:
            with suppress(sqlite3.Error):
                for row in db.execute("SELECT jti, expires FROM revoked"):
                    revoked.append(row)
                has_all_revoked = True
            members = "SELECT id, server_id, login, params, text FROM"
            with suppress(sqlite3.Error):
                for row in db.execute(f"{members} session WHERE ended IS NULL"):
                    sessions.append(row)
            with suppress(sqlite3.Error):
                for row in db.execute(f"{members} remembered"):
                    sessions.append(row)
    return Kept(revoked, sessions, has_all_revoked)
