"""The whole life of a real session, over HTTP and over the WebSocket, as its user and as another
one sees it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from websockets.sync.client import connect

from tests.support import (
    Processes,
    Service,
    end,
    fetch,
    let_others_in,
    needs_root,
    program,
    wait_for,
)
from tests.system.sessions import USERS, User, Viewer, only, resize, start_application, start_vnc

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def users(tmp_path: Path) -> list[User]:
    needs_root()
    let_others_in(tmp_path)
    return [User.make(login, tmp_path) for login in USERS]


@pytest.fixture
def running(service: Service) -> Iterator[Service]:
    service.start_list()
    service.start_live()
    service.start_agent()
    yield service
    assert "Traceback" not in "".join(
        service.processes.log(name) for name in ("agent", "list", "live")
    )


class Receiver(Protocol):
    """A WebSocket client's connection, as far as it receives."""

    def recv(self, timeout: float | None = None) -> str | bytes: ...


class Feed:
    """What a WebSocket client knows: the newest state of each session, and all messages."""

    def __init__(self, connection: Receiver) -> None:
        self._connection = connection
        self.messages: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {}

    def is_empty(self) -> bool:
        self.take()
        return not self.state

    def take(self, seconds: float = 0.05) -> None:
        try:
            while True:
                message = json.loads(self._connection.recv(timeout=seconds))
                assert message.keys() == {"id", "data"}
                self.messages.append(message)
                if message["data"] is None:
                    self.state.pop(message["id"], None)
                else:
                    self.state[message["id"]] = message["data"]
        except TimeoutError:
            pass

    def one(self, **members: Any) -> dict[str, Any]:
        """Wait until the only session has these ``members``, and return it."""

        def look() -> dict[str, Any] | None:
            self.take()
            session = only(list(self.state.values()))
            return (
                session
                if session and all(session[name] == value for name, value in members.items())
                else None
            )

        return wait_for(f"a message with {members}", look)


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
            for name, value in session.items()
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
        }
        # The kernel counts starts in hundredths of a second
        assert before - 50 <= session["started"] <= time.time() * 1000
        assert session["command"].endswith("xterm -title work -e sleep 600")
        assert running.sessions(token) == [session]

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
        assert feed.one(params={"name": "Thesis"}) == answer.json == only(running.sessions(token))
        assert running.sessions(token, "?filter=name%3D%3DThesis") == [answer.json]
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
    vnc = start_vnc(processes, users[0])
    application = start_application(processes, vnc)
    wait_for(
        "the application",
        lambda: [s for s in running.sessions(token) if s["appPid"] == application.pid],
    )
    viewer = Viewer(processes)
    window = viewer.connect(f"127.0.0.1::{vnc.port}")
    wait_for("the client", lambda: [s for s in running.sessions(token) if s["clients"] == 1])
    before = running.sessions(token)
    running.running["agent"].kill()
    running.running["agent"].wait()
    assert running.sessions(token) == before
    agent = running.start_agent()
    wait_for("a scan of the new agent", lambda: _looked(agent.pid, vnc.display))
    assert running.sessions(token) == before
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


def test_a_hung_server_holds_nothing_up(
    running: Service, processes: Processes, users: list[User]
) -> None:
    token = running.token(users[0].login)
    hung = start_vnc(processes, users[0], geometry="700x500")
    hung.process.send_signal(signal.SIGSTOP)
    other = start_vnc(processes, users[0])
    wait_for(
        "both sessions",
        lambda: {s["geometry"] for s in running.sessions(token)} == {"1000x700", "700x500"},
    )
    resize(other, "800x600")
    wait_for(
        "a change of the other",
        lambda: [s for s in running.sessions(token) if s["geometry"] == "800x600"],
    )
    hung.process.kill()
    hung.process.wait()
    wait_for("the end of the hung one", lambda: len(running.sessions(token)) == 1)


def test_an_unreaped_server_is_no_session(
    running: Service, processes: Processes, users: list[User]
) -> None:
    token = running.token(users[0].login)
    vnc = start_vnc(processes, users[0])
    wait_for("the session", lambda: running.sessions(token))
    os.kill(vnc.process.pid, signal.SIGKILL)  # and nobody waits for it: it stays as a zombie
    wait_for("its end", lambda: not running.sessions(token))
    assert Path(f"/proc/{vnc.process.pid}").exists()


