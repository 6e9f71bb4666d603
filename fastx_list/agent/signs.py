"""By what it is told that sockets are others than a look saw, as soon as the kernel can be asked.

It says only when to look. What there is a look finds out, and nothing of this is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fastx_list.agent.diag import Diag
from fastx_list.agent.tables import TcpTable, UnixTable, addresses
from fastx_list.agent.x11 import socket_path

if TYPE_CHECKING:
    from fastx_list.agent.heard import Heard


WAITS = "a new socket that waits"


class Change(NamedTuple):
    """Something that has happened since a look."""

    what: str  # as people call it
    uid: int | None  # whose it is; None if nobody knows


@dataclass(frozen=True)
class Signs:
    """The sockets of a network namespace that a look has asked for, as it saw them."""

    # The keys of the TCP connections that count, by local port, and how many bytes make one count.
    clients: Mapping[int, frozenset[bytes]]
    least: Mapping[int, int]
    silent: Set[bytes]  # keys of the connections that do not count yet
    others: Set[bytes]  # keys of connections that count, whatever their port
    accepted: Mapping[str, frozenset[int]]  # inodes of the accepted unix sockets, by path
    tcp: TcpTable
    unix: UnixTable

    def changes(self, diag: Diag) -> tuple[set[Change], set[bytes]]:
        """Return what is another now, and the keys of the connections that would count if they had
        spoken. Raises the errors of ``diag``."""
        changes, silent = self._clients(diag)
        return changes | self._listeners(diag) | self._clients_of_paths(diag), silent

    def _listeners(self, diag: Diag) -> set[Change]:
        return self.new_listeners(TcpTable(diag.tcp_listening()), UnixTable(diag.unix_listening()))

    def new_listeners(self, tcp: TcpTable, unix: UnixTable) -> set[Change]:
        """Return whose sockets wait in those tables and did not at the look."""
        new: set[int | None] = set()
        for port, tcp_makers in tcp.listening.items():
            known = self.tcp.listening.get(port, {})
            if known != tcp_makers:
                new |= {tcp_makers[inode] for inode in tcp_makers.keys() - known.keys()}
        for pattern, known_paths in self.unix.asked.items():
            for path, makers in unix.listeners_at(pattern).items():
                known_makers = known_paths.get(path, {})
                new |= {makers[inode] for inode in makers.keys() - known_makers.keys()}
        return {Change(WAITS, uid) for uid in new}

    def _clients(self, diag: Diag) -> tuple[set[Change], set[bytes]]:
        ports = self.clients.keys() | {_port(key) for key in self.others}
        now = {key for _, _, key, _, _ in diag.tcp_at(ports) if key} if ports else set()
        left = {self._maker_at(port) for port, keys in self.clients.items() if not keys <= now}
        if not self.others <= now:
            left.add(None)
        # At a port that nobody has asked for there are none
        silent = {key for key in now if key not in self.clients.get(_port(key), (key,))}
        return {Change("a client that has left", uid) for uid in left}, silent

    def _maker_at(self, port: int) -> int | None:
        return _first(self.tcp.listening.get(port, {}).values())

    def _clients_of_paths(self, diag: Diag) -> set[Change]:
        if not self.accepted:
            return set()
        now = UnixTable((), diag.unix_accepted()).accepted
        return {
            Change("clients of a path", _first(self.unix.listeners(path).values()))
            for path, inodes in self.accepted.items()
            if inodes != set().union(*(now.get(each, ()) for each in addresses(path)))
        }

    def spoken(self, key: bytes, diag: Diag) -> set[Change]:
        """Return whether the silent connection of this ``key`` has said enough. Raises the same
        errors."""
        port = _port(key)
        if diag.received(key) < self.least[port]:
            return set()
        return {Change("a client that has come", self._maker_at(port))}


def signs_of(heard: Heard, tcp: TcpTable, unix: UnixTable) -> Signs:
    """Return what a look has ``heard`` of, as those tables had it."""
    keys = {port: frozenset(filter(None, heard.connections[port].values())) for port in heard.least}
    clients = {
        port: frozenset(key for key in keys[port] if (key, least) in heard)
        for port, least in heard.least.items()
    }
    return Signs(
        clients=clients,
        least=heard.least,
        # The kernel does not always count that one is accepted, as another may be closed meanwhile
        silent=frozenset().union(
            *(keys[port] - clients[port] | tcp.unaccepted.get(port, set()) for port in keys)
        ),
        others=frozenset(
            key
            for name, connections in heard.connections.items()
            if isinstance(name, str)
            for key in connections.values()
            if key
        ),
        accepted={
            path: inodes
            for path, inodes in heard.accepted.items()
            if not path.startswith(socket_path(0)[:-1])  # programs that come and go
        },
        tcp=tcp,
        unix=unix,
    )


def _port(key: bytes) -> int:
    """Return the local port of the socket of this ``key``."""
    return key[1] << 8 | key[2]


def _first(makers: Iterable[int | None]) -> int | None:
    return next(iter(makers), None)
