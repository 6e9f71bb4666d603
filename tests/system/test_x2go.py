"""Sessions of X2Go: started, suspended, resumed and terminated, as desktops and as single
applications."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import psutil

from tests.support import Service, end, wait_for
from tests.system.elsewhere import Other
from tests.system.feed import Feed
from tests.system.servers import SECONDS, Account, Desk, gone, listed, lived_once, named, not_listed
from tests.system.sessions import User
from tests.system.x2go import Known, X2Go


def known(x2go: X2Go, user: Account, status: str) -> Known:
    """Wait until X2Go says that the only session of ``user`` is running (``R``) or suspended
    (``S``), and return it."""

    def look() -> Known | None:
        sessions = x2go.sessions(user)
        return sessions[0] if [session.status for session in sessions] == [status] else None

    return wait_for(f"X2Go to say {status}", look, SECONDS)


def test_a_desktop_is_followed_from_start_to_end(
    watched: Service, follow: Callable[[User], Feed], x2go: X2Go, desk: Desk, users: list[Account]
) -> None:
    user = users[0]
    feed = follow(user)
    began = time.time() * 1000
    client = x2go.start(user, desk, "desktop", "openbox")
    session = listed(watched, user, clients=1, geometry="1000x700", command="openbox")
    running = known(x2go, user, "R")
    server = psutil.Process(running.agent)
    [window_manager] = named(user.processes, "openbox")
    assert {
        name: value
        for name, value in session.items()
        if name not in ("id", "started", "lastConnect", "display")
    } == {
        "serverPid": server.pid,
        "geometry": "1000x700",
        "windowMode": "desktop",
        "lastDisconnect": None,
        "command": "openbox",
        "appPid": window_manager.pid,
        "clients": 1,
        "params": {},
        "hostname": socket.gethostname(),
        "login": user.login,
        "serverId": socket.gethostname(),
        "cpuPercentage": None,
        "videoRam": None,
        "sharing": None,
        "disconnectTimeout": None,
        "disconnectTImeout": None,
        "clientAddresses": ["127.0.0.1"],
        "kind": "x2go",
    }
    assert began - 50 <= session["started"] <= session["lastConnect"] <= time.time() * 1000
    assert server.name() == "x2goagent" and running.display == session["display"]
    # Nothing that prepares the session, such as the script Xsession
    assert feed.commands() <= {None, "openbox"}

    began = time.time() * 1000
    x2go.suspend(user, running.name)
    left = listed(watched, user, clients=0)
    assert began <= left["lastDisconnect"] <= time.time() * 1000
    away = {"clients": 0, "clientAddresses": [], "lastDisconnect": left["lastDisconnect"]}
    assert left == {**session, **away}
    assert known(x2go, user, "S").agent == server.pid
    end(client)

    began = time.time() * 1000
    client = x2go.resume(user, desk, running.name)
    again = listed(watched, user, clients=1)
    assert began <= again["lastConnect"] <= time.time() * 1000
    assert again == {
        **session,
        "lastDisconnect": left["lastDisconnect"],
        "lastConnect": again["lastConnect"],
        "geometry": again["geometry"],
    }
    assert known(x2go, user, "R").agent == server.pid

    x2go.terminate(user, running.name)
    not_listed(watched, user)
    wait_for("the end of the X server", lambda: gone(server), SECONDS)
    wait_for("X2Go to say so too", lambda: x2go.sessions(user) == [], SECONDS)
    lived_once(feed, session, x2go.given_up)


def test_an_application_is_rootless_and_a_lost_client_leaves_it_suspended(
    watched: Service, x2go: X2Go, desk: Desk, users: list[Account], others: list[Other]
) -> None:
    user, (other, _) = users[1], others
    client = x2go.start(user, desk, "application", "xterm", at=other)
    session = listed(
        watched,
        user,
        clients=1,
        clientAddresses=[other.address],
        geometry="1600x1200",
        windowMode="rootless",
        command="xterm",
    )
    [application] = named(user.processes, "xterm")
    assert session["appPid"] == application.pid
    for proxy in named(psutil.Process(client.pid).children(recursive=True), "nxproxy"):
        proxy.kill()
    left = listed(watched, user, clients=0)
    assert left["lastDisconnect"] >= left["lastConnect"]
    suspended = known(x2go, user, "S")
    assert suspended.display == session["display"]
    x2go.terminate(user, suspended.name)
    not_listed(watched, user)


def test_a_session_killed_while_it_is_young_leaves_no_ghost(
    watched: Service, follow: Callable[[User], Feed], x2go: X2Go, desk: Desk, users: list[Account]
) -> None:
    user = users[2]
    feed = follow(user)
    x2go.start(user, desk, "application", "xterm")
    session = listed(watched, user)
    psutil.Process(session["serverPid"]).kill()
    not_listed(watched, user)
    wait_for("the end of all of it", lambda: not named(user.processes, "x2goagent"), SECONDS)
    lived_once(feed, session, x2go.given_up)