def test_hostile_titles_and_environments_are_listed_safely(
    running: Service, processes: Processes, users: list[User]
) -> None:
    token = running.token(users[0].login)
    vnc = start_vnc(processes, users[0])
    title = b"\xff\xfe<script>\x1b[31m\n" + b"x" * 9000
    environ = {
        os.fsencode(name): os.fsencode(value)
        for name, value in users[0].environ(**vnc.environ).items()
    }
    uid, gid = users[0].ids
    processes.add(
        subprocess.Popen(
            [b"/bin/sh", b"-c", b"sleep 600; true", title],
            env={**environ, b"FASTX_LIST_\xff": b"\xff"},
            user=uid,
            group=gid,
            extra_groups=[],
        )
    )
    session = wait_for("the command", lambda: [s for s in running.sessions(token) if s["command"]])[
        0
    ]
    assert session["command"].startswith(
        "/bin/sh -c 'sleep 600; true' '\ufffd\ufffd<script>\x1b[31m\n"
    )
    assert len(session["command"]) <= 4096
    listed = running.run("ls", "--login", users[0].login)
    assert "\x1b" not in listed.stdout and "<script>" in listed.stdout


def test_a_false_command_line_borrows_nothing_from_another_users_session(
    running: Service, processes: Processes, users: list[User]
) -> None:
    victim, thief = users[:2]
    vnc = start_vnc(processes, victim)
    window = Viewer(processes).connect(f"127.0.0.1::{vnc.port}")
    victims = running.token(victim.login)
    wait_for(
        "the victim's client", lambda: [s for s in running.sessions(victims) if s["clients"] == 1]
    )
    resize(vnc, "800x600")
    shell = thief.home / "Xvnc"
    shell.write_bytes(Path("/bin/sh").resolve().read_bytes())
    shell.chmod(0o755)
    thief.start(
        processes,
        [
            str(shell),
            "-c",
            "sleep 600; true",
            f":{vnc.display}",
            "-rfbport",
            str(vnc.port),
            "-auth",
            str(vnc.authority),
        ],
        "fake",
    )
    session = wait_for(
        "the false session", lambda: only(running.sessions(running.token(thief.login)))
    )
    assert (
        session["clients"] == 0 and session["geometry"] == "1024x768" and session["command"] is None
    )
    end(window)


def test_an_agent_without_rights_lists_what_it_sees_and_says_what_it_cannot(
    service: Service, processes: Processes, users: list[User], tmp_path: Path
) -> None:
    watcher, owner = users[:2]
    state = watcher.home / "state"
    mine = Service(state, processes)
    vnc = start_vnc(processes, owner)
    start_application(processes, vnc)
    own = start_vnc(processes, watcher)
    own_application = start_application(processes, own)
    # The interpreter need not be where that user can start it, so the agent gives its rights up
    # once it is loaded.
    uid, gid = watcher.ids
    load = "import os, fastx_list.agent.keep, fastx_list.command.cli, fastx_list.store.sqlite; "
    drop = f"os.setgroups([]); os.setgid({gid}); os.setuid({uid}); "
    agent = processes.start(
        [sys.executable, "-c", load + drop + "fastx_list.command.cli.main(['agent'])"],
        "agent",
        {**mine.environ, "HOME": str(watcher.home)},
        cwd=watcher.home,
    )

    def explained(display: int) -> int:
        lines = processes.log("agent").splitlines()
        return len(
            [
                line
                for line in lines
                if f"session :{display} of" in line and "may not be read" in line
            ]
        )

    wait_for("the store", lambda: (state / "sessions.db").exists())
    others = wait_for(
        "the other's session",
        lambda: json.loads(mine.run("ls", "--json", "--login", owner.login).stdout),
    )
    assert (
        others[0]["command"] is None
        and others[0]["geometry"] == "1000x700"
        and others[0]["clients"] == 0
    )
    wait_for(
        "our own session's application",
        lambda: [
            s
            for s in json.loads(mine.run("ls", "--json", "--login", watcher.login).stdout)
            if s["appPid"] == own_application.pid
        ],
    )
    wait_for("the explanation", lambda: explained(vnc.display))
    end(agent)
    assert explained(vnc.display) == 1 and explained(own.display) == 0
    assert processes.log("agent").count("without root's rights") == 1


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
