"""What was said of connections holds while the kernel's tables are the same, and not longer."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastx_list.agent.heard import Heard
from fastx_list.agent.signs import Signs
from fastx_list.agent.sockets import LASTING_SECONDS, Sockets
from tests.support import wait_for


class Looking:
    """Looks again and again, and asks what has to be asked."""

    def __init__(self, port: int) -> None:
        self.heard = Heard()
        self.port = port
        self.asked = 0
        self.stamp: object = None
        self.clients: frozenset[int] | None = None
        self.signs: Signs | None = None

    def look(self, is_all: bool = True) -> object:
        sockets = Sockets(None, self.heard, is_all)
        if sockets.stamp is None or sockets.stamp is not self.stamp:
            self.stamp = sockets.stamp
            self.asked += 1
            self.clients = sockets.tcp_clients(self.port)
        self.signs = sockets.signs
        return sockets.stamp

    def rest(self) -> None:
        """Look until nothing is to be asked: others on this machine connect, too."""

        def rests() -> bool:
            asked = self.asked
            self.look()
            return self.asked == asked

        wait_for("two looks that are alike", rests)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def looking(server: socket.socket) -> Looking:
    looking = Looking(server.getsockname()[1])
    looking.look()
    return looking


def test_what_is_not_asked_again_is_still_followed(looking: Looking, server: socket.socket) -> None:
    with socket.create_connection(server.getsockname()) as client, server.accept()[0] as served:
        client.send(b"x")
        for _ in range(2):
            looking.rest()
            assert looking.clients is not None and len(looking.clients) == 1
            assert looking.signs is not None and len(looking.signs.clients[looking.port]) == 1
            assert looking.signs.least == {looking.port: 1}
        served.close()
        client.close()
        wait_for("its end", lambda: (looking.look(), looking.clients == frozenset())[1])


def test_who_has_yet_to_speak_is_asked_for_in_each_look(
    looking: Looking, server: socket.socket
) -> None:
    with socket.create_connection(server.getsockname()) as client, server.accept()[0]:
        for _ in range(3):
            asked = looking.asked
            looking.look()
            assert looking.asked == asked + 1 and looking.clients == frozenset()
        client.send(b"x")
        looking.look()
        assert looking.clients is not None and len(looking.clients) == 1
        looking.rest()


def test_who_begins_to_wait_at_a_unix_socket_makes_it_another(
    looking: Looking, tmp_path: Path
) -> None:
    looking.rest()
    before = looking.stamp
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        assert looking.look() is not before


def test_a_look_that_leaves_somebody_out_has_none_and_the_next_one_another(
    looking: Looking,
) -> None:
    looking.rest()
    before = looking.stamp
    assert looking.look(is_all=False) is None
    assert looking.look() not in (None, before)


def test_a_connection_that_was_made_from_here_is_asked_for_until_it_has_lasted(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, heard = time.monotonic(), Heard()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    told: dict[str, object] = {"stamp": None, "made": frozenset()}

    def look() -> None:
        nonlocal now
        now += LASTING_SECONDS
        sockets = Sockets(None, heard)
        if sockets.stamp is not told["stamp"]:
            told.update(stamp=sockets.stamp, made=sockets.tcp_made(os.geteuid()))

    look()
    look()
    with socket.create_connection(server.getsockname()) as client, server.accept()[0]:
        inode = Path(f"/proc/self/fd/{client.fileno()}").stat().st_ino
        for _ in range(3):
            look()
        assert inode in told["made"]  # type: ignore[operator]
