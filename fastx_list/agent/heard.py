"""What is kept of the sockets of a network namespace from one look to the next."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, NamedTuple

from fastx_list.agent.diag import Kept
from fastx_list.agent.tables import TcpTable, UnixTable

if TYPE_CHECKING:
    from fastx_list.agent.signs import Signs


class Read(NamedTuple):
    """A table of TCP sockets, the sign that it had, and until when it holds, by the monotonic
    clock."""

    table: TcpTable
    sign: object
    until: float


class Heard:
    """What is kept from one look to the next: which TCP connections have spoken, since nobody
    unsays anything, which tables have rest, and the tables themselves where they are the same."""

    def __init__(self) -> None:
        # Until when a table is not asked for again, by the monotonic clock.
        self.rests: dict[str, float] = {}
        # What the kernel has told, and what was made of that.
        self.kept: Kept = {}
        self.tcp: Read | None = None
        self.unix: tuple[object, object, UnixTable] | None = None
        # Keys of sockets, and how many bytes were asked for.
        self._spoken: set[tuple[bytes, int]] = set()
        # The connections that were told last of each port, or name, that was asked for.
        self.connections: dict[int | str, Mapping[int, bytes | None]] = {}
        # The table in which connections that were made from here were told last, by maker; and
        # those of them that were told again some time later.
        self.made_in: TcpTable | None = None
        self.made_at = 0.0  # when that was, by the monotonic clock
        self.lasting: dict[int, frozenset[int]] = {}
        # Of the paths that were asked for, the accepted unix sockets that were told last.
        self.accepted: dict[str, frozenset[int]] = {}
        # How many bytes make a client, by the ports that were asked for.
        self.least: dict[int, int] = {}
        # The tables of the last look; None if something may be another though they are the same.
        # What they were called, and the signs with what they are of.
        self.tables: tuple[TcpTable, UnixTable] | None = None
        self.stamp: object = None
        self.signs: tuple[object, Signs] | None = None
        # Whether anything was asked about a single socket since the last look began.
        self.has_asked = False

    def __contains__(self, spoken: tuple[bytes, int]) -> bool:
        return spoken in self._spoken

    def __len__(self) -> int:
        return len(self._spoken)

    def add(self, key: bytes, least: int) -> None:
        self._spoken.add((key, least))

    def keep(self, keys: Set[bytes]) -> None:
        """Forget what is not among ``keys``, those of the sockets that there are."""
        self._spoken = {spoken for spoken in self._spoken if spoken[0] in keys}
