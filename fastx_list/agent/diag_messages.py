"""What is asked of sock_diag(7), and what that tells, as bytes. Nothing here has a socket."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from fastx_list.agent.diag_ports import only_at

# Of an answer: the bytes it is in, and where in them it begins and ends
_Part: TypeAlias = tuple[bytes, int, int]
# State, local port, key, user, inode
TcpSocket: TypeAlias = tuple[int, int, bytes | None, int, int]

ESTABLISHED, LISTEN = 1, 10  # tcp_states.h, of unix sockets too

_TCPDIAG_GETSOCK, _SOCK_DIAG_BY_FAMILY = 18, 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _DUMP = 0x1, 0x300  # of the flags
_DUMP_WAS_INTERRUPTED = 0x10
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, sender
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type

_TCP_QUERY = struct.Struct("=BBBxI")  # inet_diag_req_v2: family, protocol, extensions, states; id
# inet_diag_req: all but the states is left open. It asks for both families at once, which spares a
# second way through the kernel's table: that is as long as the machine is large.
_TCP_DUMP = struct.Struct("=52xI4x")
_TCP_ANSWER = struct.Struct("=BBxx48s12xII")  # inet_diag_msg: family, state, id, user, inode
_TCP_INFO = 2  # INET_DIAG_INFO
_TCP_RECEIVED = struct.Struct("=128xQ")  # tcpi_bytes_received in tcp_info

# unix_diag_req: family, protocol, states, inode, what to show, cookie
_UNIX_QUERY = struct.Struct("=BBHIIIII")
_NO_COOKIE = 0xFFFFFFFF
_UNIX_ANSWER = struct.Struct("=xxBxI8x")  # unix_diag_msg: state, inode
_UNIX_START = struct.Struct("=xxBxI8xHH")  # the same, and length and type of the first nlattr
_NAME, _PEER, _UID = 0, 2, 7  # UNIX_DIAG_…
_SHOW_NAME, _SHOW_PEER, _SHOW_UID = 0x1, 0x4, 0x40  # UDIAG_SHOW_…
_U32 = struct.Struct("=I")
_ERROR = struct.Struct("=i")


class DiagError(Exception):
    """The kernel cannot be asked, or does not say all; the message says why."""


class Interrupted(Exception):
    """The answer is not whole."""


class Question(NamedTuple):
    """What is asked: for a whole table, or for one socket."""

    kind: int
    query: bytes
    # Returns what the answer says
    read: Callable[[Iterable[_Part]], Any]
    is_table: bool = True

    def message(self, number: int) -> bytes:
        """Return what is to be sent; the answer bears the same ``number``."""
        flags = _REQUEST | (_DUMP if self.is_table else 0)
        length = _HEADER.size + len(self.query)
        return _HEADER.pack(length, self.kind, flags, number, 0) + self.query

    def ends_with(self, data: bytes, number: int) -> bool | None:
        """Return whether ``data`` is the last part of the answer; ``None`` if it is none of it.
        Raises :class:`DiagError` if the question is refused, and :class:`Interrupted`."""
        is_last = None
        for begin, _, kind, flags, whose in _messages(data):
            if whose == number:
                is_last = not self.is_table
                if kind == _NLMSG_ERROR:
                    code = -_ERROR.unpack_from(data, begin)[0]
                    if code in (errno.ENOENT, errno.ESTALE) and not self.is_table:
                        return True  # there is no such socket any more
                    raise DiagError(os.strerror(code))
                if flags & _DUMP_WAS_INTERRUPTED:
                    raise Interrupted
                if kind == _NLMSG_DONE:
                    return True
        return is_last

    def understand(self, answer: Iterable[bytes]) -> Any:
        """Return what ``answer``, all its parts, says. Raises :class:`DiagError`."""
        try:
            return self.read(_parts(answer))
        except struct.error:
            raise DiagError("the kernel's answer is cut off") from None


def _messages(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield where each message in ``data`` begins and ends, its type, its flags and its number."""
    position = 0
    while position < len(data):
        try:
            length, kind, flags, number, _ = _HEADER.unpack_from(data, position)
        except struct.error:
            length = 0
        if not _HEADER.size <= length <= len(data) - position:
            raise DiagError("the kernel's answer is cut off")
        yield position + _HEADER.size, position + length, kind, flags, number
        position += length + 3 & ~3


def _parts(answer: Iterable[bytes]) -> Iterator[_Part]:
    for data in answer:
        for begin, end, kind, _, _ in _messages(data):
            if kind not in (_NLMSG_DONE, _NLMSG_ERROR):
                yield data, begin, end


def _read_tcp(parts: Iterable[_Part]) -> list[TcpSocket]:
    found: list[TcpSocket] = []
    for data, position, _ in parts:
        family, state, key, uid, inode = _TCP_ANSWER.unpack_from(data, position)
        found.append((state, key[0] << 8 | key[1], b"%c%b" % (family, key), uid, inode))
    return found


def _read_received(parts: Iterable[_Part]) -> int:
    for data, position, end in parts:
        info = dict(_attributes(data, position + _TCP_ANSWER.size, end)).get(_TCP_INFO, b"")
        if len(info) >= _TCP_RECEIVED.size:
            return int(_TCP_RECEIVED.unpack_from(info)[0])
    return 0


def _read_is_established(parts: Iterable[_Part]) -> bool:
    return any(
        _TCP_ANSWER.unpack_from(data, position)[1] == ESTABLISHED for data, position, _ in parts
    )


