"""Wayland desktops of GNOME and KDE, which do not run without a whole machine, as they look from
outside: their names, options and sockets are those of their public sources."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support import Processes, Service, end, free_port, program, wait_for
from tests.system.servers import Account, listed, not_listed, spare_display
from tests.system.simulated import simulate, x_socket
from tests.system.wayland import Desktop

GNOME_BRIDGE = "gnome-remote-de"  # gnome-remote-desktop-daemon, as the kernel cuts it
PROBE = bytes(19)  # a connection request without a cookie, [MS-RDPBCGR] 2.2.1.1
CLIENT = bytes(600)  # what follows it: TLS, and a log-in


@pytest.fixture
def desktops(place: Path, processes: Processes, users: list[Account]) -> list[Desktop]:
    return [Desktop(place, processes, user) for user in users]


def connected(port: int, says: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(says)
    return client


@pytest.mark.parametrize(
    ("compositor", "bridge", "options"),
    [
        pytest.param("gnome-shell", GNOME_BRIDGE, ["--headless", "--rdp-port"], id="GNOME"),
        pytest.param("kwin_wayland_wr", "krdpserver", ["--rdp", "--port"], id="krdp"),
        pytest.param("kwin_wayland", "krfb", ["--nodialog"], id="krfb"),
    ],
)
def test_a_simulated_desktop_is_a_session_with_the_clients_of_what_serves_it(
    watched: Service,
    processes: Processes,
    desktops: list[Desktop],
    compositor: str,
    bridge: str,
    options: list[str],
) -> None:
    desktop, display, port = desktops[0], spare_display(), free_port()
    user, paths = desktop.user, [desktop.runtime / "wayland-0", x_socket(display)]
    shell = simulate(processes, user, compositor, paths=paths)
    # Another user's serves this user's desktop to nobody
    simulate(processes, desktops[1].user, bridge, ports=[free_port()])
    simulate(processes, user, bridge, *options, str(port), ports=[port])
    session = listed(watched, user, clients=0, windowMode="desktop", geometry=None)
    assert (session["display"], session["serverPid"]) == (display, shell.pid)
    with connected(port, CLIENT):
        listed(watched, user, clients=1)
        with connected(port, CLIENT):
            listed(watched, user, clients=2)
        left = listed(watched, user, clients=1)
        assert left["id"] == session["id"] and left["lastDisconnect"] is not None
    listed(watched, user, clients=0)
    not_listed(watched, desktops[1].user)
    end(shell)
    not_listed(watched, user)


def test_the_size_of_a_simulated_desktop_is_asked_of_its_x_server_while_others_use_that(
    watched: Service, processes: Processes, desktops: list[Desktop], place: Path
) -> None:
    """With Xvfb in the place of Xwayland."""
    desktop, display, port = desktops[0], spare_display(), free_port()
    user, paths = desktop.user, [desktop.runtime / "wayland-0", x_socket(display)]
    simulate(processes, user, "gnome-shell", paths=paths)
    simulate(processes, user, GNOME_BRIDGE, "--headless", ports=[port])
    session = listed(watched, user, display=display, geometry=None)
    server, cookies = place / "Xwayland", desktop.runtime / "cookies"
    shutil.copy(program("Xvfb", "xvfb"), server)
    add = [
        program("xauth", "xauth"),
        "-q",
        "-f",
        str(cookies),
        "add",
        f":{display}",
        ".",
        "00" * 16,
    ]
    subprocess.run(add, check=True)
    os.chown(cookies, *user.ids)
    options = ["-auth", str(cookies), "-noreset", "-nolisten", "unix"]
    x_server = user.start(
        processes, [str(server), f":{display}", "-screen", "0", "900x600x24", *options], "xwayland"
    )
    address = f" @{x_socket(display)}"  # abstract: the other one is the compositor's
    unix = Path("/proc/net/unix")
    wait_for("the X server", lambda: f"{address}\n" in unix.read_text(encoding="utf-8"))
    window = user.start(
        processes,
        [program("xterm", "xterm")],
        "xterm",
        DISPLAY=f":{display}",
        XAUTHORITY=str(cookies),
    )
    assert listed(watched, user, geometry="900x600")["id"] == session["id"]
    end(window)
    end(x_server)
    listed(watched, user, geometry=None)


def test_a_probe_of_a_simulated_server_of_rdp_is_no_client(
    watched: Service, processes: Processes, desktops: list[Desktop]
) -> None:
    desktop, port = desktops[0], free_port()
    shell = simulate(processes, desktop.user, "weston", "--backend=rdp", ports=[port])
    not_listed(watched, desktop.user)  # it waits at no Wayland socket
    end(shell)
    path = desktop.runtime / "wayland-1"
    simulate(processes, desktop.user, "weston", "--backend=rdp", paths=[path], ports=[port])
    listed(watched, desktop.user, clients=0)
    with connected(port, PROBE), connected(port, CLIENT):
        assert listed(watched, desktop.user, clients=1)


def test_who_logs_in_through_a_simulated_gnome_is_a_client_of_their_own_session(
    watched: Service, processes: Processes, desktops: list[Desktop]
) -> None:
    mine, system = desktops[0], desktops[1]
    port, handed = free_port(), mine.runtime / "handed"
    shell = simulate(processes, mine.user, "gnome-shell", paths=[mine.runtime / "wayland-0"])
    simulate(processes, mine.user, GNOME_BRIDGE, "--handover", take_at=handed)
    # It is another user who waits, and hands the connection on
    handed.parent.chmod(0o711)
    handed.chmod(0o666)
    simulate(processes, system.user, GNOME_BRIDGE, "--system", ports=[port], hand_to=handed)
    session = listed(watched, mine.user, clients=0, serverPid=shell.pid)
    with connected(port, CLIENT):
        assert listed(watched, mine.user, clients=1)["id"] == session["id"]
        not_listed(watched, system.user)
    assert listed(watched, mine.user, clients=0)["lastDisconnect"] is not None


def test_a_simulated_desktop_of_an_unknown_name_is_found_by_its_socket(
    watched: Service, processes: Processes, desktops: list[Desktop]
) -> None:
    user, one, port = desktops[2].user, desktops[2].runtime / "wayland-7", free_port()
    shown = simulate(processes, user, "newcomer", paths=[one])
    simulate(processes, user, "newcomer", paths=[desktops[2].runtime / "wayland-8"])
    simulate(processes, user, "wayvnc", ports=[port], WAYLAND_DISPLAY="wayland-7")
    assert listed(watched, user, clients=0)["serverPid"] == shown.pid


def test_a_simulated_desktop_that_no_viewer_reaches_is_named_and_not_listed(
    watched: Service, processes: Processes, desktops: list[Desktop]
) -> None:
    user, paths = desktops[2].user, [desktops[2].runtime / "wayland-0"]
    shell = simulate(processes, user, "gnome-shell", paths=paths)
    named = (
        f"process {shell.pid} (gnome-shell) of {user.login} listens on a Wayland socket and"
        " nothing lets viewers in to it"
    )
    assert named in watched.run("doctor", check=False).stdout
    not_listed(watched, user)
