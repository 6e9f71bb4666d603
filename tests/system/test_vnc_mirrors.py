"""Programs that show a display to viewers of their own, and what stands before a VNC server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support import Processes, Service, end, free_port, program, wait_for
from tests.system.servers import Account, is_listening, listed, not_listed, spare_display
from tests.system.sessions import Viewer, start_vnc


def x11vnc(display: int, port: int) -> list[str]:
    options = ["-rfbport", str(port), "-localhost", "-shared", "-forever", "-nopw", "-noipv6"]
    return [program("x11vnc", "x11vnc"), "-display", f":{display}", *options]


def x0vncserver(display: int, port: int) -> list[str]:
    server = program("X0tigervnc", "tigervnc-scraping-server")
    return [server, f"display=:{display}", f"rfbport={port}", "SecurityTypes=None", "localhost=1"]


def test_viewers_of_x11vnc_are_clients_of_the_session_whose_display_it_shows(
    watched: Service, processes: Processes, users: list[Account]
) -> None:
    user, other, port = users[0], users[1], free_port()
    vnc, others = start_vnc(processes, user), start_vnc(processes, other)
    listed(watched, user, clients=0)
    mirror = user.start(processes, x11vnc(vnc.display, port), "mirror", **vnc.environ)
    # Who shows the display of somebody else shows nothing
    user.start(processes, x11vnc(others.display, free_port()), "nothing")
    wait_for("x11vnc", lambda: is_listening(port))
    viewer = Viewer(processes)
    shown = viewer.connect(f"127.0.0.1::{port}")
    listed(watched, user, clients=1)
    itself = viewer.connect(f"127.0.0.1::{vnc.port}")
    session = listed(watched, user, clients=2)
    end(shown)
    listed(watched, user, clients=1)
    end(itself)
    end(mirror)
    assert listed(watched, user, clients=0)["id"] == session["id"]
    listed(watched, other, clients=0)


@pytest.mark.parametrize("mirror", [x11vnc, x0vncserver])
def test_a_display_without_a_kind_that_is_shown_to_viewers_is_a_session(
    watched: Service,
    processes: Processes,
    users: list[Account],
    mirror: Callable[[int, int], list[str]],
) -> None:
    user, display, port = users[2], spare_display(), free_port()
    screen = [program("Xvfb", "xvfb"), f":{display}", "-screen", "0", "900x600x24", "-ac"]
    server = user.start(processes, [*screen, "-noreset"], "screen")
    wait_for("the screen", lambda: Path(f"/tmp/.X11-unix/X{display}").exists())
    shows = user.start(processes, mirror(display, port), "mirror")
    session = listed(watched, user, clients=0, geometry="900x600", windowMode="desktop")
    assert (session["display"], session["serverPid"]) == (display, server.pid)
    viewer = Viewer(processes).connect(f"127.0.0.1::{port}")
    assert listed(watched, user, clients=1)["lastConnect"] is not None
    end(viewer)
    assert listed(watched, user, clients=0)["lastDisconnect"] is not None
    end(shows)
    end(server)
    not_listed(watched, user)


def test_who_comes_through_websockify_is_one_client(
    watched: Service, processes: Processes, users: list[Account]
) -> None:
    user, port = users[0], free_port()
    vnc = start_vnc(processes, user)
    user.start(
        processes,
        [program("websockify", "websockify"), f"127.0.0.1:{port}", f"127.0.0.1:{vnc.port}"],
        "websockify",
    )
    wait_for("websockify", lambda: is_listening(port))
    listed(watched, user, clients=0)
    for _ in range(2):
        with connect(f"ws://127.0.0.1:{port}") as browser:
            assert browser.recv() == b"RFB 003.008\n"
            browser.send(b"RFB 003.008\n")
            assert browser.recv() == b"\1\1"  # one security type: none
            browser.send(b"\1\1")
            listed(watched, user, clients=1)
        listed(watched, user, clients=0)


def test_a_server_of_no_kind_is_named_with_its_port(
    watched: Service, processes: Processes, users: list[Account], tmp_path: Path
) -> None:
    port = next(each for each in range(5999, 5900, -1) if not is_listening(each))
    listen = (
        "import socket, sys, time; socket.create_server(('', int(sys.argv[1]))); time.sleep(600)"
    )
    listen = listen.replace("socket.create", "server = socket.create")
    server = users[2].start(processes, ["/usr/bin/python3", "-c", listen, str(port)], "rfb")
    wait_for("its port", lambda: is_listening(port))
    named = f"process {server.pid} (python3) of {users[2].login} waits at TCP port {port} (RFB)"
    assert named in watched.run("doctor", check=False).stdout
    other = Service(tmp_path / "state", processes, {})
    assert named in other.run("agent", "--once", "-v").stderr
