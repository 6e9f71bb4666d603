"""Whether anything has changed in directories: inotify(7)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from fastx_list.agent.door import Unanswered, ask
from fastx_list.agent.signs import Change

ADD_SECONDS = 0.25  # that we wait for a directory, which may be on a dead network mount
MAX_READS, BUFFER = 16, 1 << 16  # at a time
# A file was written, or has come or gone; what else is in the directory, and links out of it, are
# nothing to us.
_CLOSE_WRITE, _MOVED, _DELETE = 0x8, 0x40 | 0x80, 0x200
_ONLY_DIRECTORIES, _NOT_UNLINKED = 0x01000000, 0x04000000
_MASK = _CLOSE_WRITE | _MOVED | _DELETE | _ONLY_DIRECTORIES | _NOT_UNLINKED

_libc = ctypes.CDLL(None, use_errno=True)


class Directories:
    """Tells that something has changed in ``paths``, however much that was: where the kernel has
    had no room for it, it says that."""

    def __init__(self, paths: Iterable[Path]) -> None:
        # The kernel's numbers of those that are followed; None for those that are not.
        self._watched: dict[Path, int | None] = dict.fromkeys(paths)
        # Can be read when there is a change to tell of; None if none can be.
        self.descriptor: int | None = None
        # Why some changes cannot be told; None if all can.
        self.problem: str | None = None
        try:
            if self._watched:
                self.descriptor = _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            self.problem = error.strerror  # a user may have so many

    def follow(self) -> None:
        """Follow the directories that are at the paths now."""
        descriptor = self.descriptor
        if descriptor is None:
            return
        self.problem = None
        for path, before in self._watched.items():
            number = None
            try:
                number = ask(
                    f"spool {path}", "its directory", partial(self._add, path), ADD_SECONDS
                )
            except Unanswered:
                number = before
            except (FileNotFoundError, NotADirectoryError):
                pass  # there may be one later
            except OSError as error:
                self.problem = error.strerror
            if before is not None and number != before:
                _libc.inotify_rm_watch(descriptor, before)  # it is at this path no longer
            self._watched[path] = number

    def _add(self, path: Path) -> int:
        """Raises ``OSError``."""
        return _check(_libc.inotify_add_watch(self.descriptor, os.fsencode(path), _MASK))

    def changes(self) -> set[Change]:
        """Return whether something has changed, once."""
        if self.descriptor is None or not self._read():
            return set()
        return {Change("a file of a directory", None)}

    def _read(self) -> bool:
        assert self.descriptor is not None
        has_read = False
        for _ in range(MAX_READS):
            try:
                os.read(self.descriptor, BUFFER)
            except OSError:  # as a rule there is no more
                break
            has_read = True
        return has_read

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
