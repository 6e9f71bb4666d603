"""X servers that no kind of their own is about: real ones of Debian's, and what others look like
from outside."""

from __future__ import annotations

import signal
import socket
import struct
import time
from pathlib import Path

import psutil
import pytest

from tests.support import Processes, Service, end, free_port, program, wait_for
from tests.system.servers import Account, listed, not_listed, spare_display
from tests.system.sessions import Viewer
from tests.system.simulated import simulate, x_socket


def test_xnest_is_a_session_of_which_nobody_knows_who_looks_at_it(
    watched: Service, processes: Processes, users: list[Account]
) -> None:
    user, outside, display = users[0], spare_display(), spare_display()
    screen = [program("Xvfb", "xvfb"), f":{outside}", "-screen", "0", "1600x1200x24", "-ac"]
    processes.start(screen, "outside")
    wait_for("the screen", lambda: Path(f"/tmp/.X11-unix/X{outside}").exists())
    nested = user.start(
        processes,
        [program("Xnest", "xnest"), f":{display}", "-geometry", "700x500", "-ac"],
        "xnest",
        DISPLAY=f":{outside}",
    )
    session = listed(watched, user, geometry="700x500", windowMode="desktop", clients=None)
    assert (session["display"], session["serverPid"]) == (display, nested.pid)
    end(nested)
    not_listed(watched, user)


def test_tightvnc_is_a_session_with_its_viewers(
    watched: Service, processes: Processes, users: list[Account]
) -> None:
    user, display = users[1], spare_display()
    port = 5900 + display
    xtightvnc = program("Xtightvnc", "tightvncserver")
    server = user.start(
        processes,
        [xtightvnc, f":{display}", "-geometry", "800x600", "-rfbport", str(port)],
        "tight",
    )
    session = listed(watched, user, geometry="800x600", clients=0)
    assert (session["display"], session["serverPid"]) == (display, server.pid)
    viewers = Viewer(processes)
    first, second = (viewers.connect(f"127.0.0.1::{port}") for _ in range(2))
    listed(watched, user, clients=2)
    end(first)
    listed(watched, user, clients=1)
    second.kill()
    listed(watched, user, clients=0)
    end(server)
    not_listed(watched, user)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("Xkasmvnc", ["-websocketPort"], id="KasmVNC"),
        pytest.param("Xvnc", ["-websocketPort"], id="KasmVNC by its other name"),
        pytest.param("Xvnc", ["-rfbauth", "passwd", "-rfbport"], id="TurboVNC"),
        pytest.param("Xwhatever", ["-whatever"], id="any other"),
    ],
)
def test_a_simulated_server_is_a_session_with_the_clients_of_the_sockets_that_it_holds(
    watched: Service, processes: Processes, users: list[Account], name: str, options: list[str]
) -> None:
    user, display, port = users[2], spare_display(), free_port()
    argv = [f":{display}", "-geometry", "1240x900", *options, str(port)]
    server = simulate(processes, user, name, *argv, paths=[x_socket(display)], ports=[port])
    session = listed(watched, user, clients=0, geometry="1240x900", windowMode="desktop")
    assert (session["display"], session["serverPid"]) == (display, server.pid)
    first, second = (connected(port, b"GET / HTTP/1.1\r\n") for _ in range(2))
    listed(watched, user, clients=2)
    first.close()
    assert listed(watched, user, clients=1)["lastDisconnect"] is not None
    reset(second)
    assert listed(watched, user, clients=0)["id"] == session["id"]
    end(server)
    not_listed(watched, user)


def test_whoever_is_there_when_a_slow_simulated_server_is_ready_has_come_since(
    watched: Service, processes: Processes, users: list[Account]
) -> None:
    """As on a busy machine: it takes seconds from its start until its X socket is there."""
    user, display, port = users[0], spare_display(), free_port()
    late = x_socket(display)
    options = [f":{display}", "-rfbport", str(port)]
    server = simulate(processes, user, "Xvnc", *options, ports=[port], later=[late])
    with connected(port, b"RFB 003.008\n\1\1"):
        wait_for("some seconds", lambda: time.time() - psutil.Process(server.pid).create_time() > 2)
        not_listed(watched, user)
        server.send_signal(signal.SIGUSR1)
        session = listed(watched, user, clients=1)
        assert session["lastConnect"] > session["started"]


@pytest.mark.parametrize("name", ["Xdcv", "nxagent"])
def test_the_clients_of_a_simulated_server_that_lets_nobody_in_itself_are_not_known(
    watched: Service, processes: Processes, users: list[Account], name: str
) -> None:
    """As DCV and NoMachine, whose viewers connect to one daemon for all."""
    user, display = users[2], spare_display()
    server = simulate(processes, user, name, f":{display}", paths=[x_socket(display)])
    session = listed(watched, user, clients=None, windowMode="desktop")
    assert (session["display"], session["serverPid"]) == (display, server.pid)
    end(server)
    not_listed(watched, user)


@pytest.mark.parametrize("name", ["Xwayland", "mutter"])
def test_what_is_a_part_of_another_desktop_is_no_session_simulated(
    watched: Service, processes: Processes, users: list[Account], name: str
) -> None:
    user, displays = users[2], [spare_display(), spare_display()]
    hidden = simulate(processes, user, name, paths=[x_socket(displays[0])])
    shown = simulate(processes, user, "Xshown", paths=[x_socket(displays[1])])
    assert listed(watched, user)["serverPid"] == shown.pid
    end(hidden)
    end(shown)
    not_listed(watched, user)


def connected(port: int, says: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(says)
    return client


def reset(client: socket.socket) -> None:
    """Let ``client`` go without a word, as when its machine has lost it."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
