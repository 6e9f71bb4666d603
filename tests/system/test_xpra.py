"""Sessions of xpra: its servers' modes, its clients over a unix socket and over TCP, and what is
beside them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.support import Processes, Service, end, free_port, program, wait_for
from tests.system.elsewhere import Other, Ssh
from tests.system.feed import Feed
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
    spare_display,
)
from tests.system.sessions import User
from tests.system.xpra import Xpra


def resize(user: Account, display: int, width: int, height: int) -> None:
    """Change the size of a screen that has no other size to choose, from within the session."""
    mode = ["small", "30", *(str(size + more) for size in (width, height) for more in range(4))]
    for options in (
        ["--newmode", *mode],
        ["--addmode", "screen", "small"],
        ["-s", f"{width}x{height}"],
    ):
        user.run(
            [program("xrandr", "x11-xserver-utils"), *options],
            DISPLAY=f":{display}",
            XAUTHORITY=str(user.home / ".Xauthority"),
        )


def server_of(user: Account) -> psutil.Process:
    """Return the one server of xpra that ``user`` runs."""
    servers = {
        process.pid: process
        for process in named(user.processes, "xpra")
        if process.cmdline()[2].startswith(("start", "shadow"))
    }
    # What it starts is called like it until it has become another program
    [server] = [process for process in servers.values() if process.ppid() not in servers]
    return server


def test_a_rootless_session_is_followed_from_start_to_stop(
    watched: Service, follow: Callable[[User], Feed], xpra: Xpra, desk: Desk, users: list[Account]
) -> None:
    user, display, port = users[0], spare_display(), free_port()
    feed = follow(user)
    began = time.time() * 1000
    xpra.start(
        user,
        "start",
        f":{display}",
        "--start-child=xterm -title work",
        f"--bind-tcp=127.0.0.1:{port}",
        "--sharing=yes",
    )
    session = listed(watched, user, command="xterm -title work", geometry="5760x2560")
    server = server_of(user)
    [application] = named(user.processes, "xterm")
    assert named(user.processes, "Xvfb")
    assert {name: value for name, value in session.items() if name not in ("id", "started")} == {
        "serverPid": server.pid,
        "geometry": "5760x2560",
        "windowMode": "rootless",
        "lastConnect": None,
        "lastDisconnect": None,
        "command": "xterm -title work",
        "appPid": application.pid,
        "clients": 0,
        "params": {},
        "hostname": socket.gethostname(),
        "login": user.login,
        "display": display,
        "serverId": socket.gethostname(),
        "cpuPercentage": None,
        "videoRam": None,
        "sharing": None,
        "disconnectTimeout": None,
        "disconnectTImeout": None,
        "clientAddresses": [],
        "kind": "xpra",
    }
    assert began - 50 <= session["started"] <= time.time() * 1000
    xpra.await_sessions(user, display)
    listed(watched, user, clients=0)

    began = time.time() * 1000
    here = xpra.attach(user, desk, f":{display}", "one")
    attached = listed(watched, user, clients=1, geometry="1600x1200")
    assert attached["lastConnect"] >= began
    there = xpra.attach(user, desk, f"tcp://127.0.0.1:{port}/", "two")
    listed(watched, user, clients=2, clientAddresses=["127.0.0.1", "local"])
    began = time.time() * 1000
    end(here)
    left = listed(watched, user, clients=1)
    assert left["lastDisconnect"] >= began
    end(there)
    left = listed(watched, user, clients=0)
    assert left == {
        **session,
        "geometry": "1600x1200",
        "lastConnect": left["lastConnect"],
        "lastDisconnect": left["lastDisconnect"],
    }
    assert (
        attached["lastConnect"]
        <= left["lastConnect"]
        <= left["lastDisconnect"]
        <= time.time() * 1000
    )

    xpra.stop(user, display)
    not_listed(watched, user)
    wait_for("the end of the server", lambda: gone(server), SECONDS)
    xpra.await_sessions(user)
    lived_once(feed, session)


def test_a_desktop_is_a_desktop_of_the_size_that_it_has_now_also_from_another_machine(
    watched: Service, xpra: Xpra, desk: Desk, users: list[Account], others: list[Other], ssh: Ssh
) -> None:
    user, display, other = users[1], spare_display(), others[0]
    xpra.start(user, "start-desktop", f":{display}", "--start-child=openbox")
    session = listed(
        watched, user, command="openbox", windowMode="desktop", clients=0, geometry="1280x800"
    )
    assert session["display"] == display and session["serverPid"] == server_of(user).pid
    assert session["appPid"] == named(user.processes, "openbox")[0].pid
    xpra.await_sessions(user, display)
    client = xpra.attach_from(other, user, desk, display, ssh)
    listed(watched, user, clients=1, clientAddresses=[other.address])
    resize(user, display, 800, 600)
    listed(watched, user, clients=1, geometry="800x600")
    end(client)
    listed(watched, user, clients=0)
    xpra.stop(user, display)
    not_listed(watched, user)


def test_a_shadow_is_a_desktop_of_the_size_of_what_it_shadows(
    watched: Service, processes: Processes, xpra: Xpra, desk: Desk, users: list[Account]
) -> None:
    user, display = users[2], spare_display()
    user.start(
        processes,
        [program("Xvfb", "xvfb"), f":{display}", "-screen", "0", "1100x900x24", "-noreset"],
        "shadowed",
    )
    wait_for("the screen", lambda: Path(f"/tmp/.X11-unix/X{display}").exists())
    xpra.start(user, "shadow", f":{display}", "--tray=no")
    session = listed(
        watched, user, windowMode="desktop", clients=0, geometry="1100x900", display=display
    )
    assert session["serverPid"] == server_of(user).pid and session["command"] is None
    xpra.await_sessions(user, display)
    client = xpra.attach(user, desk, f":{display}", "one")
    listed(watched, user, clients=1)
    end(client)
    listed(watched, user, clients=0)
    xpra.stop(user, display)
    not_listed(watched, user)


def test_a_display_that_xpra_chose_itself_and_debians_own_settings_change_nothing(
    watched: Service, xpra: Xpra, desk: Desk, users: list[Account], tmp_path: Path
) -> None:
    user = users[0]
    xpra.start(user, "start", "--start-child=xterm", usual_settings=True)
    session = listed(watched, user, command="xterm", windowMode="rootless")
    assert session["appPid"] == named(user.processes, "xterm")[0].pid
    assert Path(f"/tmp/.X11-unix/X{session['display']}").stat().st_uid == user.ids[0]
    xpra.await_sessions(user, session["display"])
    assert [
        found["id"] for found in seen_by("xpra xvfb xorg", watched, tmp_path / "other", user)
    ] == [session["id"]]
    xpra.stop(user, session["display"])
    not_listed(watched, user)


def test_a_server_with_two_sockets_counts_the_clients_of_both(
    watched: Service, xpra: Xpra, desk: Desk, users: list[Account]
) -> None:
    user, door = users[1], users[1].home / "door-7"
    xpra.start(
        user, "start", "--start-child=xterm", "--bind=auto", f"--bind={door}", "--sharing=yes"
    )
    session = listed(watched, user, command="xterm")
    [display] = xpra.sessions(user)
    assert session["display"] == display
    other = xpra.attach(user, desk, f"socket:{door}", "two")
    listed(watched, user, clients=1)
    client = xpra.attach(user, desk, f":{display}", "one")
    listed(watched, user, clients=2, clientAddresses=["local"])
    end(other)
    listed(watched, user, clients=1)
    end(client)
    listed(watched, user, clients=0)
    xpra.stop(user, display)
    not_listed(watched, user)


def test_what_a_killed_server_leaves_behind_is_no_session_and_the_next_server_is_a_new_one(
    watched: Service, xpra: Xpra, desk: Desk, users: list[Account], tmp_path: Path
) -> None:
    user, display = users[2], spare_display()
    xpra.start(user, "start", f":{display}", "--start-child=xterm")
    first = listed(watched, user, command="xterm", clients=0)
    psutil.Process(first["serverPid"]).kill()
    not_listed(watched, user)
    assert named(user.processes, "Xvfb") and named(user.processes, "xterm")
    assert seen_by("xpra xvfb xorg", watched, tmp_path / "other", user) == []
    xpra.start(user, "start", f":{display}", "--use-display", "--start-child=xterm -title again")
    second = listed(watched, user, command="xterm -title again", clients=0)
    assert second["display"] == display and second["id"] != first["id"]
    assert [
        found["id"] for found in seen_by("xpra xvfb xorg", watched, tmp_path / "other", user)
    ] == [second["id"]]
    xpra.stop(user, display)
    not_listed(watched, user)
