"""Commands that ask the service: with a token over HTTP, or over the socket for local users."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastx_list.command.cli import main
from tests.answers import Observe
from tests.conftest import session
from tests.support import Service, let_others_in, needs_root, wait_for

DAEMON = 1
# Python itself may be where only root reads
AS_USER = (
    "import os, encodings.idna, click._textwrap, fastx_list.command.cli\n"
    "os.setgroups([]); os.setgid({uid}); os.setuid({uid})\n"
    "fastx_list.command.cli.main()"
)
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def listing(service: Service, observe: Observe, tmp_path: Path) -> Service:
    """A list with a socket for local users."""
    let_others_in(tmp_path)
    observe(session("a", "daemon", clients=2), session("b", "bob"), session("c", "root"))
    service.environ["FASTX_LIST_LOCAL_SOCKET"] = f"{tmp_path}/local.sock"
    command = [sys.executable, "-m", "gunicorn", "-c", "python:fastx_list.web.server"]
    command += ["--bind", f"127.0.0.1:{service.list_port}", "fastx_list:create_app()"]
    command += ["--bind", f"unix:{tmp_path}/local.sock"]
    service.processes.start(command, "list", service.environ)
    wait_for("the list", lambda: service._answers(service.list_port))
    return service


@pytest.fixture
def run(listing: Service, tmp_path: Path) -> Iterator[Run]:
    """Runs ``fastx-list`` as a user who has no store."""
    home = tmp_path / "home"
    home.mkdir()

    def run(
        *arguments: str, uid: int | None = None, given: str = "", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in listing.environ.items()
               if name != "FASTX_LIST_STATE_DIR"} | {"HOME": str(home)} | environ  # fmt: skip
        if uid is None:
            done = CliRunner(env=env).invoke(main, arguments, input=given)
            assert done.exception is None or isinstance(done.exception, SystemExit)
            return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
        command = [sys.executable, "-c", AS_USER.format(uid=uid), *arguments]
        return subprocess.run(
            command, env=env, input=given, capture_output=True, text=True, timeout=60
        )

    yield run
    assert "eyJ" not in listing.processes.log("list")


def test_a_user_of_the_machine_needs_nothing_to_see_their_sessions(
    run: Run, tmp_path: Path
) -> None:
    needs_root()
    own = run("ls", "-o", "name", uid=DAEMON)
    assert (own.stdout, own.stderr, own.returncode) == ("a\n", "", 0)
    [past] = json.loads(run("history", "--json", uid=DAEMON).stdout)
    assert past["id"] == "a"
    told = run("events", uid=DAEMON)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["session"] == "a"
    for arguments in (("servers",), ("ls", "--login", "bob"), ("events", "--all")):
        refused = run(*arguments, uid=DAEMON)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "for administrators: run it as root" in refused.stderr
        assert refused.stderr.count("\n") == 1
    nameless = run("ls", uid=54321)
    assert nameless.returncode == 1 and "user id 54321 has no name" in nameless.stderr
    everybody = run("ls", "--all", "-o", "name", "--url", f"unix:{tmp_path}/local.sock")
    assert everybody.stdout.split() == ["a", "b", "c"]


def test_a_service_elsewhere_is_asked_with_a_token(
    run: Run, listing: Service, tmp_path: Path
) -> None:
    token, admin = listing.token("bob"), listing.token("root", admin=True)
    at = ("--url", listing.url)
    assert run("ls", *at, "-o", "name", FASTX_LIST_TOKEN=token).stdout == "b\n"
    file = tmp_path / "token"
    file.write_text(f"Bearer {admin}\n")
    file.chmod(0o640)
    assert "chmod 600" in run("servers", *at, "--token-file", str(file)).stderr
    file.chmod(0o600)
    found = run("ls", "--all", *at, "--token-file", str(file), "--sort-by", "login", "--json")
    assert [each["login"] for each in json.loads(found.stdout)] == ["bob", "daemon", "root"]
    assert run(
        "ls", "--login", "daemon", *at, "--token-file", "-", "-o", "name", given=admin
    ).stdout
    for arguments, words in (
        (("ls", *at), "there is none"),
        (("ls", "--url", "unix:/nowhere"), "no answer from unix:/nowhere: No such file"),
        (("ls", "--url", "list.example.org"), "takes https://HOST"),
        (("ls", "--url", "http://192.0.2.1", "--token-file", str(file)), "goes over https"),
        (("ls", "--url", "ws://192.0.2.1", "--token-file", str(file)), "goes over https"),
        (("ls", "--url", "http://[::1", "--token-file", str(file)), "goes over https"),
        (("login", "http://[::1"), "goes over https"),
        (("ls", "--url", f"{listing.url}/\u00e4"), "takes https://HOST"),
    ):
        refused = run(*arguments)
        assert refused.returncode in (1, 2) and refused.stdout == ""
        assert words in refused.stderr and "Traceback" not in refused.stderr
        assert refused.stderr.count("Error: ") == 1
    for wrong in (f"{token}\nX: y", f"{token} x", f"{token}\u00e4"):
        refused = run("ls", *at, FASTX_LIST_TOKEN=wrong)
        assert refused.returncode == 1 and "the token is none" in refused.stderr
        assert token not in refused.stderr + run("login", listing.url, given=f"{wrong}").stderr


def test_login_keeps_a_token_that_holds_and_logout_forgets_it(
    run: Run, listing: Service, tmp_path: Path
) -> None:
    needs_root()
    home = tmp_path / "home"
    os.chown(home, DAEMON, DAEMON)
    refused = run("login", listing.url, uid=DAEMON, given="x\n")
    assert refused.returncode == 1 and "well-formed" in refused.stderr
    assert not list(home.rglob("*.json"))
    kept = run("login", listing.url, uid=DAEMON, given=listing.token("bob") + "\n")
    assert f"bob may ask {listing.url} until 20" in kept.stdout, kept.stderr
    [file] = home.rglob("login.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run("ls", "-o", "name", uid=DAEMON).stdout == "b\n"
    file.chmod(0o644)
    assert "chmod 600" in run("ls", uid=DAEMON).stderr
    file.chmod(0o600)
    assert "is gone" in run("logout", uid=DAEMON).stdout
    assert run("ls", "-o", "name", uid=DAEMON).stdout == "a\n"
    assert "over https" in run("login", "http://192.0.2.1", uid=DAEMON, given="x").stderr
    unwritable = run("login", listing.url, given=listing.token("bob") + "\n", HOME="/proc/none")
    assert unwritable.returncode == 1 and "login.json cannot be written" in unwritable.stderr


def test_watch_and_events_go_on_while_nobody_answers_and_tell_nothing_twice(
    run: Run, listing: Service, observe: Observe
) -> None:
    admin = {"FASTX_LIST_TOKEN": listing.token("root", admin=True)}
    at = ("--url", listing.url)
    assert run("events", "--all", *at, **admin).stdout.count("\n") == 3
    assert json.loads(run("events", "--login", "bob", *at, **admin).stdout)["session"] == "b"
    environ = listing.environ | {"FASTX_LIST_TOKEN": listing.token("bob"), "HOME": "/nonexistent"}
    [listed] = listing.processes._started
    begun = ("--follow", "--since", "1h", "--filter", "event==sessionBegan")
    for name, options in (("watch", ()), ("events", begun)):
        command = [sys.executable, "-m", "fastx_list", name, *at, *options]
        listing.processes.start(command, name, environ)

    def told() -> list[tuple[str, bool]]:
        lines = [json.loads(line) for line in listing.processes.log("watch").splitlines()]
        return [(each["id"], each["data"] is not None) for each in lines]

    def began() -> list[str]:
        lines = [line for line in listing.processes.log("events").splitlines() if line[0] == "{"]
        return [json.loads(line)["session"] for line in lines]

    wait_for("its session", lambda: told() == [("b", True)] and began() == ["b"])
    listed.terminate()
    listed.wait(20)
    observe(session("d", "bob"), session("e", "alice"))
    wait_for("a warning", lambda: "no answer from" in listing.processes.log("events"))
    listing.start_list()
    wait_for("what has changed", lambda: told()[1:] == [("b", False), ("d", True)])
    wait_for("what was missed", lambda: began() == ["b", "d"])
    observe(session("f", "bob"))
    wait_for("what happens", lambda: began() == ["b", "d", "f"])
    # The list may first hang up, and then be gone
    told_of = [line for line in listing.processes.log("events").splitlines() if line[0] == "W"]
    assert len(set(told_of)) == len(told_of)


@pytest.mark.parametrize(
    ("status", "headers", "body", "words"),
    [
        (403, {}, '{"error": {"message": "a\\u001b[2Jb\\u202e"}}', ": a\ufffd[2Jb\ufffd"),
        (503, {}, '{"error": {"message": "\\u001b]0;x\\u0007"}}', ": \ufffd]0;x\ufffd"),
        (200, {}, '{"a": 1}', "no service's of ours"),
        (200, {}, "[1]", "no service's of ours"),
        (200, {"X-Total-Count": "9" * 5000}, "[]", "no service's of ours"),
        (302, {"Location": "http://127.0.0.1:1/"}, "", "no service's of ours"),
    ],
)
def test_what_another_service_answers_is_told_in_one_line_that_steers_no_terminal(
    tmp_path: Path, status: int, headers: dict[str, str], body: str, words: str
) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other, ExitStack() as ending:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        ending.callback(other.shutdown)
        url, env = f"http://127.0.0.1:{other.server_port}", {"HOME": str(tmp_path)}
        for arguments in (
            *(("ls",), ("servers",), ("history",), ("events",), ("events", "--follow")),
            *(("show", "x"), ("login",)),
        ):
            at = (url,) if arguments == ("login",) else ("--url", url)
            done = CliRunner(env=env).invoke(main, [*arguments, *at], input="x\n")
            if arguments == ("login",) and status == 200 and not headers:
                continue  # it asks for nothing but whether the token holds
            assert done.exit_code == 1 and done.stderr.count("\n") == 1
            assert words in done.stderr and done.stderr.rstrip("\n").isprintable()
