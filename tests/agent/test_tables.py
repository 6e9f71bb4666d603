from __future__ import annotations

import math
import socket
import struct
import time
import zlib

import pytest

from fastx_list.agent import diag, proc_net, sockets
from fastx_list.agent.diag import Diag
from fastx_list.agent.diag_messages import UNIX_LISTENING, DiagError
from fastx_list.agent.heard import Heard
from fastx_list.agent.sockets import Sockets
from fastx_list.agent.tables import TcpTable
from tests.agent.test_sockets import inode


def test_a_table_of_the_same_connections_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # What else this machine does is nothing to it
    counters, heard = [(b"1", b"1", b"1")], Heard()
    monkeypatch.setattr(diag, "connections_made", lambda pid: counters[-1])
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert Sockets(heard=heard).tcp_clients(port) == frozenset()
        known = Sockets(heard=heard)._tcp
        assert Sockets(heard=heard)._tcp is known
        with socket.create_connection(server.getsockname()) as client:
            client.send(b"x")
            # One that waits to be accepted, and one that was, show at the socket that listens
            waiting = Sockets(heard=heard)._tcp
            assert waiting is not known
            accepted, _ = server.accept()
            with accepted:
                assert Sockets(heard=heard).tcp_clients(port) == frozenset({inode(accepted)})
                counters.append((b"1", b"2", b"2"))
                known = Sockets(heard=heard)._tcp
                assert Sockets(heard=heard)._tcp is known
                assert heard.tcp is not None
                later = heard.tcp.until
                monkeypatch.setattr(time, "monotonic", lambda: later)
                assert Sockets(heard=heard)._tcp is not known


def test_a_listed_table_is_read_again_while_a_connection_waits_and_where_counts_are_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise DiagError("refused")

    counters, heard = [(b"1", b"1", b"1")], Heard()
    monkeypatch.setattr(sockets, "Diag", refuse)
    monkeypatch.setattr(proc_net, "connections_made", lambda pid: counters[-1])
    monkeypatch.setattr(proc_net, "sockets_in_use", lambda pid: ())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(server.getsockname()):
            assert Sockets(heard=heard).tcp_clients(port) == frozenset()
            # Where another program's connection waits, too, it is read again, whatever this does
            waiting = heard.tcp
            assert waiting is not None and waiting.until <= time.monotonic()
            accepted, _ = server.accept()
            with accepted:
                assert Sockets(heard=heard).tcp_clients(port) == frozenset({inode(accepted)})
                assert heard.tcp is not waiting
        held = TcpTable()
        heard.tcp = heard.tcp._replace(table=held, until=math.inf) if heard.tcp else None
        assert Sockets(heard=heard)._tcp is held
        counters.append((b"1", b"1", b"0"))
        assert Sockets(heard=heard)._tcp is not held


def test_a_table_whose_first_part_alone_is_another_is_another() -> None:
    def part(inode: int, kind: int = 20) -> bytes:
        name = struct.pack("=HH4s", 8, 0, b"/x/\0")
        unix = struct.pack("=BBBxI8x", socket.AF_UNIX, 1, 10, inode) + name
        return struct.pack("=IHHII", 16 + len(unix), kind, 2, number, 0) + unix

    class Kernel:
        def recvfrom(self, size: int) -> tuple[bytes, tuple[int, int]]:
            return answer.pop(0), (0, 0)

        send = settimeout = close = lambda *_: None

    number = zlib.crc32(UNIX_LISTENING.query)
    teller = Diag()
    teller._kernel.close()
    teller._kernel = Kernel()  # type: ignore[assignment]
    for inodes in ((1, 2), (3, 2), (3, 4), (3, 4)):
        answer = [*map(part, inodes), part(0, kind=3)]
        assert [found for _, found, _ in teller._table(UNIX_LISTENING)] == [*inodes]
