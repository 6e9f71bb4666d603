from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastx_list.agent import diag as diag_module
from fastx_list.agent import proc_net
from fastx_list.agent import sockets as sockets_module
from fastx_list.agent.diag import Diag
from fastx_list.agent.diag_messages import DiagError
from fastx_list.agent.heard import Heard
from fastx_list.agent.machine import Machine
from fastx_list.agent.proc_net import ProcNet
from fastx_list.agent.sockets import Sockets, all_of

FORGED = "\0x\n0000000000000000: 00000003 00000000 00000000 0001 03 4242 /tmp/victim"


@pytest.fixture(params=["by sock_diag", "by proc"])
def teller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who tells of our sockets, to ``Sockets()``."""
    other = {"by sock_diag": "ProcNet", "by proc": "Diag"}[request.param]

    def refuse(*_: object) -> None:
        raise DiagError("refused")

    monkeypatch.setattr(sockets_module, other, refuse if other == "Diag" else Diag)
    return str(request.param)


def inode(of: socket.socket) -> int:
    return os.fstat(of.fileno()).st_ino


def test_tcp_clients_are_the_accepted_connections_to_a_port(teller: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as listener6,
    ):
        for server in (listener, listener6):
            port = server.getsockname()[1]
            with socket.create_connection(server.getsockname()[:2]) as client:
                client.send(b"x")
                assert Sockets().tcp_clients(port) == frozenset()  # nobody has accepted it
                accepted, _ = server.accept()
                with accepted:
                    assert Sockets().tcp_clients(port) == frozenset({inode(accepted)})
        assert Sockets().tcp_clients(port) == frozenset()


def test_who_says_too_little_is_no_tcp_client() -> None:
    heard = Heard()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(server.getsockname()) as client:
            accepted, _ = server.accept()
            with accepted:
                ours = frozenset({inode(accepted)})
                assert Sockets(heard=heard).tcp_clients(port) == frozenset()
                client.send(b"123")
                assert Sockets(heard=heard).tcp_clients(port) == ours
                assert Sockets(heard=heard).tcp_clients(port, 4) == frozenset()
                client.send(b"4")
                assert Sockets(heard=heard).tcp_clients(port, 4) == ours
                assert Sockets(heard=heard).tcp_clients(port, 5) == frozenset()
                assert len(heard) == 2
        assert Sockets(heard=heard).tcp_clients(port) == frozenset() and len(heard) == 0


def test_who_has_spoken_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(server.getsockname()) as client:
            accepted, _ = server.accept()
            with accepted:
                client.send(b"x")
                assert Sockets(heard=heard).tcp_clients(port)
                monkeypatch.delattr(Diag, "received")
                assert Sockets(heard=heard).tcp_clients(port)


@pytest.mark.parametrize("abstract", [False, True])
def test_unix_clients_are_the_accepted_connections_at_a_path(
    teller: str, tmp_path: Path, abstract: bool
) -> None:
    path = str(tmp_path / "a socket")
    address = "\0" + path if abstract else path
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(server.getsockname())
            assert Sockets().unix_clients(path) == frozenset()
            accepted, _ = server.accept()
            with accepted:
                sockets = Sockets()
                assert sockets.unix_clients(path) == frozenset({inode(accepted)})
                assert sockets.unix_clients(address) == frozenset({inode(accepted)})
                maker = os.geteuid() if teller == "by sock_diag" else None
                assert sockets.unix_listeners(path) == {inode(server): maker}
                assert address in sockets.listening_paths()


def test_a_connection_whose_client_has_gone_does_not_count(teller: str, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            accepted, _ = server.accept()
        with accepted:
            assert Sockets().unix_clients(path) == frozenset()


def test_listening_ports_are_told_with_their_sockets(teller: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert Sockets().tcp_listeners()[port] == {inode(server): os.geteuid()}


@pytest.fixture
def some_sockets(tmp_path: Path) -> Iterator[None]:
    """What no table is empty with, on whatever machine."""
    path = str(tmp_path / "some")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as client,
    ):
        listener.bind(path)
        listener.listen()
        client.connect(path)
        yield


@pytest.mark.usefixtures("some_sockets")
def test_a_table_of_too_many_sockets_is_unknown_now_and_has_rest(
    monkeypatch: pytest.MonkeyPatch, teller: str
) -> None:
    monkeypatch.setattr(diag_module if teller == "by sock_diag" else proc_net, "MAX_BYTES", 100)
    heard = Heard()
    sockets = Sockets(heard=heard)
    assert sockets.unix_clients("/tmp/x") is None and sockets.tcp_clients(1) is None
    assert sockets.unanswered == "there are too many sockets"
    monkeypatch.undo()
    assert Sockets(heard=heard).tcp_clients(1) is None
    heard.rests = {"unix": time.monotonic() + 60, "tcp": time.monotonic()}
    sockets = Sockets(heard=heard)
    assert sockets.tcp_clients(1) == frozenset() and sockets.unanswered is None
    assert sockets.unix_clients("/tmp/x") is None and sockets.unanswered is not None


def test_a_look_at_too_many_sockets_takes_no_more_time_than_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(diag_module, "MAX_SECONDS", -1.0)
    assert Sockets().unix_clients("/tmp/x") is None


def test_without_descriptors_nobody_knows_now_who_is_connected() -> None:
    heard = Heard()
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            client.send(b"x")
            accepted, _ = server.accept()
            with accepted:
                port, ours = server.getsockname()[1], frozenset({inode(accepted)})
                late = Sockets(heard=heard)
                assert late._tcp
                with no_descriptors():
                    sockets = Sockets(heard=heard)
                    assert sockets.unix_clients("/tmp/x") is None and sockets.unanswered
                    # Nor who has spoken: it counts neither as yes nor as no
                    assert late.tcp_clients(port) is None and late.unanswered
                assert Sockets(heard=heard).tcp_clients(port) == ours


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_forged_line_makes_no_other_socket_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise DiagError("refused")

    monkeypatch.setattr(sockets_module, "Diag", refuse)
    machine = Machine()
    machine.look()
    me = machine.processes[os.getpid()]
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as forger,
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        line = FORGED.replace("4242", str(inode(tcp)))
        forger.bind(line)
        forger.listen()
        server.bind("\0/tmp/honest")
        server.listen()
        client.connect("\0/tmp/honest")
        accepted, _ = server.accept()
        with accepted:
            sockets = machine.sockets(me)
            forged = sockets.unix_clients("/tmp/victim")
            assert forged == frozenset({inode(tcp)})
            assert machine.own_sockets(me, forged) == frozenset()
            honest = sockets.unix_clients("/tmp/honest")
            assert honest is not None and machine.own_sockets(me, honest) == {inode(accepted)}
            assert machine.own_listeners(me, {inode(tcp): None}) == frozenset()


@pytest.fixture
def forger() -> Iterator[socket.socket]:
    """A socket by whose name the kernel writes a line more into /proc/net/unix."""
    with socket.socket(socket.AF_UNIX) as forger:
        forger.bind(FORGED)
        forger.listen()
        yield forger


def test_a_line_end_in_a_name_forges_nothing(forger: socket.socket) -> None:
    sockets = Sockets()
    assert sockets.unix_clients("/tmp/victim") == frozenset()
    assert sockets.unix_listeners(FORGED) == {inode(forger): os.geteuid()}


@pytest.mark.parametrize("line", ["no line", f"{FORGED[3:]}\n{FORGED[3:]}"])
def test_a_table_that_somebody_wrote_into_says_nothing(
    monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    def refuse(*_: object) -> None:
        raise DiagError("refused")

    monkeypatch.setattr(sockets_module, "Diag", refuse)
    with socket.socket(socket.AF_UNIX) as forger:
        forger.bind(f"\0\n{line}"[:107])
        forger.listen()
        with pytest.raises(DiagError):
            ProcNet().unix()
        sockets = Sockets()
        assert sockets.unix_clients("/tmp/victim") is None and not sockets.unix_is_known
        assert sockets.unix_listeners("/tmp/victim") == {}


def test_a_table_that_comes_in_parts_is_read_whole() -> None:
    pairs = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + "n" * 100)
        server.listen(4096)
        try:
            for _ in range(450):
                client = socket.socket(socket.AF_UNIX)
                client.connect(server.getsockname())
                pairs += [client, server.accept()[0]]
            found = Sockets().unix_clients("n" * 100)
            assert found == frozenset(map(inode, pairs[1::2]))
        finally:
            for each in pairs:
                each.close()


def test_a_connection_that_the_table_leaves_out_is_asked_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = Heard()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(server.getsockname()) as client:
            accepted, _ = server.accept()
            with accepted:
                client.send(b"x")
                ours = frozenset({inode(accepted)})
                assert Sockets(heard=heard).tcp_clients(port) == ours
                monkeypatch.setattr(Diag, "tcp", lambda self: [])
                for _ in range(2):
                    assert Sockets(heard=heard).tcp_clients(port) == ours
                client.shutdown(socket.SHUT_WR)
                assert accepted.recv(10) == b"x" and accepted.recv(10) == b""
                assert Sockets(heard=heard).tcp_clients(port) == frozenset()
    assert Sockets(heard=heard).tcp_clients(port) == frozenset()


def test_a_unix_connection_that_the_table_leaves_out_is_asked_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, path = Heard(), str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            accepted, _ = server.accept()
            ours = frozenset({inode(accepted)})
            assert Sockets(heard=heard).unix_clients(path) == ours
            monkeypatch.setattr(Diag, "unix", lambda self: ([], []))
            for _ in range(2):
                assert Sockets(heard=heard).unix_clients(path) == ours
        assert Sockets(heard=heard).unix_clients(path) == frozenset()
        accepted.close()
    assert Sockets(heard=heard).unix_clients(path) == frozenset()


def test_all_of_what_is_not_known_is_not_known() -> None:
    assert all_of(frozenset({1}), frozenset({2})) == frozenset({1, 2})
    assert all_of(frozenset({1}), None) is None
