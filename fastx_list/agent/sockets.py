"""The machine's sockets, as the kernel lists them.

TCP sockets come from sock_diag(7), which leaves out all but the states that are asked for: a busy
machine has tens of thousands of closed connections still waiting, and proc(5) would write a line
about each. Of another network namespace only proc(5) tells.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

_ESTABLISHED, _LISTEN = 1, 10  # tcp_states.h
_ACCEPTS = b"00010000"  # __SO_ACCEPTCON in the flags of /proc/net/unix
_CONNECTED = b"03"  # SS_CONNECTED in /proc/net/unix
# The kernel's reference count of a connected socket, af_unix.c: its file, its hash table, and its
# peer while that is open.
_PEER_IS_THERE = 3

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
# Inet_diag_req_v2: family, protocol, extensions, states, and any address
_QUERY = struct.Struct("=BBBxI48x")
# Inet_diag_msg, of which the first and the last fields matter here
_ANSWER = struct.Struct("=BBxxHHIIIIIIIIIIIIIIII")


class Sockets:
    """The sockets of one network namespace: ours, or that of process ``pid``. Each table is read
    once, when first asked for."""

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid
        # Inodes of established TCP sockets by local port; None until the table is read.
        self._tcp: dict[int, set[int]] | None = None
        # Inodes of listening TCP sockets by port.
        self._tcp_listening: dict[int, set[int]] = {}
        # Inodes of accepted unix sockets by path; None until the table is read.
        self._unix: dict[str, set[int]] | None = None
        # Inodes of listening unix sockets by path.
        self._unix_listening: dict[str, set[int]] = {}

    def tcp_clients(self, port: int) -> frozenset[int]:
        """Return the inodes of the accepted connections to local TCP ``port``."""
        return frozenset(self._read_tcp().get(port, ()))

    def tcp_listeners(self) -> Mapping[int, Set[int]]:
        """Return the TCP ports at which connections are accepted, with the inodes of the sockets
        that do."""
        self._read_tcp()
        return self._tcp_listening

    def unix_clients(self, path: str) -> frozenset[int]:
        """Return the inodes of the accepted connections to the unix socket at ``path`` (or at the
        abstract ``@path``).

        A socket's path is whatever its owner chose, line ends included, so an inode says something
        about another user's process only if that process has it open: see ``Machine.own_sockets``.
        """
        return self._at(self._read_unix(), path)

    def unix_listeners(self, path: str) -> frozenset[int]:
        """Return the inodes of the sockets that accept connections at ``path``; the caution above
        holds."""
        self._read_unix()
        return self._at(self._unix_listening, path)

    def listening_paths(self) -> Iterable[str]:
        """Return the paths at which unix sockets accept connections."""
        self._read_unix()
        return self._unix_listening

    @staticmethod
    def _at(sockets: Mapping[str, set[int]], path: str) -> frozenset[int]:
        return frozenset(sockets.get(path, set()) | sockets.get("@" + path, set()))

    def _read_tcp(self) -> Mapping[int, Set[int]]:
        if self._tcp is None:
            self._tcp = {}
            for state, port, inode in (
                _proc_tcp(self._pid) if self._pid is not None else _diag_tcp()
            ):
                if inode:  # without one, nobody has accepted the connection yet
                    table = self._tcp if state == _ESTABLISHED else self._tcp_listening
                    table.setdefault(port, set()).add(inode)
        return self._tcp

    def _read_unix(self) -> Mapping[str, set[int]]:
        if self._unix is None:
            self._unix = {}
            for line in _lines(f"/proc/{self._pid or 'self'}/net/unix"):
                fields = line.split(None, 7)
                if len(fields) != 8 or not fields[6].isdigit():
                    continue
                path, inode = os.fsdecode(fields[7]), int(fields[6])
                if fields[3] == _ACCEPTS:
                    self._unix_listening.setdefault(path, set()).add(inode)
                elif fields[5] == _CONNECTED and _number(fields[1]) >= _PEER_IS_THERE:
                    self._unix.setdefault(path, set()).add(inode)
        return self._unix


def _diag_tcp() -> Iterator[tuple[int, int, int]]:
    """Return state, local port and inode of each established or listening TCP socket of our own
    namespace."""
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
    ) as kernel:
        for family in (socket.AF_INET, socket.AF_INET6):
            query = _QUERY.pack(family, socket.IPPROTO_TCP, 0, 1 << _ESTABLISHED | 1 << _LISTEN)
            kernel.send(
                _HEADER.pack(_HEADER.size + len(query), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0)
                + query
            )
            done = False
            while not done:
                data = kernel.recv(1 << 20)
                position = 0
                while position < len(data):
                    length, kind, _, _, _ = _HEADER.unpack_from(data, position)
                    if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                        done = True
                        break
                    fields = _ANSWER.unpack_from(data, position + _HEADER.size)
                    yield fields[1], socket.ntohs(fields[2]), fields[-1]
                    position += (length + 3) & ~3


def _proc_tcp(pid: int) -> Iterator[tuple[int, int, int]]:
    for name in ("tcp", "tcp6"):
        for line in _lines(f"/proc/{pid}/net/{name}"):
            fields = line.split(None, 10)
            state = _number(fields[3])
            if state in (_ESTABLISHED, _LISTEN):
                yield state, _number(fields[1].rpartition(b":")[2]), int(fields[9])


def _lines(path: str) -> list[bytes]:
    try:
        return Path(path).read_bytes().splitlines()[1:]
    except OSError:
        return []


def _number(text: bytes) -> int:
    try:
        return int(text, 16)
    except ValueError:  # a path with line ends in it makes lines of its own
        return 0
