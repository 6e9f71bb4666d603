from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys

import jwt
import pytest

from tests.command.conftest import Command
from tests.support import Service, fetch


def test_help_is_enough_to_get_by(command: Command) -> None:
    names = {"up", "agent", "token", "ls", "watch", "servers", "backup", "restore"}
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
    known = json.loads(command("token", "list", "-o", "json").stdout)
    jti = jwt.decode(first, options={"verify_signature": False})["jti"]
    assert [(each["id"], each["state"]) for each in known] == [(jti, "revoked")]
    assert command("token", "issue", "carol").returncode == 0
    listed = command("token", "list")
    assert re.search(r"carol +no +20\S+ \S+ +good", listed.stdout)
    assert "what portals have signed" in listed.stderr
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
        done.returncode == os.EX_CONFIG
        and "FASTX_LIST_SCAN_INTERVAL takes a number from 0.1 to 3600" in done.stderr
    )


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


def test_agent_once_fails_if_it_cannot_see_a_kind(command: Command, service: Service) -> None:
    service.state.mkdir(mode=0o700)
    (service.state / "spool").touch()
    done = command("agent", "--once", FASTX_LIST_SOURCES="spool")
    assert done.returncode == 1 and "0 sessions on this machine" not in done.stdout
    assert "spool: what is there cannot be seen" in done.stderr
    assert "Not a directory" in done.stderr


def test_agent_once_fails_if_it_cannot_write(command: Command, service: Service) -> None:
    service.state.mkdir()
    (service.state / "sessions.db").mkdir()
    done = command("agent", "--once")
    assert done.returncode == 1 and "sessions.db" in done.stderr and "Traceback" not in done.stderr


def test_a_store_that_cannot_be_looked_at_keeps_no_command_from_its_work(command: Command) -> None:
    store = f"sqlite:////tmp/{'x' * 300}/sessions.db"  # longer than a name may be
    done = command("token", "issue", "alice", FASTX_LIST_STORE=store)
    assert done.returncode == 0 and done.stdout.count(".") == 2
    assert "cannot be looked at: File name too long" in done.stderr
    assert "Traceback" not in done.stderr
    done = command("ls")
    assert done.returncode == 1 and "File name too long" in done.stderr
    assert "Traceback" not in done.stderr
