"""The kernel's own account of sockets, sock_diag(7): no text of anybody's can forge a part of it.

It leaves out all states but those that are asked for: a busy machine has tens of thousands of
closed connections still waiting.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeAlias, TypeVar

from fastx_list.agent.door import EXHAUSTED, Unanswered

T = TypeVar("T")
# Of an answer: the bytes it is in, and where in them it begins and ends
_Part: TypeAlias = tuple[bytes, int, int]

ESTABLISHED, LISTEN = 1, 10  # tcp_states.h, of unix sockets too
_ATTEMPTS = 3  # for a table that changed while it was told, or that did not fit
# Of a table: 200,000 connections over TCP, or twice as many unix sockets. Their telling takes a
# tenth of that time, of the processor, as a rule.
MAX_BYTES, MAX_SECONDS = 16 * 1024 * 1024, 2.0
_TIMEOUT_SECONDS = 5.0  # the kernel answers at once

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _DUMP = 0x1, 0x300  # of the flags
_DUMP_WAS_INTERRUPTED = 0x10
_CLONE_NEWNET = 0x40000000
_BUFFER = 1 << 16  # twice what the kernel sends at once
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, sender
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type

_TCP_QUERY = struct.Struct("=BBBxI")  # inet_diag_req_v2: family, protocol, extensions, states; id
_TCP_ANSWER = struct.Struct("=xBxx48s12xII")  # inet_diag_msg: state, id, user, inode
_TCP_ID_BYTES = 48  # inet_diag_sockid: ports, addresses, interface, cookie
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


class TooMany(Unanswered):
    """There are more sockets than we can be kept busy with."""

    def __init__(self) -> None:
        super().__init__("there are too many sockets")


class _Again(Exception):
    """The answer is not whole."""


def check_is_said(error: OSError) -> None:
    """Raise :class:`fastx_list.agent.door.Unanswered` if ``error`` says only that we cannot ask
    now."""
    if error.errno in EXHAUSTED:
        raise Unanswered(f"the sockets cannot be asked for: {error.strerror}") from None


class Diag:
    """Asks the kernel about the sockets of the network namespace of process ``pid``, or of ours."""

    can_be_lied_to = False

    def __init__(self, pid: int | None = None) -> None:
        """Raises :class:`DiagError` if it may not be asked, and
        :class:`fastx_list.agent.door.Unanswered` if it cannot be asked now."""
        try:
            self._kernel = _connect() if pid is None else _connect_in(f"/proc/{pid}/ns/net")
        except OSError as error:
            check_is_said(error)
            raise DiagError(f"its sockets may not be asked for: {error.strerror}") from None
        self._kernel.settimeout(_TIMEOUT_SECONDS)
        # The number of the last question.
        self._sequence = 0

    def __enter__(self) -> Diag:
        return self

    def __exit__(self, *error: object) -> None:
        self._kernel.close()

    def tcp(self) -> list[tuple[int, int, bytes | None, int, int]]:
        """Return state, local port, key, user and inode of each established or listening TCP
        socket that somebody has open. A key is what no other socket has or had: its family and
        ``inet_diag_sockid``. Raises :class:`DiagError`, and
        :class:`fastx_list.agent.door.Unanswered` if that cannot be had now."""
        states = 1 << ESTABLISHED | 1 << LISTEN
        return [
            each
            for family in (socket.AF_INET, socket.AF_INET6)
            for each in self._whole(
                _tcp_query(family, 0, states, bytes(_TCP_ID_BYTES)), partial(_read_tcp, family)
            )
        ]

    def received(self, key: bytes) -> int:
        """Return how many bytes have come in at the TCP socket of this ``key``; none at one that is
        no more. Raises the same errors."""
        query = _tcp_query(key[0], 1 << _TCP_INFO - 1, _NO_COOKIE, key[1:])
        for data, position, end in self._ask(query, _REQUEST):
            info = dict(_attributes(data, position + _TCP_ANSWER.size, end)).get(_TCP_INFO, b"")
            if len(info) >= _TCP_RECEIVED.size:
                return int(_TCP_RECEIVED.unpack_from(info)[0])
        return 0

    def is_established(self, key: bytes) -> bool:
        """Return whether the TCP connection of this ``key`` is still there. Raises the same
        errors."""
        query = _tcp_query(key[0], 0, _NO_COOKIE, key[1:])
        return any(
            _TCP_ANSWER.unpack_from(data, position)[0] == ESTABLISHED
            for data, position, _ in self._ask(query, _REQUEST)
        )

    def unix(self) -> tuple[list[tuple[bytes, int, int | None]], list[tuple[bytes, int]]]:
        """Return address, inode and maker (``None`` before Linux 5.3) of each unix socket that
        accepts connections, and address and inode of each accepted one whose other end is still
        there. Raises the same errors."""
        return (
            self._whole(_unix_query(LISTEN, _SHOW_NAME | _SHOW_UID), _read_listeners),
            self._whole(_unix_query(ESTABLISHED, _SHOW_NAME | _SHOW_PEER), _read_accepted),
        )

    def accepted(self, inode: int) -> list[tuple[bytes, int]]:
        """Return the same of one accepted unix socket; nothing if it is none any more. Raises the
        same errors."""
        query = _unix_query(ESTABLISHED, _SHOW_NAME | _SHOW_PEER, inode)
        return _read_accepted(self._ask(query, _REQUEST))

    def _whole(self, query: bytes, read: Callable[[Iterator[_Part]], T]) -> T:
        """Return what ``read`` makes of a whole table."""
        for _ in range(_ATTEMPTS):
            try:
                return read(self._ask(query, _REQUEST | _DUMP))
            except _Again:
                continue
        raise Unanswered("the sockets change too fast")

    def _ask(self, query: bytes, flags: int) -> Iterator[_Part]:
        """Return each part of the answer."""
        self._sequence += 1
        header = _HEADER.size + len(query), _SOCK_DIAG_BY_FAMILY, flags, self._sequence, 0
        until, left = time.thread_time() + MAX_SECONDS, MAX_BYTES
        try:
            self._kernel.send(_HEADER.pack(*header) + query)
            while True:
                data, sender = self._kernel.recvfrom(_BUFFER)
                left -= len(data)
                if left < 0 or time.thread_time() > until:
                    raise TooMany
                # Who may administer a namespace may also send messages to us there
                if sender[0] != 0:
                    continue
                position = 0
                while position < len(data):
                    length, kind, state, sequence, _ = _HEADER.unpack_from(data, position)
                    if not _HEADER.size <= length <= len(data) - position:
                        raise DiagError("the kernel's answer is cut off")
                    if sequence == self._sequence:
                        if kind == _NLMSG_ERROR:
                            code = -_ERROR.unpack_from(data, position + _HEADER.size)[0]
                            if code in (errno.ENOENT, errno.ESTALE) and not flags & _DUMP:
                                return  # there is no such socket any more
                            raise DiagError(os.strerror(code))
                        if state & _DUMP_WAS_INTERRUPTED:
                            raise _Again
                        if kind == _NLMSG_DONE:
                            return
                        yield data, position + _HEADER.size, position + length
                        if not flags & _DUMP:
                            return
                    position += length + 3 & ~3
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise _Again from None
            if isinstance(error, TimeoutError):
                raise Unanswered("the kernel does not tell of the sockets") from None
            check_is_said(error)
            raise DiagError(str(error)) from None
        except struct.error:
            raise DiagError("the kernel's answer is cut off") from None


def _read_tcp(family: int, parts: Iterable[_Part]) -> list[tuple[int, int, bytes | None, int, int]]:
    found: list[tuple[int, int, bytes | None, int, int]] = []
    for data, position, _ in parts:
        state, key, uid, inode = _TCP_ANSWER.unpack_from(data, position)
        if inode:  # without one, nobody has accepted the connection yet
            found.append((state, key[0] << 8 | key[1], b"%c%b" % (family, key), uid, inode))
    return found


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


def _tcp_query(family: int, extensions: int, states: int, key: bytes) -> bytes:
    return _TCP_QUERY.pack(family, socket.IPPROTO_TCP, extensions, states) + key


def _unix_query(state: int, show: int, inode: int = 0) -> bytes:
    return _UNIX_QUERY.pack(socket.AF_UNIX, 0, 0, 1 << state, inode, show, _NO_COOKIE, _NO_COOKIE)


def _attributes(data: bytes, position: int, end: int) -> Iterator[tuple[int, bytes]]:
    while position + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[position + _ATTRIBUTE.size : position + length]
        position += length + 3 & ~3


def _connect() -> socket.socket:
    return socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
    )


def _connect_in(namespace: str) -> socket.socket:
    """Return such a socket that was made in another network namespace, which takes CAP_SYS_ADMIN
    and Python 3.12. Raises ``OSError``."""
    setns: Callable[[int, int], None] | None = getattr(os, "setns", None)
    if setns is None:
        raise PermissionError(errno.EPERM, "this Python cannot enter namespaces")
    made: list[socket.socket | OSError] = []

    def enter() -> None:
        try:
            with open(namespace, "rb") as entrance:
                setns(entrance.fileno(), _CLONE_NEWNET)
            made.append(_connect())
        except OSError as error:
            made.append(error)

    # A namespace is a thread's: this one enters it and ends there
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    [result] = made
    if isinstance(result, OSError):
        raise result
    return result
