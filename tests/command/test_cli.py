from __future__ import annotations

import json
import os
import pty
import re
import select
import stat
import subprocess
import sys
from collections.abc import Callable

import jwt
import pytest

from fastx_list.model.server import Server
from fastx_list.store import Lease, Store
from tests.conftest import session
from tests.support import Service, end, fetch, free_port, wait_for

Observe = Callable[..., None]


@pytest.fixture
def command(service: Service) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``fastx-list``, whatever its exit status."""
    service.environ["FASTX_LIST_SERVER_ID"] = "here"

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        service.environ |= environ
        return service.run(*arguments, check=False)

    return run


Command = Callable[..., subprocess.CompletedProcess[str]]


def test_help_is_enough_to_get_by(command: Command) -> None:
    names = {"up", "agent", "token", "ls", "watch", "servers"}
    assert names <= set(re.findall(r"\w+", command("--help").stdout))
    for name in names:
        done = command(name, "--help")
        assert done.returncode == 0 and done.stdout.startswith("Usage:")


def test_issue_prints_the_token_and_nothing_else(command: Command, service: Service) -> None:
    done = command("token", "issue", "alice", "--ttl", "30m", "--admin")
    assert done.stderr == "" and done.stdout.count("\n") == 1
    secret = service.state / "secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    claims = jwt.decode(done.stdout.strip(), secret.read_text().strip(), ["HS256"], audience="api")
    assert (claims["sub"], claims["iss"], claims["admin"]) == ("alice", "here", True)
    assert claims["exp"] - claims["iat"] == 1800 and claims["jti"]
    plain = command("token", "issue", "alice").stdout.strip()
    assert "admin" not in jwt.decode(plain, options={"verify_signature": False})


def test_a_revoked_token_is_refused_from_then_on(command: Command, service: Service) -> None:
    service.start_list()
    first, second = service.token("alice"), service.token("alice")
    assert fetch(f"{service.url}/api/list/{first}").status == 200
    done = command("token", "revoke", first)
    assert done.returncode == 0 and "alice" in done.stderr and first not in done.stderr
    assert (
        fetch(f"{service.url}/api/list/{first}")
        .json["error"]["message"]
        .startswith("token: it has been revoked")
    )
    assert fetch(f"{service.url}/api/list/{second}").status == 200
    process = subprocess.run(
        [sys.executable, "-m", "fastx_list", "token", "revoke", "-"],
        env=service.environ,
        input=second,
        text=True,
        check=True,
        capture_output=True,
    )
    assert "alice" in process.stderr
    assert fetch(f"{service.url}/api/list/{second}").status == 401


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("token", "revoke", "x"), "not a well-formed JSON Web Token"),
        (("token", "issue", "alice", "--ttl", "soon"), "such as 30m, 8h or 7d"),
        (("token", "issue", ""), "takes a login"),
        (("ls", "--filter", "clients=0"), "takes name==value1,value2"),
        (("ls",), "there is no store at"),
        (("servers",), "there is no store at"),
        (("ls", "--all", "--login", "alice"), "take one of the two"),
        (("watch", "--all", "--login", "alice"), "take one of the two"),
        (("up", "--bind", "8000"), "takes HOST:PORT"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(
    command: Command, arguments: tuple[str, ...], words: str
) -> None:
    done = command(*arguments)
    assert (
        done.returncode in (1, 2)
        and words in done.stderr.replace("\n", " ")
        and "Traceback" not in done.stderr
    )


def test_a_wrong_setting_is_named(command: Command) -> None:
    done = command("ls", FASTX_LIST_SCAN_INTERVAL="often")
    assert (
        done.returncode == 1
        and "FASTX_LIST_SCAN_INTERVAL takes a number from 0.1 to 3600" in done.stderr
    )


def test_ls_lists_sorts_and_filters(command: Command, observe: Observe) -> None:
    observe(
        session("a", started=1, command="xterm", clients=0, last_disconnect=1000),
        session(
            "b",
            started=2,
            command="blender\x1b[2J " + "x" * 200,
            clients=2,
            display=4,
            geometry="1x1",
        ),
        session("c", "bob"),
    )
    done = command("ls", "--login", "alice")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["SESSION", "DISPLAY", "STATE", "STARTED", "GEOMETRY"]
    assert len(lines) == 3
    assert "xterm" in lines[1] and "disconnected" in lines[1] and "d ago" in lines[1]
    assert "blender\ufffd[2J " + "x" * 200 + " " in lines[2]
    assert "connected (2 clients)" in lines[2] and "here.example:4" in lines[2]
    found = command(
        "ls", "--login", "alice", "--json", "--sort-by", "command", "--filter", "clients==0,2"
    )
    assert [members["id"] for members in json.loads(found.stdout)] == ["b", "a"]
    found = command("ls", "--login", "alice", "--json", "--reverse")
    assert [members["id"] for members in json.loads(found.stdout)] == ["b", "a"]
    nothing = command("ls", "--login", "alice", "--filter", "clients==7")
    assert nothing.stdout == "" and nothing.stderr == "alice has no session that matches\n"


def test_ls_lists_the_sessions_of_all_logins_with_whose_they_are(
    command: Command, observe: Observe
) -> None:
    observe(
        session("a", started=1, command="xterm"),
        session("b", "bob\x1b[2J", started=2, command="blender"),
    )
    lines = command("ls", "--all").stdout.splitlines()
    assert lines[0].split() == ["SESSION", "LOGIN", "DISPLAY", "STATE", "STARTED", "GEOMETRY"]
    assert lines[1].split()[:2] == ["xterm", "alice"] and lines[2].split()[:2] == [
        "blender",
        "bob\ufffd[2J",
    ]
    found = command("ls", "--all", "--json", "--reverse", "--filter", "command==xterm,blender")
    assert [(members["id"], members["login"]) for members in json.loads(found.stdout)] == [
        ("b", "bob\x1b[2J"),
        ("a", "alice"),
    ]
    nothing = command("ls", "--all", "--filter", "clients==7")
    assert nothing.stdout == "" and nothing.stderr == "nobody has a session that matches\n"


def test_servers_lists_the_machines_and_their_load(command: Command, store: Store) -> None:
    lease = Lease("one", "1", "node1", 60)
    store.observe("s0", {})  # an agent that told nothing of its machine
    assert command("servers").stderr == "no server is there: no agent writes to this store now\n"
    assert command("servers", "--json").stdout == "[]\n"
    store.heartbeat(
        Server(
            "s1",
            "node1.example\x1b[2J",
            pool="gpu",
            cpu=12.4,
            free_memory=3 * 2**30,
            total_memory=8 * 2**30,
            logged_in_users=2,
            sessions=3,
            uptime=7300,
            load=(0.5, 1.25, 2),
        ),
        lease,
    )
    store.heartbeat(Server("s2", "node2"), lease)
    lines = command("servers").stdout.splitlines()
    assert [re.split(r"\s{2,}", line.strip()) for line in lines] == [
        ["SERVER", "HOST", "POOL", "CPU", "MEMORY", "SESSIONS", "LOGINS", "LOAD", "UP"],
        [
            "s1",
            "node1.example\ufffd[2J",
            "gpu",
            "12 %",
            "5.0 GiB of 8.0 GiB",
            "3",
            "2",
            "0.50 1.25 2.00",
            "2 h",
        ],
        ["s2", "node2", "–", "–", "–", "0", "0", "–", "–"],
    ]


def test_servers_prints_what_the_api_would_answer(command: Command, service: Service) -> None:
    command("agent", "--once")
    service.start_list()
    answer = fetch(f"{service.url}/api/admin/server/{service.token('root', admin=True)}")
    assert [members["serverId"] for members in answer.json] == ["here"]
    assert command("servers", "--json").stdout.rstrip("\n").encode() == answer.body


def test_watch_of_all_logins_follows_every_session_and_no_server(
    command: Command, service: Service, observe: Observe, store: Store
) -> None:
    observe(session("a"), session("b", "bob"))
    command("--version")
    watching = service.processes.start(
        [sys.executable, "-m", "fastx_list", "watch", "--all"], "watch", service.environ
    )

    def messages() -> list[tuple[str, bool]]:
        lines = [json.loads(line) for line in service.processes.log("watch").splitlines()]
        return [(message["id"], message["data"] is None) for message in lines]

    wait_for("the first messages", lambda: sorted(messages()) == [("a", False), ("b", False)])
    store.heartbeat(Server("here", "host"), Lease("one", "1", "host", 60))
    observe(session("a"), session("c", "carol"))
    wait_for("the changes", lambda: sorted(messages()[2:]) == [("b", True), ("c", False)])
    end(watching)


def test_watch_piped_on_prints_the_published_messages(
    command: Command, service: Service, observe: Observe, store: Store
) -> None:
    observe(session("a"), session("b", "bob"))
    command("--version")
    watching = service.processes.start(
        [
            sys.executable,
            "-m",
            "fastx_list",
            "watch",
            "--login",
            "alice",
            "--filter",
            "clients==,1",
        ],
        "watch",
        service.environ,
    )

    def messages() -> list[dict[str, object]]:
        return [json.loads(line) for line in service.processes.log("watch").splitlines()]

    wait_for("the first message", messages)
    observe(session("a", clients=1), session("b", "bob", clients=1))
    wait_for("the change", lambda: len(messages()) == 2)
    observe(session("a", clients=5))
    wait_for("the end", lambda: len(messages()) == 3)
    assert [message["id"] for message in messages()] == ["a", "a", "a"] and messages()[-1][
        "data"
    ] is None
    watching.send_signal(2)
    assert watching.wait(20) == 0
    assert "Traceback" not in service.processes.log("watch")


def test_watch_in_a_terminal_is_a_live_table(
    command: Command, service: Service, observe: Observe
) -> None:
    observe(session("a", command="first-program"))
    command("--version")
    outer, inner = pty.openpty()
    watching = service.processes.add(
        subprocess.Popen(
            [sys.executable, "-m", "fastx_list", "watch", "--login", "alice"],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**service.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"},
        )
    )
    os.close(inner)
    shown = b""

    def shows(text: bytes) -> bool:
        nonlocal shown
        while select.select([outer], [], [], 0.05)[0]:
            shown += os.read(outer, 65536)
        return text in shown

    wait_for("the table", lambda: shows(b"first-program"))
    observe(session("b", command="second-program"))
    wait_for("the change", lambda: shows(b"second-program"))
    end(watching)
    os.close(outer)


def test_agent_once_looks_once(command: Command, service: Service) -> None:
    spool = service.state / "spool"
    spool.mkdir(parents=True)
    path = spool / "a.json"
    path.write_text('{"login": "alice"}')
    os.utime(path, (1, 1))
    done = command("agent", "--once")
    assert done.returncode == 0 and re.fullmatch(
        r"[1-9][0-9]* sessions? on this machine\n", done.stdout
    )
    assert [
        members["login"]
        for members in json.loads(command("ls", "--login", "alice", "--json").stdout)
    ] == ["alice"]


def test_agent_once_fails_if_it_cannot_write(command: Command, service: Service) -> None:
    service.state.mkdir()
    (service.state / "sessions.db").mkdir()
    done = command("agent", "--once")
    assert done.returncode == 1 and "sessions.db" in done.stderr and "Traceback" not in done.stderr


def test_up_serves_a_first_look_and_leaves_nothing_behind(service: Service) -> None:
    bind, live_bind = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    up = service.processes.start(
        [
            sys.executable,
            "-m",
            "fastx_list",
            "up",
            "--demo",
            "--bind",
            bind,
            "--live-bind",
            live_bind,
        ],
        "up",
        service.environ,
    )
    wait_for("the greeting", lambda: "Ctrl-C stops" in service.processes.log("up"))
    said = service.processes.log("up")
    token = re.findall(r"TOKEN=(\S+)", said)[0]
    assert f"http://{bind}/#token={token}" in said and f"ws://{live_bind}/api/list?token=" in said
    names = [
        members["params"].get("name", "")
        for members in fetch(f"http://{bind}/api/list/{token}").json
    ]
    assert len([name for name in names if name.startswith("Simulated: ")]) == 5
    page = fetch(f"http://{bind}/")
    assert (
        page.status == 200
        and f'data-live-port="{live_bind.rpartition(":")[2]}"'.encode() in page.body
    )
    children = [int(pid) for pid in _children(up.pid)]
    assert len(children) == 3
    os.kill(_named(children, "fastx_list agent"), 9)
    wait_for("the agent's return", lambda: "the agent has stopped" in service.processes.log("up"))
    wait_for("three processes", lambda: len(_children(up.pid)) == 3)
    up.send_signal(2)
    assert up.wait(30) == 0
    assert list((service.state / "spool").iterdir()) == []
    assert "Traceback" not in service.processes.log("up")


def _children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return file.read().split()


def _named(pids: list[int], words: str) -> int:
    for pid in pids:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            if words in file.read().replace("\0", " "):
                return pid
    raise AssertionError(f"no process is called {words}")


def test_up_says_that_a_port_is_taken(service: Service) -> None:
    service.start_list()
    done = service.run("up", "--bind", f"127.0.0.1:{service.list_port}", check=False)
    assert (
        done.returncode == 1
        and "Address already in use" in done.stderr
        and "choose another with --bind" in done.stderr
    )


def test_up_without_a_session_says_how_to_get_one(service: Service) -> None:
    """As a user who has none: whoever runs the tests may have some."""
    up = service.processes.start(
        [
            sys.executable,
            "-c",
            (
                "import fastx_list.agent.process as p; p.login_of = lambda uid: 'nobody-at-all'\n"
                "from fastx_list.command.cli import main; main()"
            ),
            "up",
            "--bind",
            f"127.0.0.1:{free_port()}",
            "--live-bind",
            f"127.0.0.1:{free_port()}",
        ],
        "up",
        service.environ,
    )
    wait_for("what to do", lambda: "fastx-list up --demo" in service.processes.log("up"))
    assert "nobody-at-all has no session on this machine now" in service.processes.log("up")
    end(up)
