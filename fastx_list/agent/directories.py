"""Whether anything has changed in directories: inotify(7)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from fastx_list.agent.door import Unanswered, ask
from fastx_list.agent.signs import Change

ADD_SECONDS = 0.25  # that we wait for a directory, which may be on a dead network mount
MAX_READS, BUFFER = 16, 1 << 16  # at a time
_CLOSE_WRITE, _MOVED_FROM, MOVED_TO, CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
# A file was written, or has come or gone; what else is in the directory, and links out of it, are
# nothing to us.
OF_FILES = _CLOSE_WRITE | _MOVED_FROM | MOVED_TO | _DELETE
_ONLY_DIRECTORIES, _NOT_UNLINKED = 0x01000000, 0x04000000

_libc = ctypes.CDLL(None, use_errno=True)


class Directories:
    """Tells that something has changed in ``paths``, however much that was: where the kernel has
    had no room for it, it says that."""

    def __init__(self, paths: Iterable[Path], kind: str = "spool", events: int = OF_FILES) -> None:
        """``kind`` is what they are to people; the kernel tells of these ``events``."""
        self._kind, self._events = kind, events
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
                    f"{self._kind} {path}", "its directory", partial(self._add, path), ADD_SECONDS
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
        mask = self._events | _ONLY_DIRECTORIES | _NOT_UNLINKED
        return _check(_libc.inotify_add_watch(self.descriptor, os.fsencode(path), mask))

    def changes(self) -> set[Change]:
        """Return whether something has changed, once."""
        return {Change("a file of a directory", None)} if list(self.read()) else set()

    def read(self) -> Iterator[bytes]:
        """Yield what the kernel has told since, as inotify(7) has it; maybe not all of it."""
        for _ in range(MAX_READS):
            if self.descriptor is None:
                break
            try:
                yield os.read(self.descriptor, BUFFER)
            except OSError:  # as a rule there is no more
                break

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
