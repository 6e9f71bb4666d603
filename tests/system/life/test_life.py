"""The whole life of a real session, over HTTP and over the WebSocket, as its user and as another
one sees it."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from tests.support import Processes, Service, end, fetch, program, wait_for
from tests.system.feed import Feed
from tests.system.servers import unmeasured
from tests.system.sessions import User, Viewer, only, resize, start_application, start_vnc

JSON = {"Content-Type": "application/json"}


def test_a_session_is_listed_and_followed_from_its_start_to_its_end(
    running: Service, processes: Processes, users: list[User]
) -> None:
    owner, other = users[:2]
    token, other_token = running.token(owner.login), running.token(other.login)
    viewer = Viewer(processes)
    with (
        connect(f"{running.live_url}?token={token}") as mine,
        connect(f"{running.live_url}?token={other_token}") as theirs,
    ):
        feed, other_feed = Feed(mine), Feed(theirs)
        before = time.time() * 1000
        vnc = start_vnc(processes, owner)
        application = start_application(processes, vnc)
        session = feed.one(appPid=application.pid)
        assert {
            name: value
            for name, value in unmeasured(session).items()
            if name not in ("id", "started", "command")
        } == {
            "serverPid": vnc.process.pid,
            "geometry": "1000x700",
            "windowMode": "desktop",
            "lastConnect": None,
            "lastDisconnect": None,
            "appPid": application.pid,
            "clients": 0,
            "params": {},
            "hostname": socket.gethostname(),
            "login": owner.login,
            "display": vnc.display,
            "serverId": socket.gethostname(),
            "cpuPercentage": None,
            "videoRam": None,
            "sharing": None,
            "disconnectTimeout": None,
            "disconnectTImeout": None,
            "clientAddresses": [],
            "kind": "tigervnc",
        }
        # The kernel counts starts in hundredths of a second
        assert before - 50 <= session["started"] <= time.time() * 1000
        assert session["command"].endswith("xterm -title work -e sleep 600")
        assert list(map(unmeasured, running.sessions(token))) == [unmeasured(session)]

        began = time.time() * 1000
        window = viewer.connect(f"127.0.0.1::{vnc.port}")
        connected = feed.one(clients=1)
        assert began <= connected["lastConnect"] <= time.time() * 1000
        assert connected["lastDisconnect"] is None
        second = viewer.connect(f"127.0.0.1::{vnc.port}")
        feed.one(clients=2)
        end(second)
        feed.one(clients=1)

        resize(vnc, "800x600")
        feed.one(geometry="800x600")

        began = time.time() * 1000
        end(window)
        left = feed.one(clients=0)
        assert began <= left["lastDisconnect"] <= time.time() * 1000
        assert left["lastConnect"] >= connected["lastConnect"]

        params = json.dumps({"id": session["id"], "params": {"name": "Thesis"}}).encode()
        answer = fetch(f"{running.url}/api/params/{token}", "POST", params, JSON)
        assert answer.status == 200 and answer.json["params"] == {"name": "Thesis"}
        named = unmeasured(feed.one(params={"name": "Thesis"}))
        for query in ("", "?filter=name%3D%3DThesis"):
            found = only(running.sessions(token, query))
            assert found and unmeasured(found) == named == unmeasured(answer.json)
        assert running.sessions(token, "?filter=name%3D%3DOther") == []

        assert fetch(f"{running.url}/api/params/{other_token}", "POST", params, JSON).status == 404

        end(vnc.process)
        wait_for("the end of the session", feed.is_empty)
        assert feed.messages[-1] == {"id": session["id"], "data": None}
        assert running.sessions(token) == []

        other_feed.take()
        assert other_feed.messages == []
        assert running.sessions(other_token) == []
    assert {message["id"] for message in feed.messages} == {session["id"]}


def test_times_ids_and_params_outlive_a_killed_agent(
    running: Service, processes: Processes, users: list[User]
) -> None:
    token = running.token(users[0].login)

    def sessions() -> list[dict[str, Any]]:
        return list(map(unmeasured, running.sessions(token)))

    vnc = start_vnc(processes, users[0])
    application = start_application(processes, vnc)
    wait_for(
        "the application",
        lambda: [s for s in running.sessions(token) if s["appPid"] == application.pid],
    )
    viewer = Viewer(processes)
    window = viewer.connect(f"127.0.0.1::{vnc.port}")
    wait_for("the client", lambda: [s for s in running.sessions(token) if s["clients"] == 1])
    before = sessions()
    running.running["agent"].kill()
    running.running["agent"].wait()
    assert sessions() == before
    agent = running.start_agent()
    wait_for("a scan of the new agent", lambda: _looked(agent.pid, vnc.display))
    assert sessions() == before
    agent.kill()
    agent.wait()
    end(window)
    running.start_agent()
    after = wait_for(
        "the client's leaving", lambda: [s for s in running.sessions(token) if s["clients"] == 0]
    )
    assert (
        after[0]["lastConnect"] == before[0]["lastConnect"]
        and after[0]["lastDisconnect"] is not None
    )
    assert after[0]["id"] == before[0]["id"] and after[0]["started"] == before[0]["started"]


def _looked(agent: int, display: int) -> bool:
    """Whether the agent holds its connection to the X server, which it makes in its first scan."""
    try:
        return any("socket:" in os.readlink(link) for link in Path(f"/proc/{agent}/fd").iterdir())
    except FileNotFoundError:  # it has closed one meanwhile
        return False


def test_clients_on_a_unix_socket_are_counted(
    running: Service, processes: Processes, users: list[User]
) -> None:
    token = running.token(users[0].login)
    path = users[0].home / "rfb"
    start_vnc(processes, users[0], "-rfbunixpath", str(path), "-rfbunixmode", "0666")
    wait_for("the session", lambda: running.sessions(token))
    window = Viewer(processes).connect(str(path))
    wait_for("the client", lambda: [s for s in running.sessions(token) if s["clients"] == 1])
    end(window)
    wait_for("its leaving", lambda: [s for s in running.sessions(token) if s["clients"] == 0])


def test_a_server_that_ends_with_its_last_client_does_end(
    running: Service, processes: Processes, users: list[User]
) -> None:
    token = running.token(users[0].login)
    vnc = start_vnc(processes, users[0], "-terminate")
    wait_for("the session", lambda: running.sessions(token))
    application = start_application(processes, vnc)
    wait_for(
        "the application",
        lambda: [s for s in running.sessions(token) if s["appPid"] == application.pid],
    )
    resize(vnc, "640x480")
    wait_for(
        "the new size, so the agent is connected",
        lambda: [s for s in running.sessions(token) if s["geometry"] == "640x480"],
    )
    end(application)
    vnc.process.wait(30)
    wait_for("the end of the session", lambda: not running.sessions(token))


def test_a_display_number_that_the_server_chose_itself_is_found(
    running: Service, processes: Processes, users: list[User]
) -> None:
    server = program("Xtigervnc", "tigervnc-standalone-server")
    users[0].start(
        processes,
        ["/bin/sh", "-c", f"exec {server} -displayfd 3 -SecurityTypes None 3>display"],
        "chosen",
    )
    told = users[0].home / "display"
    number = int(
        wait_for("the number", lambda: told.read_text().strip() if told.exists() else None)
    )
    session = wait_for("the session", lambda: only(running.sessions(running.token(users[0].login))))
    assert session["display"] == number
