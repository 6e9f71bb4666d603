"""X servers that no kind of their own is about: real ones of Debian's, and what others look like
from outside."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tests.support import Processes, Service, end, program, wait_for
from tests.system.servers import Account, listed, not_listed, spare_display
from tests.system.sessions import Viewer

# Waits at an X socket and a TCP port, and accepts what comes
_WAIT = """import socket, sys, time
x = socket.socket(socket.AF_UNIX)
x.bind(sys.argv[1])
x.listen()
port = socket.create_server(("127.0.0.1", int(sys.argv[2])))
with open("/proc/self/comm", "w") as name:
    name.write(sys.argv[3])
clients = []
while True:
    clients.append(port.accept()[0])"""


def simulated(
    processes: Processes, user: Account, name: str, display: int, port: int, *options: str
) -> subprocess.Popen[bytes]:
    """Start something of this ``name``, with these sockets and ``options``."""
    path = f"/tmp/.X11-unix/X{display}"
    argv = ["/usr/bin/python3", "-c", _WAIT, path, str(port), name, f":{display}", *options]
    server = user.start(processes, argv, name)
    wait_for("its socket", lambda: Path(path).exists())
    return server


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
    viewer = Viewer(processes).connect(f"127.0.0.1::{port}")
    listed(watched, user, clients=1)
    end(viewer)
    listed(watched, user, clients=0)
    end(server)
    not_listed(watched, user)


@pytest.mark.parametrize("name", ["Xkasmvnc", "Xwhatever"])
def test_a_simulated_server_is_a_session_with_the_clients_of_the_sockets_that_it_holds(
    watched: Service, processes: Processes, users: list[Account], name: str
) -> None:
    user, display = users[2], spare_display()
    port = 8443 + display
    server = simulated(processes, user, name, display, port, "-websocketPort", str(port))
    session = listed(watched, user, clients=0)
    assert (session["display"], session["serverPid"]) == (display, server.pid)
    with socket.create_connection(("127.0.0.1", port)) as browser:
        browser.send(b"GET / HTTP/1.1\r\n")
        listed(watched, user, clients=1)
    end(server)
    not_listed(watched, user)


@pytest.mark.parametrize("name", ["Xwayland", "mutter"])
def test_what_is_a_part_of_another_desktop_is_no_session_simulated(
    watched: Service, processes: Processes, users: list[Account], name: str
) -> None:
    user = users[2]
    hidden = simulated(processes, user, name, spare_display(), 0)
    shown = simulated(processes, user, "Xshown", spare_display(), 0)
    assert listed(watched, user)["serverPid"] == shown.pid
    end(hidden)
    end(shown)
    not_listed(watched, user)