def _read_listeners(parts: Iterable[_Part]) -> list[tuple[bytes, int, int | None]]:
    found: list[tuple[bytes, int, int | None]] = []
    for data, position, end in parts:
        _, inode = _UNIX_ANSWER.unpack_from(data, position)
        more = dict(_attributes(data, position + _UNIX_ANSWER.size, end))
        if _NAME in more:
            uid = _U32.unpack(more[_UID])[0] if _UID in more else None
            found.append((more[_NAME], inode, uid))
    return found


def _read_accepted(parts: Iterable[_Part]) -> list[tuple[bytes, int]]:
    found: list[tuple[bytes, int]] = []
    for data, position, end in parts:
        _, inode, length, kind = _UNIX_START.unpack_from(data, position)
        if kind != _NAME:  # a client's end has none, as a rule
            continue
        name = position + _UNIX_START.size
        peer = name - _ATTRIBUTE.size + (length + 3 & ~3)
        if peer + 8 > end or _ATTRIBUTE.unpack_from(data, peer)[1] != _PEER:
            continue
        # The other end has no inode once it is closed; ours has none until it is accepted
        if inode and _U32.unpack_from(data, peer + _ATTRIBUTE.size)[0]:
            found.append((data[name : name + length - _ATTRIBUTE.size], inode))
    return found


def _read_other_end(parts: Iterable[_Part]) -> tuple[int, int] | None:
    for data, position, _ in parts:
        _, state, _, uid, inode = _TCP_ANSWER.unpack_from(data, position)
        if state != LISTEN and inode:  # the kernel falls back on who listens at the port
            return uid, inode
    return None


def _read_peer(parts: Iterable[_Part]) -> int | None:
    return next((peer for peer in _numbers(parts, _PEER) if peer), None)


def _read_maker(parts: Iterable[_Part]) -> int | None:
    return next(_numbers(parts, _UID), None)


def _numbers(parts: Iterable[_Part], kind: int) -> Iterator[int]:
    for data, position, end in parts:
        for each, value in _attributes(data, position + _UNIX_ANSWER.size, end):
            if each == kind:
                yield _U32.unpack_from(value)[0]


def _attributes(data: bytes, position: int, end: int) -> Iterator[tuple[int, bytes]]:
    while position + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[position + _ATTRIBUTE.size : position + length]
        position += length + 3 & ~3


def _tcp_table(state: int) -> Question:
    return Question(_TCPDIAG_GETSOCK, _TCP_DUMP.pack(1 << state), _read_tcp)


def _tcp_query(key: bytes, extensions: int) -> bytes:
    return _TCP_QUERY.pack(key[0], socket.IPPROTO_TCP, extensions, _NO_COOKIE) + key[1:]


def _unix_query(state: int, show: int, inode: int = 0) -> bytes:
    return _UNIX_QUERY.pack(socket.AF_UNIX, 0, 0, 1 << state, inode, show, _NO_COOKIE, _NO_COOKIE)


def tcp_at(ports: Iterable[int]) -> Question:
    """Which connections over TCP are there at these local ``ports``? The answer may also tell of
    some at others."""
    query = _TCP_DUMP.pack(1 << ESTABLISHED) + only_at(ports)
    return Question(_TCPDIAG_GETSOCK, query, _read_tcp)


TCP_LISTENING, TCP_ESTABLISHED = _tcp_table(LISTEN), _tcp_table(ESTABLISHED)
UNIX_LISTENING = Question(
    _SOCK_DIAG_BY_FAMILY, _unix_query(LISTEN, _SHOW_NAME | _SHOW_UID), _read_listeners
)
UNIX_ACCEPTED = Question(
    _SOCK_DIAG_BY_FAMILY, _unix_query(ESTABLISHED, _SHOW_NAME | _SHOW_PEER), _read_accepted
)


def received(key: bytes) -> Question:
    """How many bytes have come in at a TCP socket?"""
    query = _tcp_query(key, 1 << _TCP_INFO - 1)
    return Question(_SOCK_DIAG_BY_FAMILY, query, _read_received, is_table=False)


def is_established(key: bytes) -> Question:
    """Is the TCP connection of this ``key`` still there?"""
    query = _tcp_query(key, 0)
    return Question(_SOCK_DIAG_BY_FAMILY, query, _read_is_established, is_table=False)


def accepted(inode: int) -> Question:
    """What is the accepted unix socket with this ``inode``?"""
    query = _unix_query(ESTABLISHED, _SHOW_NAME | _SHOW_PEER, inode)
    return Question(_SOCK_DIAG_BY_FAMILY, query, _read_accepted, is_table=False)


def other_end(key: bytes) -> Question:
    """Who has made the other end of the TCP connection of this ``key``, and what is its inode, if
    that is in the same network namespace?"""
    ports, addresses = key[3:5] + key[1:3], key[21:37] + key[5:21]
    swapped = key[:1] + ports + addresses + key[37:41] + _U32.pack(_NO_COOKIE) * 2
    query = _tcp_query(swapped, 0)
    return Question(_SOCK_DIAG_BY_FAMILY, query, _read_other_end, is_table=False)


def peer(inode: int) -> Question:
    """Which is the other end of this unix socket?"""
    query = _unix_query(ESTABLISHED, _SHOW_PEER, inode)
    return Question(_SOCK_DIAG_BY_FAMILY, query, _read_peer, is_table=False)


def maker(inode: int) -> Question:
    """Which user has made this unix socket?"""
    query = _unix_query(ESTABLISHED, _SHOW_UID, inode)
    return Question(_SOCK_DIAG_BY_FAMILY, query, _read_maker, is_table=False)


def remote_address(key: bytes) -> bytes:
    """Return the address of the other end of the TCP connection of this ``key``, 4 or 16 bytes."""
    return key[21:25] if key[0] == socket.AF_INET else key[21:37]
