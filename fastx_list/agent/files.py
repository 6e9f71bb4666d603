"""Reading files that other users chose the path and the content of, as root: without waiting, and
never more than was asked for."""

from __future__ import annotations

import os
import stat

from fastx_list.agent.door import Unanswered, ask


class FileError(Exception):
    """The file is nothing to read; the message says why."""


class FileDenied(FileError):
    """We may not read the file."""


class FileBusy(FileError):
    """The file cannot be read now, and may be later: what it holds is unknown."""


def read_owned(path: str, owner: int, limit: int) -> bytes:
    """Return the content of the file at ``path`` if it is a regular file of the user ``owner`` and
    of at most ``limit`` bytes. A link is none.

    Raises :class:`FileDenied` if we may not read it, :class:`FileBusy` if it cannot be read now,
    :class:`FileError` if it is nothing to read.
    """
    try:
        return ask(owner, f"the file {path!r}", lambda: read_regular(path, limit, owner=owner)[0])
    except Unanswered:
        raise FileBusy(f"{path!r} cannot be read now: its file system does not answer") from None
    except FileNotFoundError:
        raise FileError(f"{path!r} cannot be read: it is not there") from None
    except FileError as error:
        raise type(error)(f"{path!r} {error}") from None


def read_regular(
    path: str, limit: int, *, owner: int | None = None, directory: int | None = None
) -> tuple[bytes, os.stat_result]:
    """Return content and status of the regular file at ``path``, which starts from the open
    ``directory`` unless it is absolute. Raises the same errors, whose messages say what it
    does, and ``FileNotFoundError``.

    Its file system may still hang.
    """
    try:
        # O_PATH opens nothing yet: no device is touched and no pipe is waited for before we know
        # what it is.
        probe = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            status = os.fstat(probe)
            if not stat.S_ISREG(status.st_mode):
                raise FileError("is no regular file")
            if owner is not None and status.st_uid != owner:
                raise FileError("belongs to another user")
            if status.st_size > limit:
                raise FileError(f"is over {limit} bytes")
            data = read_up_to(f"/proc/self/fd/{probe}", limit + 1)
        finally:
            os.close(probe)
    except FileNotFoundError:
        raise
    except PermissionError:
        raise FileDenied("may not be read") from None
    except BlockingIOError:
        raise FileBusy("cannot be read now: its owner has a lease on it") from None
    except OSError as error:  # of the way to it, such as a dead disk: it says nothing of the file
        raise FileBusy(f"cannot be read now: {error.strerror}") from None
    except ValueError as error:
        raise FileError(f"cannot be read: {error}") from None
    if len(data) > limit:
        raise FileError(f"is over {limit} bytes")
    return data, status


def read_beginning(path: str, limit: int) -> bytes:
    """Return what one read finds, up to ``limit`` bytes, at the beginning of a file of proc(5),
    which is far more than what is looked for: ``open`` would take twice as long. Raises
    ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)


def read_up_to(path: str, limit: int) -> bytes:
    """Return the first ``limit`` bytes of what is at ``path``, which may be proc(5)'s. Raises
    ``OSError``; ``BlockingIOError`` if a lease on it would have to be waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        parts, left = [], limit
        while left > 0 and (part := os.read(descriptor, min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)
