"""The kernel's own account of sockets, sock_diag(7): no text of anybody's can forge a part of it.

It leaves out all states but those that are asked for: a busy machine has tens of thousands of
closed connections still waiting.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeAlias

from fastx_list.agent import diag_messages
from fastx_list.agent.diag_messages import (
    TCP_ESTABLISHED,
    TCP_LISTENING,
    UNIX_ACCEPTED,
    UNIX_LISTENING,
    DiagError,
    Interrupted,
    Question,
    TcpSocket,
)
from fastx_list.agent.door import EXHAUSTED, Unanswered
from fastx_list.agent.tcp_counters import connections_made

# Answers as they came, and what they say, by what was asked
Kept: TypeAlias = dict[bytes, tuple[list[bytes], Any]]

_ATTEMPTS = 3  # for a table that changed while it was told, or that did not fit
# Of a table: 200,000 connections over TCP, or twice as many unix sockets. Their telling takes a
# tenth of that time, of the processor, as a rule.
MAX_BYTES, MAX_SECONDS = 16 * 1024 * 1024, 2.0
MAX_KEPT_BYTES = 512 * 1024  # of an answer that is compared with the next one
_TIMEOUT_SECONDS = 5.0  # the kernel answers at once
_NETLINK_SOCK_DIAG = 4
_CLONE_NEWNET = 0x40000000
_BUFFER = 1 << 16  # twice what the kernel sends at once
_OUR_SENDER = 1 << 31  # beside our pid, by which other sockets of this process may be known


class TooMany(Unanswered):
    """There are more sockets than we can be kept busy with."""

    def __init__(self) -> None:
        super().__init__("there are too many sockets")


def check_is_said(error: OSError) -> None:
    """Raise :class:`fastx_list.agent.door.Unanswered` if ``error`` says only that we cannot ask
    now."""
    if error.errno in EXHAUSTED:
        raise Unanswered(f"the sockets cannot be asked for: {error.strerror}") from None


class Diag:
    """Asks the kernel about the sockets of the network namespace of process ``pid``, or of ours."""

    can_be_lied_to = False
    has_told_all = True

    def __init__(self, pid: int | None = None, kept: Kept | None = None) -> None:
        """``kept`` is what was told before. Raises :class:`DiagError` if it may not be asked, and
        :class:`fastx_list.agent.door.Unanswered` if it cannot be asked now."""
        self._pid = pid
        self._kept: Kept = {} if kept is None else kept
        try:
            self._kernel = _connect() if pid is None else _connect_in(f"/proc/{pid}/ns/net")
        except OSError as error:
            check_is_said(error)
            raise DiagError(f"its sockets may not be asked for: {error.strerror}") from None
        with suppress(OSError):  # then the kernel calls us something else
            # The same name each time, so that the same answer is the same bytes
            self._kernel.bind((_OUR_SENDER | os.getpid(), 0))
        self._kernel.settimeout(_TIMEOUT_SECONDS)
        # Of the last question about one socket.
        self._number = 0

    def __enter__(self) -> Diag:
        return self

    def __exit__(self, *error: object) -> None:
        self._kernel.close()

    def tcp(self) -> list[TcpSocket]:
        """Return state, local port, key, user and inode of each established or listening TCP
        socket; a connection has no inode until somebody accepts it. A key is what no other socket
        has or had: its family and ``inet_diag_sockid``. Raises :class:`DiagError`, and
        :class:`fastx_list.agent.door.Unanswered` if that cannot be had now."""
        return [*self._table(TCP_LISTENING), *self._table(TCP_ESTABLISHED)]

    def tcp_listening(self) -> list[TcpSocket]:
        """Return the same of the listening ones. Raises the same errors."""
        found: list[TcpSocket] = self._table(TCP_LISTENING)
        return found

    def tcp_at(self, ports: Iterable[int]) -> list[TcpSocket]:
        """Return the same of the established ones at local ``ports``, and maybe of some at others.
        Raises the same errors."""
        question = diag_messages.tcp_at(ports)
        found: list[TcpSocket] = question.understand(self._answer(question))
        return found

    def tcp_sign(self) -> object:
        """Return what is another one when :meth:`tcp` returns something else, but for connections
        that their other end alone has left; ``None`` if that cannot be had. It takes a fiftieth of
        the time. Raises the same errors."""
        made = connections_made(self._pid)
        if made is None:
            return None
        # Of each socket that listens is told how many connections wait to be accepted
        return made, self._answer(TCP_LISTENING)

    def received(self, key: bytes) -> int:
        """Return how many bytes have come in at the TCP socket of this ``key``; none at one that is
        no more. Raises the same errors."""
        return int(self._one(diag_messages.received(key)))

    def is_established(self, key: bytes) -> bool:
        """Return whether the TCP connection of this ``key`` is still there. Raises the same
        errors."""
        return bool(self._one(diag_messages.is_established(key)))

    def unix(self) -> tuple[list[tuple[bytes, int, int | None]], list[tuple[bytes, int]]]:
        """Return address, inode and maker (``None`` before Linux 5.3) of each unix socket that
        accepts connections, and address and inode of each accepted one whose other end is still
        there: the same lists as before if nothing has changed. Raises the same errors."""
        return self.unix_listening(), self.unix_accepted()

    def unix_listening(self) -> list[tuple[bytes, int, int | None]]:
        """Return the first half of it. Raises the same errors."""
        found: list[tuple[bytes, int, int | None]] = self._table(UNIX_LISTENING)
        return found

    def unix_accepted(self) -> list[tuple[bytes, int]]:
        """Return the second half of it. Raises the same errors."""
        found: list[tuple[bytes, int]] = self._table(UNIX_ACCEPTED)
        return found

    def accepted(self, inode: int) -> list[tuple[bytes, int]]:
        """Return the same of one accepted unix socket; nothing if it is none any more. Raises the
        same errors."""
        found: list[tuple[bytes, int]] = self._one(diag_messages.accepted(inode))
        return found

    def other_end(self, key: bytes) -> tuple[int, int] | None:
        """Return maker and inode of the other end of the TCP connection of this ``key``; ``None``
        if it is not in this network namespace. Raises the same errors."""
        found: tuple[int, int] | None = self._one(diag_messages.other_end(key))
        return found

    def unix_peer(self, inode: int) -> tuple[int | None, int] | None:
        """Return the same of a unix socket; the maker is ``None`` before Linux 5.3. Raises the same
        errors."""
        peer: int | None = self._one(diag_messages.peer(inode))
        return None if peer is None else (self._one(diag_messages.maker(peer)), peer)

    def _table(self, question: Question) -> Any:
        """Return what a whole table says: the same object as before if it is the same."""
        answer = self._answer(question)
        known, said = self._kept.get(question.query, (None, None))
        if answer is not known:
            said = question.understand(answer)
            self._kept.pop(question.query, None)
            if sum(map(len, answer)) <= MAX_KEPT_BYTES:
                self._kept[question.query] = answer, said
        return said

    def _answer(self, question: Question) -> list[bytes]:
        """Return a whole table as it is told: the same object as is kept if it is the same."""
        known = self._kept.get(question.query, ([], None))[0]
        for attempt in range(_ATTEMPTS):
            try:
                # The same number each time, as above
                return self._exchange(question, zlib.crc32(question.query, attempt), known)
            except Interrupted:
                continue
        raise Unanswered("the sockets change too fast")

    def _one(self, question: Question) -> Any:
        """Return what is said of one socket."""
        self._number += 1
        return question.understand(self._exchange(question, self._number, []))

    def _exchange(self, question: Question, number: int, known: list[bytes]) -> list[bytes]:
        """Return the answer to a ``question`` of this ``number``; ``known`` if it is that."""
        until, left = time.thread_time() + MAX_SECONDS, MAX_BYTES
        answer: list[bytes] = []
        try:
            self._kernel.send(question.message(number))
            while True:
                data, sender = self._kernel.recvfrom(_BUFFER)
                left -= len(data)
                if left < 0 or time.thread_time() > until:
                    raise TooMany
                # Who may administer a namespace may also send messages to us there
                if sender[0] != 0:
                    continue
                position = len(answer)
                if known[position : position + 1] == [data]:
                    is_last: bool | None = position + 1 == len(known)
                else:
                    is_last = question.ends_with(data, number)
                if is_last is not None:
                    answer.append(data)
                if is_last:
                    return known if answer == known else answer
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise Interrupted from None
            if isinstance(error, TimeoutError):
                raise Unanswered("the kernel does not tell of the sockets") from None
            check_is_said(error)
            raise DiagError(str(error)) from None


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
