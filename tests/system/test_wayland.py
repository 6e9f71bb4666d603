"""Wayland desktops that viewers reach: real compositors, and real viewers where there are any."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import Processes, Service, end, program
from tests.system.servers import Account, Desk, listed, named, not_listed
from tests.system.simulated import x_socket
from tests.system.wayland import HEADLESS, Desktop, rdp_client, vnc_client, vnc_window


@pytest.fixture
def desktop(place: Path, processes: Processes, users: list[Account]) -> Desktop:
    return Desktop(place, processes, users[0])


def backend(kind: str) -> str:
    """Return what this weston calls its backend of this ``kind``."""
    said = subprocess.run([program("weston", "weston"), "--help"], capture_output=True, text=True)
    names = [each for each in said.stdout.split() if each.startswith(kind)]
    if not names:
        pytest.skip(f"this release's weston has no backend for {kind}")
    return names[0]


def test_weston_is_a_session_with_the_windows_that_are_open_on_it_over_rdp(
    watched: Service, processes: Processes, desktop: Desktop, desk: Desk, place: Path
) -> None:
    weston, port = desktop.start_weston(backend("rdp"), place)
    session = listed(watched, desktop.user, clients=0, windowMode="desktop", display=None)
    assert session["serverPid"] == weston.pid
    first = rdp_client(processes, desk, port)
    assert listed(watched, desktop.user, clients=1)["lastConnect"] is not None
    second = rdp_client(processes, desk, port)
    listed(watched, desktop.user, clients=2)
    end(first)
    listed(watched, desktop.user, clients=1)
    end(second)  # weston 14 may crash when one is killed
    left = listed(watched, desktop.user, clients=0)
    assert left["id"] == session["id"] and left["lastDisconnect"] >= left["lastConnect"]
    end(weston)
    not_listed(watched, desktop.user)


def test_weston_is_a_session_with_the_windows_that_are_open_on_it_over_vnc(
    watched: Service, processes: Processes, desktop: Desktop, desk: Desk, place: Path
) -> None:
    weston, port = desktop.start_weston(backend("vnc"), place)
    session = listed(watched, desktop.user, clients=0, windowMode="desktop", display=None)
    assert session["serverPid"] == weston.pid
    first, second = (vnc_window(processes, desk, desktop, port) for _ in range(2))
    listed(watched, desktop.user, clients=2)
    end(first)
    listed(watched, desktop.user, clients=1)
    end(second)  # weston 14 may crash when one is killed, as over RDP
    listed(watched, desktop.user, clients=0)
    end(weston)
    not_listed(watched, desktop.user)


@pytest.mark.parametrize("name", ["sway", "cage", "labwc"])
def test_a_compositor_of_wlroots_is_a_session_while_wayvnc_lets_viewers_in(
    watched: Service, desktop: Desktop, name: str
) -> None:
    runs_in_it = ["--", "/bin/sleep", "600"] if name == "cage" else []
    # cage knows no pointers that others move
    options = ["--disable-input"] if name == "cage" else []
    compositor = desktop.start([program(name, name), *runs_in_it], **HEADLESS)
    wayvnc, port = desktop.start_wayvnc(*options)
    session = listed(
        watched,
        desktop.user,
        clients=0,
        windowMode="desktop",
        command="/bin/sleep 600" if name == "cage" else None,
    )
    assert session["serverPid"] == compositor.pid
    if session["display"] is not None:
        # It has the socket, and starts the X server for who connects: we never do
        assert x_socket(session["display"]).exists()
        assert not named(desktop.user.processes, "Xwayland")
    with vnc_client(port):
        assert listed(watched, desktop.user, clients=1)["lastConnect"] is not None
        with vnc_client(port):
            listed(watched, desktop.user, clients=2)
        listed(watched, desktop.user, clients=1)
        end(wayvnc)
        listed(watched, desktop.user, clients=0)
    # It runs on, and is let viewers in to again
    _, port = desktop.start_wayvnc(*options)
    with vnc_client(port):
        assert listed(watched, desktop.user, clients=1)["id"] == session["id"]
    end(compositor)
    not_listed(watched, desktop.user)
