"""Sockets as proc(5) lists them, for where the kernel may not be asked through sock_diag(7).

Whoever names an abstract socket writes into /proc/PID/net/unix, line ends included. So a table with
a line that is none, or with a socket that is there twice, is not believed at all, and of what is
left only what is really a unix socket: see ``Machine.own_sockets``.
"""

from __future__ import annotations

import re

from fastx_list.agent.diag import MAX_BYTES, Kept, TooMany, check_is_said
from fastx_list.agent.diag_messages import ESTABLISHED, LISTEN, DiagError, TcpSocket
from fastx_list.agent.tcp_counters import connections_made, sockets_in_use

_ACCEPTS = b"00010000"  # __SO_ACCEPTCON
_CONNECTED = b"03"  # SS_CONNECTED
# The kernel's reference count of a connected socket, af_unix.c: its file, its hash table, and its
# peer while that is open.
_PEER_IS_THERE = 3
# Address in memory, references, protocol, flags, type, state, inode, name
_UNIX_LINE = re.compile(
    rb"[0-9a-f]+: ([0-9A-F]{8}) [0-9A-F]{8} ([0-9A-F]{8}) [0-9A-F]{4} ([0-9A-F]{2}) +([0-9]+)"
    rb"(?: (.*))?",
    re.DOTALL,
)
# Number, local address, remote address, state, queues, timer, retries, user, timeout, inode, more
_TCP_LINE = re.compile(
    rb" *[0-9]+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{2}) \S+ \S+ \S+ +([0-9]+)"
    rb" +[0-9]+ ([0-9]+) .*"
)


class ProcNet:
    """Reads the tables of the network namespace of process ``pid``, or of ours. Its methods are
    those of :class:`fastx_list.agent.diag.Diag`."""

    can_be_lied_to = True  # for ``unix``
    # Whether ``tcp`` has left out no connection that nobody has accepted yet.
    has_told_all = True

    def __init__(self, pid: int | None = None, kept: Kept | None = None) -> None:
        self._pid = pid
        self._directory = f"/proc/{pid or 'self'}/net"

    def __enter__(self) -> ProcNet:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def tcp(self) -> list[TcpSocket]:
        """As ``Diag.tcp``, without keys."""
        found: dict[int, TcpSocket] = {}
        for name in ("tcp", "tcp6"):
            for line in self._lines(name):
                port, state, uid, inode = _fields(_TCP_LINE, line)
                number = int(inode)
                if not number and int(state, 16) == ESTABLISHED:
                    self.has_told_all = False
                if int(state, 16) in (ESTABLISHED, LISTEN) and number:
                    if number in found:
                        raise DiagError("a socket is there twice")
                    found[number] = int(state, 16), int(port, 16), None, int(uid), number
        return list(found.values())

    def tcp_sign(self) -> object:
        """As ``Diag.tcp_sign``. Where as many sockets begin to listen as have ceased to, it is the
        same; and where a connection is accepted."""
        made = connections_made(self._pid)
        return None if made is None else (made, sockets_in_use(self._pid))

    def received(self, key: bytes) -> int:
        """Not to be known."""
        raise DiagError("proc(5) does not tell what has come in")

    def is_established(self, key: bytes) -> bool:
        """Not to be known: what proc(5) tells of has no key."""
        raise DiagError("proc(5) cannot be asked for one connection")

    def other_end(self, key: bytes) -> tuple[int, int] | None:
        """Not to be known, likewise."""
        raise DiagError("proc(5) cannot be asked for one connection")

    def unix_peer(self, inode: int) -> tuple[int | None, int] | None:
        """Not to be known."""
        raise DiagError("proc(5) does not tell which sockets belong together")

    def unix(self) -> tuple[list[tuple[bytes, int, int | None]], list[tuple[bytes, int]]]:
        """As ``Diag.unix``; who made a socket is not told."""
        listening: list[tuple[bytes, int, int | None]] = []
        accepted: list[tuple[bytes, int]] = []
        inodes: set[int] = set()
        for line in self._lines("unix"):
            references, flags, state, inode, name = _fields(_UNIX_LINE, line)
            number = int(inode)
            if number in inodes:
                raise DiagError("a socket is there twice")
            if number:  # without one, nobody has accepted the connection yet
                inodes.add(number)
                if name is not None:
                    address = b"\0" + name[1:] if name[:1] == b"@" else name + b"\0"
                    if flags == _ACCEPTS:
                        listening.append((address, number, None))
                    elif state == _CONNECTED and int(references, 16) >= _PEER_IS_THERE:
                        accepted.append((address, number))
        return listening, accepted

    def accepted(self, inode: int) -> list[tuple[bytes, int]]:
        """Not to be known but from the whole table."""
        raise DiagError("proc(5) cannot be asked for one socket")

    def _lines(self, name: str) -> list[bytes]:
        """Return a table's lines. Raises :class:`DiagError`, and
        :class:`fastx_list.agent.door.Unanswered` if it cannot be read now."""
        try:
            with open(f"{self._directory}/{name}", "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:  # such as tcp6 without IPv6
            return []
        except OSError as error:
            check_is_said(error)
            raise DiagError(f"{error.strerror}") from None
        if len(data) > MAX_BYTES:
            raise TooMany
        lines = data.split(b"\n")
        if lines.pop():
            raise DiagError(f"{name} ends within a line")
        return lines[1:]


def _fields(pattern: re.Pattern[bytes], line: bytes) -> tuple[bytes, ...]:
    match = pattern.fullmatch(line)
    if match is None:
        raise DiagError("a line is not well-formed")
    return match.groups()
