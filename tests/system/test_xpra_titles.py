"""Servers of xpra that call themselves something else, or wait for clients over TCP alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import Service, end, free_port
from tests.system.servers import Account, Desk, listed, named, not_listed, seen_by, spare_display
from tests.system.xpra import Xpra

# What setproctitle makes of xpra's command line, by version and by how it was started
TITLES = ["{}", "xpra {}", "/usr/bin/python3 {}"]


@pytest.mark.parametrize("title", TITLES)
def test_a_server_whose_command_line_is_its_name_is_what_it_is(
    watched: Service, xpra: Xpra, desk: Desk, users: list[Account], title: str
) -> None:
    user, display = users[0], spare_display()
    if title.startswith("xpra"):
        title = title.replace("{}", f"start :{display} --start-child=xterm -title work")
    xpra.start(user, "start", f":{display}", "--start-child=xterm -title work", title=title)
    session = listed(watched, user, command="xterm -title work", windowMode="rootless", clients=0)
    assert session["display"] == display
    assert session["appPid"] == named(user.processes, "xterm")[0].pid
    xpra.await_sessions(user, display)
    client = xpra.attach(user, desk, f":{display}", "one")
    listed(watched, user, clients=1)
    end(client)
    listed(watched, user, clients=0)
    xpra.stop(user, display)
    not_listed(watched, user)


def test_a_server_that_does_not_say_what_it_is_is_a_session_of_its_display(
    watched: Service, xpra: Xpra, desk: Desk, users: list[Account], tmp_path: Path
) -> None:
    user = users[1]
    xpra.start(user, "start-desktop", "--start-child=xterm", title="my desktop")
    session = listed(watched, user, windowMode=None, clients=0, geometry="1280x800")
    assert Path(f"/tmp/.X11-unix/X{session['display']}").stat().st_uid == user.ids[0]
    xpra.await_sessions(user, session["display"])
    client = xpra.attach(user, desk, f":{session['display']}", "one")
    listed(watched, user, clients=1)
    assert [each["id"] for each in seen_by("xpra xvfb", watched, tmp_path / "other", user)] == [
        session["id"]
    ]
    end(client)
    listed(watched, user, clients=0)
    xpra.stop(user, session["display"])
    not_listed(watched, user)


@pytest.mark.parametrize("title", [None, "{}", "/usr/bin/python3 {}"])
def test_a_server_that_waits_over_tcp_alone_is_listed_with_its_clients(
    watched: Service, xpra: Xpra, desk: Desk, users: list[Account], title: str | None
) -> None:
    user, display, port = users[2], spare_display(), free_port()
    doors = ["--bind=none", f"--bind-tcp=127.0.0.1:{port}"]
    xpra.start(user, "start", f":{display}", "--start-child=xterm", *doors, title=title)
    session = listed(watched, user, command="xterm", windowMode="rootless", clients=0)
    assert session["display"] == display
    client = xpra.attach(user, desk, f"tcp://127.0.0.1:{port}/", "one")
    listed(watched, user, clients=1)
    end(client)
    listed(watched, user, clients=0)
    user.run([xpra.program, "stop", f"tcp://127.0.0.1:{port}/"])
    not_listed(watched, user)
