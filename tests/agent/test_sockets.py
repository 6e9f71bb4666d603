from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fastx_list.agent.sockets import Sockets

OURS = pytest.mark.parametrize("pid", [None, os.getpid()], ids=["by sock_diag", "by proc"])


@OURS
def test_tcp_clients_are_the_accepted_connections_to_a_port(pid: int | None) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as listener6,
    ):
        for server in (listener, listener6):
            port = server.getsockname()[1]
            with socket.create_connection(server.getsockname()[:2]):
                assert Sockets(pid).tcp_clients(port) == frozenset()  # nobody has accepted it
                accepted, _ = server.accept()
                with accepted:
                    assert Sockets(pid).tcp_clients(port) == {os.fstat(accepted.fileno()).st_ino}
        assert Sockets(pid).tcp_clients(port) == frozenset()


@pytest.mark.parametrize("abstract", [False, True])
def test_unix_clients_are_the_accepted_connections_at_a_path(
    tmp_path: Path, abstract: bool
) -> None:
    path = str(tmp_path / "a socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + path if abstract else path)
        server.listen()
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(server.getsockname())
            assert Sockets().unix_clients(path) == frozenset()
            accepted, _ = server.accept()
            with accepted:
                sockets = Sockets()
                assert sockets.unix_clients(path) == {os.fstat(accepted.fileno()).st_ino}
                assert sockets.unix_listeners(path) == {os.fstat(server.fileno()).st_ino}


def test_a_connection_whose_client_has_gone_does_not_count(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            accepted, _ = server.accept()
        with accepted:
            assert Sockets().unix_clients(path) == frozenset()


@OURS
def test_listening_ports_are_told_with_their_sockets(pid: int | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert Sockets(pid).tcp_listeners()[server.getsockname()[1]] == {
            os.fstat(server.fileno()).st_ino
        }
