"""By what it is told that sockets have changed since a look: real ones."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import pytest

from fastx_list.agent import traffic as module
from fastx_list.agent.diag import Diag
from fastx_list.agent.diag_messages import DiagError
from fastx_list.agent.door import Unanswered
from fastx_list.agent.heard import Heard
from fastx_list.agent.signs import Change, Signs
from fastx_list.agent.sockets import Sockets
from fastx_list.agent.traffic import SELDOM, Counts, Traffic
from fastx_list.agent.x11 import socket_path
from tests.support import wait_for
from tests.system.sessions import free_display

COME, LEFT = "a client that has come", "a client that has left"
WAITS, PATH = "a new socket that waits", "clients of a path"
US = os.geteuid()


class Looking:
    """Looks at what a test asks for, and tells what has changed since."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._heard = Heard()
        # What the last look was told of those whom it left out.
        self.told: set[Change] = set()

    def look(self, *asks: Callable[[Sockets], object], left_out: Set[int] = frozenset()) -> None:
        self.traffic.begin()
        sockets = Sockets(None, self._heard, not left_out)
        for ask in asks:
            ask(sockets)
        self.told = self.traffic.follow(sockets.signs, left_out)

    def changes(self, *wanted: str) -> set[str]:
        """Return what has changed, once those that are ``wanted`` are among it."""
        found: set[Change] = set()

        def come() -> bool:
            found.update(self.traffic.changes())
            return {each.what for each in found} >= {*wanted}

        wait_for(f"{wanted}", come)
        assert {each.uid for each in found} <= {US}
        return {each.what for each in found}


@pytest.fixture
def looking() -> Iterator[Looking]:
    looking = Looking()
    yield looking
    looking.traffic.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def at(server: socket.socket, least: int = 1) -> Callable[[Sockets], object]:
    return lambda sockets: sockets.tcp_clients(server.getsockname()[1], least)


def test_who_connects_to_a_port_that_a_look_has_asked_for_and_speaks_is_told(
    looking: Looking, server: socket.socket
) -> None:
    looking.look(at(server))
    with socket.create_connection(server.getsockname()) as client, server.accept()[0]:
        client.send(b"x")
        assert looking.changes(COME) == {COME}


@pytest.mark.parametrize("connects_before", [True, False])
def test_who_is_accepted_is_told_also_if_the_kernel_counts_as_many_sockets_as_before(
    looking: Looking, server: socket.socket, monkeypatch: pytest.MonkeyPatch, connects_before: bool
) -> None:
    with socket.socket() as client:
        if connects_before:
            client.connect(server.getsockname())
        looking.look(at(server))
        if not connects_before:
            client.connect(server.getsockname())
            assert not looking.traffic.changes()
        # Another one is closed at that moment; those of netlink(7) some time after their end
        monkeypatch.setattr(Counts, "are_new", lambda counts: False)
        with server.accept()[0]:
            client.send(b"x")
            assert looking.changes(COME) == {COME}


def test_who_leaves_is_told(looking: Looking, server: socket.socket) -> None:
    with socket.create_connection(server.getsockname()) as client:
        client.send(b"x")
        accepted, _ = server.accept()
        looking.look(at(server))
        client.close()
        accepted.close()
    assert looking.changes(LEFT) == {LEFT}


def test_what_happens_to_who_is_left_out_of_a_look_is_told_after_it(
    looking: Looking, server: socket.socket
) -> None:
    clients = [socket.create_connection(server.getsockname()) for _ in range(2)]
    served = [server.accept()[0] for _ in clients]
    for each in clients:
        each.send(b"x")
    with socket.create_server(("127.0.0.1", 0)) as other:
        looking.look(at(server), at(other))
        for each in (clients[0], served[0]):
            each.close()
        looking.look(at(other), left_out={US})
        assert looking.changes(LEFT) == {LEFT}
        looking.look(at(server), at(other))
        for each in (clients[1], served[1]):
            looking.look(at(other), left_out={US})
            each.close()
        assert looking.changes(LEFT) == {LEFT}
    with socket.create_server(("127.0.0.1", 0)):
        looking.look(at(server), left_out={US})
        assert looking.told == {Change(WAITS, US)}


def test_who_takes_the_place_of_another_is_told(looking: Looking, server: socket.socket) -> None:
    first = socket.create_connection(server.getsockname())
    first.send(b"x")
    accepted, _ = server.accept()
    looking.look(at(server))
    first.close()
    accepted.close()  # there are as many as before, when the next one is there
    with socket.create_connection(server.getsockname()) as second, server.accept()[0]:
        second.send(b"x")
        assert looking.changes(COME, LEFT) == {COME, LEFT}


def test_who_says_too_little_neither_comes_nor_leaves(
    looking: Looking, server: socket.socket
) -> None:
    looking.look(at(server, 3))
    with socket.create_connection(server.getsockname()) as probe:
        accepted, _ = server.accept()
        probe.send(b"12")
        assert looking.traffic.changes() == set()
        looking.look(at(server, 3))
    accepted.close()
    assert looking.traffic.changes() == set()


@pytest.mark.parametrize("is_seen", [False, True], ids=["since the look", "as the look saw it"])
def test_who_has_been_silent_and_speaks_is_told(
    looking: Looking, server: socket.socket, is_seen: bool
) -> None:
    looking.look(at(server, 3))
    with socket.create_connection(server.getsockname()) as client, server.accept()[0]:
        client.send(b"12")
        if is_seen:
            looking.look(at(server, 3))
        assert looking.traffic.changes() == set()
        client.send(b"3")
        assert looking.changes(COME) == {COME}


