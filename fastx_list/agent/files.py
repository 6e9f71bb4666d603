"""Reading files that other users chose the path of, as root."""

from __future__ import annotations

import os
import stat


class FileError(Exception):
    """The file is nothing to read; the message says why."""


class FileDenied(FileError):
    """We may not read the file."""


def read_owned(path: str, owner: int, limit: int) -> bytes:
    """Return the content of the file at ``path`` if it is a regular file of the user ``owner`` and
    of at most ``limit`` bytes.

    Raises :class:`FileDenied` if we may not read it, :class:`FileError` if it is nothing to read.
    """
    try:
        # O_PATH opens nothing yet: no device is touched and no pipe waited for before we know what
        # it is.
        probe = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            status = os.fstat(probe)
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{path!r} is no regular file")
            if status.st_uid != owner:
                raise FileError(f"{path!r} belongs to another user")
            if status.st_size > limit:
                raise FileError(f"{path!r} is over {limit} bytes")
            with open(f"/proc/self/fd/{probe}", "rb") as file:
                return file.read(limit)
        finally:
            os.close(probe)
    except PermissionError:
        raise FileDenied(f"{path!r} may not be read") from None
    except (OSError, ValueError) as error:
        raise FileError(
            f"{path!r} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
