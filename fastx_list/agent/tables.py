"""What the kernel tells of the sockets of a network namespace, by what is asked of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property

from fastx_list.agent.diag_messages import LISTEN, TcpSocket

_NONE: frozenset[int] = frozenset()


class TcpTable:
    """TCP sockets that are connected or listen."""

    def __init__(self, found: Iterable[TcpSocket] = ()) -> None:
        # Inodes and keys of the connections by local port. Without a key, nothing more can be asked
        # of one.
        self.connections: dict[int, dict[int, bytes | None]] = {}
        # Inodes and makers of the sockets that listen, by port.
        self.listening: dict[int, dict[int, int]] = {}
        # Makers, local ports and keys of the connections, by inode.
        self.connected: dict[int, tuple[int, int, bytes | None]] = {}
        # Keys of the connections that nobody has accepted yet, by local port.
        self.unaccepted: dict[int, set[bytes]] = {}
        for state, port, key, uid, inode in found:
            if not inode:
                self.unaccepted.setdefault(port, set()).update(filter(None, [key]))
            elif state == LISTEN:
                self.listening.setdefault(port, {})[inode] = uid
            else:
                self.connections.setdefault(port, {})[inode] = key
                self.connected[inode] = uid, port, key

    @cached_property
    def made(self) -> dict[int, frozenset[int]]:
        """The connections that were made from here to somewhere, by maker."""
        made: dict[int, set[int]] = {}
        for inode, (maker, port, _) in self.connected.items():
            if port not in self.listening:
                made.setdefault(maker, set()).add(inode)
        return {maker: frozenset(inodes) for maker, inodes in made.items()}

    @cached_property
    def accepted(self) -> frozenset[int]:
        """The other ones, which somebody here has accepted."""
        return frozenset(
            inode for inode, (_, port, _) in self.connected.items() if port in self.listening
        )

    @cached_property
    def keys(self) -> frozenset[bytes]:
        return frozenset(key for _, _, key in self.connected.values() if key)

    @cached_property
    def ports(self) -> dict[int, int]:
        """The local ports of all, by inode."""
        listening = {inode: port for port, each in self.listening.items() for inode in each}
        return {inode: port for inode, (_, port, _) in self.connected.items()} | listening


class UnixTable:
    """Unix sockets that were accepted or listen."""

    def __init__(
        self,
        listening: Iterable[tuple[bytes, int, int | None]],
        accepted: Iterable[tuple[bytes, int]] = (),
    ) -> None:
        # Inodes of the accepted ones, and inodes and makers of those that listen, by address: that
        # of an abstract socket begins with a zero, any other ends with one.
        self.accepted: dict[bytes, set[int]] = {}
        self._listening: dict[bytes, dict[int, int | None]] = {}
        for address, inode, uid in listening:
            self._listening.setdefault(address, {})[inode] = uid
        for address, inode in accepted:
            self.accepted.setdefault(address, set()).add(inode)
        # What :meth:`listeners_at` was asked for, and what it said.
        self.asked: dict[re.Pattern[str], dict[str, Mapping[int, int | None]]] = {}

    @cached_property
    def inodes(self) -> frozenset[int]:
        """Those of all."""
        return _NONE.union(*self._listening.values(), *self.accepted.values())

    @cached_property
    def paths(self) -> list[str]:
        """The paths at which they listen; those of abstract ones begin with a zero character."""
        return [os.fsdecode(each if each[:1] == b"\0" else each[:-1]) for each in self._listening]

    def listeners(self, path: str) -> dict[int, int | None]:
        """Return the inodes of those that listen at ``path``, with their makers."""
        return {
            inode: uid
            for address in addresses(path)
            for inode, uid in self._listening.get(address, {}).items()
        }

    def listeners_at(self, pattern: re.Pattern[str]) -> dict[str, Mapping[int, int | None]]:
        """Return the paths, all of which ``pattern`` matches, at which they listen, each with what
        :meth:`listeners` says of it."""
        if pattern not in self.asked:
            self.asked[pattern] = {
                path: self.listeners(path) for path in self.paths if pattern.fullmatch(path)
            }
        return self.asked[pattern]


def addresses(path: str) -> list[bytes]:
    """Return what the kernel may call the socket at ``path``, or the abstract one of that name."""
    name = os.fsencode(path)
    return [name] if name[:1] == b"\0" else [name + b"\0", b"\0" + name]