def test_who_has_been_silent_for_long_is_asked_for_less_often(
    looking: Looking, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    received = Diag.received

    def count(self: Diag, key: bytes) -> int:
        nonlocal asked
        asked += 1
        return received(self, key)

    monkeypatch.setattr(Diag, "received", count)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with socket.create_connection(server.getsockname()), server.accept()[0]:
        looking.look(at(server))
        asked = 0
        for _ in range(40 * 60):
            now += 0.025
            looking.traffic.changes()
    assert 20 < asked < 200


def test_other_ports_and_paths_are_nothing_to_it(
    looking: Looking, server: socket.socket, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        looking.look(at(server), lambda sockets: sockets.unix_listeners_at(re.compile(".*/X1")))
        with socket.create_connection(other.getsockname()), other.accept()[0]:
            with socket.socket(socket.AF_UNIX) as unix:
                unix.bind(os.fspath(tmp_path / "X2"))
                unix.listen()
                assert looking.traffic.changes() == set()


def test_a_port_at_which_somebody_begins_to_wait_is_told(
    looking: Looking, server: socket.socket
) -> None:
    looking.look(at(server))
    with socket.create_server(("127.0.0.1", 0)):
        assert looking.changes(WAITS) == {WAITS}


def test_a_path_that_was_looked_for_is_told_once_somebody_waits_there(
    looking: Looking, tmp_path: Path
) -> None:
    path = os.fspath(tmp_path / "X1")
    looking.look(lambda sockets: sockets.unix_listeners_at(re.compile(".*/X1")))
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        assert not looking.traffic.changes()  # nobody waits there yet
        unix.listen()
        with socket.socket(socket.AF_UNIX) as another:  # the kernel counts sockets
            assert looking.changes(WAITS) == {WAITS}, another


def test_who_makes_a_socket_for_x_clients_is_told_and_again_if_nobody_waited_there_yet(
    looking: Looking,
) -> None:
    path = socket_path(free_display())
    Path(path).parent.mkdir(mode=0o1777, exist_ok=True)

    def look() -> None:
        looking.look(lambda sockets: sockets.unix_listeners_at(re.compile(re.escape(path))))

    look()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        try:
            assert looking.traffic.arrived() >= {Change(WAITS, US)}
            look()
            server.listen()  # which nobody counts
            assert looking.changes(WAITS) == {WAITS}
            look()
            assert not looking.traffic._bound
        finally:
            os.unlink(path)


def test_who_comes_to_a_path_and_who_leaves_it_is_told(looking: Looking, tmp_path: Path) -> None:
    path = os.fspath(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        looking.look(lambda sockets: sockets.unix_clients(path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            accepted, _ = server.accept()
            assert looking.changes(PATH) == {PATH}
            looking.look(lambda sockets: sockets.unix_clients(path))
            assert not looking.traffic.changes()
        accepted.close()
        assert looking.changes(PATH) == {PATH}


def test_while_no_count_changes_the_kernel_is_not_asked(
    looking: Looking, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking.look(at(server))
    monkeypatch.setattr(Counts, "are_new", lambda self: False)
    monkeypatch.setattr(Signs, "changes", lambda self, diag: 1 / 0)
    looking.look(at(server))
    with socket.create_connection(server.getsockname()), server.accept()[0]:
        assert looking.traffic.changes() == set()


def test_where_nothing_is_counted_the_kernel_is_asked_as_often_as_there_is_time_for_it(
    looking: Looking, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counts, "are_new", lambda self: True)
    now, spent, asked = time.monotonic(), 0.0, 0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "thread_time", lambda: spent)

    def ask(self: Signs, diag: Diag) -> tuple[set[Change], set[bytes]]:
        nonlocal spent, asked
        spent, asked = spent + 0.005, asked + 1
        return set(), set()

    monkeypatch.setattr(Signs, "changes", ask)
    looking.look(at(server))
    for _ in range(40 * 60):
        now += 0.025
        looking.traffic.changes()
    assert 60 * module.SHARE / 0.005 - 1 <= asked <= 60 * module.SHARE / 0.005 + 11


@pytest.mark.parametrize("error", [DiagError("refused"), Unanswered("there are too many sockets")])
def test_what_the_kernel_does_not_say_is_no_change(
    looking: Looking, server: socket.socket, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(self: Signs, diag: Diag) -> set[Change]:
        raise error

    monkeypatch.setattr(Signs, "changes", refuse)
    looking.look(at(server))
    with socket.create_connection(server.getsockname()), server.accept()[0]:
        assert looking.traffic.changes() == set()
    assert looking.traffic.problem == ("refused" if isinstance(error, DiagError) else None)


def test_a_socket_more_or_less_is_a_new_count() -> None:
    counts = Counts()
    for _ in range(2 * SELDOM):
        counts.are_new()
    with socket.socket() as more:
        wait_for("one more", counts.are_new)
        assert more
    wait_for("one less", counts.are_new)
    counts.close()


def test_one_connection_in_the_place_of_another_is_a_new_count(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COUNT_BYTES", 0)  # as if there were as many sockets as before
    counts = Counts()
    wait_for("none from elsewhere", lambda: not any(counts.are_new() for _ in range(SELDOM)))
    with socket.create_connection(server.getsockname()), server.accept()[0]:
        assert any(counts.are_new() for _ in range(SELDOM))
    counts.close()


def test_where_nobody_counts_something_may_always_be_new(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_open", lambda name: os.open(tmp_path / name, os.O_RDONLY))
    counts = Counts()
    assert [counts.are_new() for _ in range(3)] == [True] * 3
    counts.close()
