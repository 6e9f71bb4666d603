"""Following the size of a screen: when a server is asked, left, and asked again. X servers that
send without end are in tests/hostile."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastx_list.agent import display
from fastx_list.agent.display import MAX_FLOOD_PAUSE, RETRY_SECONDS, Screen
from fastx_list.agent.machine import Machine
from tests.agent.test_x11 import configure_notify, setup_reply

DISPLAY = 7


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """A socket where the agent looks for an X server, which is this process."""
    monkeypatch.setattr(display, "socket_path", lambda number: str(tmp_path / f"X{number}"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / f"X{DISPLAY}"))
        listener.listen()
        listener.setblocking(False)
        yield listener


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.look()
    return machine


def follow(screen: Screen, machine: Machine) -> None:
    screen.follow(machine, "session :7")


def make_screen(machine: Machine) -> Screen:
    return Screen(machine.processes[os.getpid()], DISPLAY, None, "100x100", lingers=True)


def is_asked(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except BlockingIOError:
        return None


def flood(server: socket.socket) -> None:
    server.setblocking(False)
    server.sendall(setup_reply(300, 200))
    with pytest.raises(BlockingIOError):
        while True:
            server.send(configure_notify(77, 1, 1) * 1000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock of what follows screens on: ``clock(30)``."""
    moved = [0.0]
    moving = SimpleNamespace(monotonic=lambda: time.monotonic() + moved[0])
    monkeypatch.setattr(display, "time", moving)

    def move(seconds: float) -> None:
        moved[0] += seconds

    return move


def test_a_server_that_sends_without_end_is_asked_again_later_and_later(
    listener: socket.socket, machine: Machine, clock: Callable[[float], None]
) -> None:
    screen = make_screen(machine)
    pause = RETRY_SECONDS
    for _ in range(10):
        follow(screen, machine)
        server = is_asked(listener)
        assert server is not None
        with server:
            flood(server)
            follow(screen, machine)
            assert screen.geometry == "100x100"  # nothing of it is believed
        clock(pause - 5)
        follow(screen, machine)
        assert is_asked(listener) is None
        clock(6)
        pause = min(2 * pause, MAX_FLOOD_PAUSE)
    assert pause == MAX_FLOOD_PAUSE


def test_a_server_that_hangs_up_at_once_is_not_asked_at_every_look(
    listener: socket.socket, machine: Machine, clock: Callable[[float], None]
) -> None:
    screen = make_screen(machine)
    for _ in range(3):
        follow(screen, machine)
        server = is_asked(listener)
        assert server is not None
        with server:
            server.sendall(setup_reply(300, 200))
            follow(screen, machine)
            assert screen.geometry == "300x200"
        follow(screen, machine)
        follow(screen, machine)
        assert is_asked(listener) is None and screen.geometry == "300x200"
        clock(RETRY_SECONDS + 1)


def test_two_that_claim_one_display_have_one_connection(
    listener: socket.socket, machine: Machine
) -> None:
    one, two = make_screen(machine), make_screen(machine)
    follow(one, machine)
    follow(two, machine)
    first = is_asked(listener)
    assert first is not None and is_asked(listener) is None
    first.close()
    one.close()
    follow(two, machine)
    second = is_asked(listener)
    assert second is not None
    second.close()
    two.close()
