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

from fastx_list.store import Store
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
    names = {"up", "agent", "token", "ls", "watch"}
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
    assert fetch(f"{service.url}/api/list/{first}").json["error"]["message"].startswith("token: it has been revoked")
    assert fetch(f"{service.url}/api/list/{second}").status == 200
    process = subprocess.run(
        [sys.executable, "-m", "fastx_list", "token", "revoke", "-"], env=service.environ, input=second, text=True, check=True,
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
        (("up", "--bind", "8000"), "takes HOST:PORT"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(command: Command, arguments: tuple[str, ...], words: str) -> None:
    done = command(*arguments)
    assert done.returncode in (1, 2) and words in done.stderr.replace("\n", " ") and "Traceback" not in done.stderr


def test_a_wrong_setting_is_named(command: Command) -> None:
    done = command("ls", FASTX_LIST_SCAN_INTERVAL="often")
    assert done.returncode == 1 and "FASTX_LIST_SCAN_INTERVAL takes a number from 0.1 to 3600" in done.stderr


def test_ls_lists_sorts_and_filters(command: Command, observe: Observe) -> None:
    observe(
        session("a", started=1, command="xterm", clients=0, last_disconnect=1000),
        session("b", started=2, command="blender\x1b[2J", clients=2, display=4, geometry="1x1"),
        session("c", "bob"),
    )
    done = command("ls", "--login", "alice")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["SESSION", "DISPLAY", "STATE", "STARTED", "GEOMETRY"]
    assert "xterm" in lines[1] and "disconnected" in lines[1] and "d ago" in lines[1]
    assert "blender\ufffd[2J" in lines[2] and "connected (2 clients)" in lines[2] and "here.example:4" in lines[2]
    found = command("ls", "--login", "alice", "--json", "--sort-by", "command", "--filter", "clients==0,2")
    assert [members["id"] for members in json.loads(found.stdout)] == ["b", "a"]
    found = command("ls", "--login", "alice", "--json", "--reverse")
    assert [members["id"] for members in json.loads(found.stdout)] == ["b", "a"]
    nothing = command("ls", "--login", "alice", "--filter", "clients==7")
    assert nothing.stdout == "" and nothing.stderr == "alice has no session that matches\n"


def test_watch_piped_on_prints_the_published_messages(
    command: Command, service: Service, observe: Observe, store: Store
) -> None:
    observe(session("a"), session("b", "bob"))
    command("--version")
    watching = service.processes.start(
        [sys.executable, "-m", "fastx_list", "watch", "--login", "alice", "--filter", "clients==,1"], "watch", service.environ)

    def messages() -> list[dict[str, object]]:
        return [json.loads(line) for line in service.processes.log("watch").splitlines()]

    wait_for("the first message", messages)
    observe(session("a", clients=1), session("b", "bob", clients=1))
    wait_for("the change", lambda: len(messages()) == 2)
    observe(session("a", clients=5))
    wait_for("the end", lambda: len(messages()) == 3)
    assert [message["id"] for message in messages()] == ["a", "a", "a"] and messages()[-1]["data"] is None
    watching.send_signal(2)
    assert watching.wait(20) == 0
    assert "Traceback" not in service.processes.log("watch")


def test_watch_in_a_terminal_is_a_live_table(command: Command, service: Service, observe: Observe) -> None:
    observe(session("a", command="first-program"))
    command("--version")
    outer, inner = pty.openpty()
    watching = service.processes.add(subprocess.Popen(
        [sys.executable, "-m", "fastx_list", "watch", "--login", "alice"], stdin=inner, stdout=inner, stderr=inner,
        env={**service.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}))
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
    assert done.returncode == 0 and re.fullmatch(r"[1-9][0-9]* sessions? on this machine\n", done.stdout)
    assert [members["login"] for members in json.loads(command("ls", "--login", "alice", "--json").stdout)] == ["alice"]


def test_agent_once_fails_if_it_cannot_write(command: Command, service: Service) -> None:
    service.state.mkdir()
    (service.state / "sessions.db").mkdir()
    done = command("agent", "--once")
    assert done.returncode == 1 and "sessions.db" in done.stderr and "Traceback" not in done.stderr


def test_up_serves_a_first_look_and_leaves_nothing_behind(service: Service) -> None:
    bind, live_bind = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    up = service.processes.start(
        [sys.executable, "-m", "fastx_list", "up", "--demo", "--bind", bind, "--live-bind", live_bind], "up", service.environ)
    wait_for("the greeting", lambda: "Ctrl-C stops" in service.processes.log("up"))
    said = service.processes.log("up")
    token = re.findall(r"TOKEN=(\S+)", said)[0]
    assert f"http://{bind}/#token={token}" in said and f"ws://{live_bind}/api/list?token=" in said
    names = [members["params"].get("name", "") for members in fetch(f"http://{bind}/api/list/{token}").json]
    assert len([name for name in names if name.startswith("Simulated: ")]) == 5
    page = fetch(f"http://{bind}/")
    assert page.status == 200 and f'data-live-port="{live_bind.rpartition(":")[2]}"'.encode() in page.body
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
    assert done.returncode == 1 and "Address already in use" in done.stderr and "choose another with --bind" in done.stderr


def test_up_without_a_session_says_how_to_get_one(service: Service) -> None:
    """As a user who has none: whoever runs the tests may have some."""
    up = service.processes.start(
        [sys.executable, "-c", "import fastx_list.agent.machine as m; m.login_of = lambda uid: 'nobody-at-all'\n"
         "from fastx_list.cli import main; main()", "up", "--bind", f"127.0.0.1:{free_port()}", "--live-bind",
         f"127.0.0.1:{free_port()}"], "up", service.environ)
    wait_for("what to do", lambda: "fastx-list up --demo" in service.processes.log("up"))
    assert "nobody-at-all has no session on this machine now" in service.processes.log("up")
    end(up)
