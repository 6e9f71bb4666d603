"""Sessions of xrdp, on both kinds of X server that it starts, as xfreerdp opens and leaves them."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import Service, end, wait_for
from tests.system.elsewhere import Other
from tests.system.feed import Feed
from tests.system.rdp import FIRST_DISPLAY, WINDOW_MANAGER, Xrdp
from tests.system.servers import (
    SECONDS,
    Account,
    Desk,
    gone,
    listed,
    lived_once,
    named,
    not_listed,
    seen_by,
    unmeasured,
)
from tests.system.sessions import User

both_backends = pytest.mark.parametrize("backend", ["Xorg", "Xvnc"])


def log_out(session: dict[str, Any]) -> None:
    """End the window manager, as its menu does: that is how a user ends a session of xrdp."""
    os.kill(session["appPid"], signal.SIGTERM)


@both_backends
def test_a_session_is_followed_from_log_in_to_log_out(
    watched: Service,
    follow: Callable[[User], Feed],
    xrdp: Xrdp,
    desk: Desk,
    users: list[Account],
    tmp_path: Path,
    backend: str,
) -> None:
    user = users[0]
    feed = follow(user)
    began = time.time() * 1000
    window = xrdp.connect(desk, user, backend)
    first = listed(watched, user, clients=1, geometry="1024x768", command=WINDOW_MANAGER)
    server = psutil.Process(first["serverPid"])
    [window_manager] = named(user.processes, "openbox")
    assert server.name() == backend and server.uids().real == user.ids[0]
    assert (
        f":{first['display']}" == server.cmdline()[1]
        and Path(f"/tmp/.X11-unix/X{first['display']}").exists()
    )
    assert {
        name: value for name, value in first.items() if name not in ("id", "started", "lastConnect")
    } == {
        "serverPid": server.pid,
        "geometry": "1024x768",
        "windowMode": "desktop",
        "lastDisconnect": None,
        "command": WINDOW_MANAGER,
        "appPid": window_manager.pid,
        "clients": 1,
        "params": {},
        "hostname": socket.gethostname(),
        "login": user.login,
        "display": first["display"],
        "serverId": socket.gethostname(),
        "cpuPercentage": None,
        "videoRam": None,
        "sharing": None,
        "disconnectTimeout": None,
        "disconnectTImeout": None,
        "clientAddresses": ["127.0.0.1"],  # xrdp's client's, also where xrdp's way is a unix socket
        "kind": "xrdp",
    }
    assert began - 50 <= first["started"] <= first["lastConnect"] <= time.time() * 1000
    assert xrdp.sessions(user) == {server.ppid(): backend}
    # Nothing that xrdp itself runs meanwhile, such as what waits for the X server
    assert {told or "" for told in feed.commands()} <= {"", WINDOW_MANAGER, xrdp.starts_with}
    assert [found["id"] for found in seen_by("xrdp", watched, tmp_path / "xrdp", user)] == [
        first["id"]
    ]
    assert seen_by("tigervnc xorg", watched, tmp_path / "others", user) == []

    began = time.time() * 1000
    end(window)
    left = listed(watched, user, clients=0)
    assert began <= left["lastDisconnect"] <= time.time() * 1000
    away = {"clients": 0, "clientAddresses": [], "lastDisconnect": left["lastDisconnect"]}
    assert left == {**first, **away}
    assert xrdp.sessions(user) == {server.ppid(): backend}

    began = time.time() * 1000
    window = xrdp.connect(desk, user, backend, "1280x800")
    again = listed(watched, user, clients=1, geometry="1280x800")
    assert began <= again["lastConnect"] <= time.time() * 1000
    assert again == {
        **first,
        "lastDisconnect": left["lastDisconnect"],
        "geometry": "1280x800",
        "lastConnect": again["lastConnect"],
    }

    log_out(again)
    not_listed(watched, user)
    wait_for("the end of the X server", lambda: gone(server), SECONDS)
    assert window.wait(SECONDS) is not None
    wait_for("xrdp to say so too", lambda: xrdp.sessions(user) == {}, SECONDS)
    lived_once(feed, first)


def test_a_window_that_takes_over_from_another_one_is_a_connect_and_a_disconnect(
    watched: Service, xrdp: Xrdp, desk: Desk, users: list[Account], others: list[Other]
) -> None:
    user, (one, two) = users[1], others
    first_window = xrdp.connect(desk, user, "Xorg", at=one)
    first = listed(
        watched,
        user,
        clients=1,
        clientAddresses=[one.address],
        geometry="1024x768",
        command=WINDOW_MANAGER,
        lastDisconnect=None,
    )
    began = time.time() * 1000
    window = xrdp.connect(desk, user, "Xorg", "900x700", at=two)
    taken = listed(watched, user, clients=1, clientAddresses=[two.address], geometry="900x700")
    assert taken["id"] == first["id"]
    assert began <= taken["lastDisconnect"] <= taken["lastConnect"] <= time.time() * 1000
    assert first_window.wait(SECONDS) is not None
    end(window)
    log_out(listed(watched, user, clients=0))
    not_listed(watched, user)


def test_two_windows_that_share_a_vnc_server_are_two_clients(
    watched: Service, xrdp: Xrdp, desk: Desk, users: list[Account], others: list[Other]
) -> None:
    user, (one, two) = users[1], others
    window = xrdp.connect(desk, user, "Xvnc", at=one)
    session = listed(
        watched, user, clients=1, clientAddresses=[one.address], command=WINDOW_MANAGER
    )
    xrdp.connect(desk, user, "Xvnc", at=two)
    both = [one.address, two.address]
    assert listed(watched, user, clients=2, clientAddresses=both)["id"] == session["id"]
    end(window)
    log_out(listed(watched, user, clients=1, clientAddresses=[two.address]))
    not_listed(watched, user)


def test_a_program_asked_for_by_the_client_is_the_command(
    watched: Service, xrdp: Xrdp, desk: Desk, users: list[Account]
) -> None:
    user = users[2]
    xrdp.connect(desk, user, "Xorg", "1024x768", "/shell:/usr/bin/xterm -title hello")
    session = listed(watched, user, clients=1, command="sh -c '/usr/bin/xterm -title hello'")
    assert psutil.Process(session["appPid"]).cmdline() == [
        "sh",
        "-c",
        "/usr/bin/xterm -title hello",
    ]
    log_out(session)
    not_listed(watched, user)


@both_backends
def test_a_session_outlives_who_started_it_and_an_agent_that_starts_then_knows_it(
    watched: Service,
    follow: Callable[[User], Feed],
    xrdp: Xrdp,
    desk: Desk,
    users: list[Account],
    tmp_path: Path,
    backend: str,
) -> None:
    """As when an upgrade stops the session manager."""
    user = users[0]
    feed = follow(user)
    window = xrdp.connect(desk, user, backend)
    first = listed(watched, user, clients=1, geometry="1024x768", command=WINDOW_MANAGER)
    server = psutil.Process(first["serverPid"])
    manager = server.parent()
    assert manager is not None and manager.name() in ("xrdp-sesman", "xrdp-sesexec")
    manager.kill()
    wait_for("the end of who started it", lambda: server.ppid() != manager.pid)

    new = {**first, "lastConnect": None}  # of a client that was there before, nobody knows when
    assert list(map(unmeasured, seen_by("xrdp", watched, tmp_path / "xrdp", user))) == [new]
    assert seen_by("tigervnc xorg", watched, tmp_path / "others", user) == []

    end(watched.running["agent"])
    watched.start_agent()
    end(window)
    left = listed(watched, user, clients=0)
    away = {"clients": 0, "clientAddresses": [], "lastDisconnect": left["lastDisconnect"]}
    assert left == {**first, **away}
    assert server.is_running()
    server.kill()
    not_listed(watched, user)
    lived_once(feed, first)


def test_sockets_of_the_same_name_elsewhere_hide_no_client(
    watched: Service, xrdp: Xrdp, desk: Desk, users: list[Account], place: Path
) -> None:
    with ExitStack() as sockets:
        for number in range(FIRST_DISPLAY, FIRST_DISPLAY + 20):
            for copy in range(5):
                directory = place / f"fake-{number}-{copy}"
                directory.mkdir()
                fake = sockets.enter_context(socket.socket(socket.AF_UNIX))
                fake.bind(str(directory / f"xrdp_display_{number}"))
                fake.listen()
        window = xrdp.connect(desk, users[2], "Xorg")
        session = listed(watched, users[2], clients=1, command=WINDOW_MANAGER)
        assert session["display"] < FIRST_DISPLAY + 20
        end(window)
        log_out(listed(watched, users[2], clients=0))
        not_listed(watched, users[2])
