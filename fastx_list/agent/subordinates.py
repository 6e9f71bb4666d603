"""Who pays for a user: themselves, or whose subordinate they are, subuid(5).

A login may be given tens of thousands of users for its containers, and run processes as each of
them. All of a login's together have no more of our time, threads and room than one user has.
"""

from __future__ import annotations

from bisect import bisect
from pathlib import Path
from typing import TypeAlias

# A user's id, the name of the subordinates of one, or the name of what else may cost us something
Payer: TypeAlias = int | str

MAX_BYTES = 4 * 1024 * 1024  # of the file
# Root gives its subordinates to containers, as a rule so many to each.
ROOT, OF_A_CONTAINER = ("root", "0"), 65_536


class Subordinates:
    """The users that ``path`` gives to logins."""

    def __init__(self, path: Path = Path("/etc/subuid")) -> None:
        self._path = path
        # Inode, date and size of the file as it was read last; None if it was not there.
        self._version: tuple[int, ...] | None = None
        # First user, the one behind the last, and the login, sorted.
        self._ranges: list[tuple[int, int, str]] = []

    def read(self) -> None:
        """Take note of what the file says now; while it cannot be read, what it said holds."""
        try:
            status = self._path.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if version != self._version:
                with self._path.open("rb") as file:
                    self._ranges = _ranges_in(file.read(MAX_BYTES))
                self._version = version
        except FileNotFoundError:
            self._version, self._ranges = None, []
        except OSError:
            pass

    def payer(self, uid: int) -> Payer:
        """Return who pays for user ``uid``. Names are not looked up, so a login pays for itself and
        for its subordinates apart."""
        if not self._ranges:
            return uid
        position = bisect(self._ranges, (uid, float("inf")))
        if not position:
            return uid
        start, end, login = self._ranges[position - 1]
        if uid >= end:
            return uid
        if login in ROOT:
            first = start + (uid - start) // OF_A_CONTAINER * OF_A_CONTAINER
            return f"users from {first} on"
        return f"subordinate users of {login}"


def _ranges_in(data: bytes) -> list[tuple[int, int, str]]:
    found = []
    for line in data.decode("utf-8", "replace").splitlines():
        login, _, rest = line.partition(":")
        start, _, count = rest.partition(":")
        if start.isdecimal() and count.isdecimal() and login:
            found.append((int(start), int(start) + int(count), login))
    return sorted(found)


subordinates = Subordinates()
payer = subordinates.payer
