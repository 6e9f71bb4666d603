"""Release 0.1.0 beside this one, as while several machines are upgraded one by one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fastx_list.text import version
from tests import first_release
from tests.redis_server import RedisServer, redis_server
from tests.support import Processes, Service, fetch, wait_for

S = TypeVar("S", bound=Service)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of release 0.1.0."""
    tree = tmp_path_factory.mktemp("older")
    first_release.unpack(tree)
    return tree


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


class Older(Service):
    """The product of release 0.1.0."""

    def _gunicorn(self, name: str, port: int, app: str) -> subprocess.Popen[bytes]:
        # Not where the tests run: Python would find the package of this release there
        command = [sys.executable, "-m", "gunicorn", "-c", "python:fastx_list.server"]
        bind = ["--bind", f"127.0.0.1:{port}", app]
        return self.processes.start([*command, *bind], name, self.environ, cwd=self.state)

    def tell(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the ``fastx-list`` command."""
        command = [sys.executable, "-m", "fastx_list", *arguments]
        return subprocess.run(
            command, env=self.environ, cwd=self.state, capture_output=True, text=True
        )


def machine(kind: type[S], name: str, place: Path, **environ: str) -> S:
    """Return one machine with a session, whose processes are of one release."""
    (place / "logs").mkdir(parents=True)
    spool = place / "state" / "spool"
    spool.mkdir(parents=True)
    (place / "state").chmod(0o700)
    (spool / "one.json").write_text(json.dumps({"login": "alice", "display": 1, "command": name}))
    shared = {"FASTX_LIST_SERVER_ID": name, "FASTX_LIST_SOURCES": "spool"}
    return kind(place / "state", Processes(place / "logs"), {**shared, **environ})


def sessions(service: Service, token: str) -> dict[str, dict[str, Any]]:
    answer = fetch(f"{service.url}/api/list/{token}")
    if answer.status != 200 or answer.headers.get("Warning"):
        return {}
    return {each["serverId"]: each for each in answer.json}


def test_on_one_redis_each_release_lists_and_changes_what_the_other_writes(
    redis: RedisServer, older: Path, tmp_path: Path
) -> None:
    shared = {"FASTX_LIST_STORE": redis.url, "FASTX_LIST_SECRET_KEY": "s" * 40}
    old = machine(Older, "old", tmp_path / "old", PYTHONPATH=str(older), **shared)
    del old.environ["FASTX_LIST_CONFIG"]  # which 0.1.0 would warn of
    new = machine(Service, "new", tmp_path / "new", **shared)
    try:
        for each in (old, new):
            each.start_agent(cwd=each.state)
            each.start_list()
        token = new.token("alice", admin=True)
        for each in (old, new):
            wait_for("both", lambda: sessions(each, token).keys() == {"old", "new"})
        for each in (old, new):
            for name, session in sessions(each, token).items():
                body = json.dumps({"id": session["id"], "params": {each.state.parent.name: name}})
                headers = {"Content-Type": "application/json"}
                url = f"{each.url}/api/params/{token}"
                assert fetch(url, "POST", body.encode(), headers).status == 200
        for each in (old, new):
            params = {name: {"old": name, "new": name} for name in ("old", "new")}
            wait_for(
                "the params",
                lambda: (
                    params
                    == {name: found["params"] for name, found in sessions(each, token).items()}
                ),
            )
            servers = fetch(f"{each.url}/api/admin/server/{token}").json
            versions = {server["id"]: server.get("version") for server in servers}
            assert versions == {"old": None, "new": version()}
        for each in (old, new):
            (each.state / "spool" / "one.json").unlink()
        for each in (old, new):
            wait_for("the ends", lambda: fetch(f"{each.url}/api/list/{token}").json == [])
    finally:
        for each in (old, new):
            each.processes.stop()


def test_a_database_is_taken_over_and_the_older_release_says_that_it_is_newer(
    older: Path, tmp_path: Path
) -> None:
    old = machine(Older, "here", tmp_path / "old", PYTHONPATH=str(older))
    del old.environ["FASTX_LIST_CONFIG"]
    new = Service(old.state, old.processes, {"FASTX_LIST_SERVER_ID": "here"})
    try:
        assert old.tell("agent", "--once").returncode == 0
        old.start_list()
        token = old.token("alice")
        [before] = wait_for("the session", lambda: sessions(old, token)).values()
        body = json.dumps({"id": before["id"], "params": {"name": "kept"}}).encode()
        headers = {"Content-Type": "application/json"}
        assert fetch(f"{old.url}/api/params/{token}", "POST", body, headers).status == 200
        new.run("agent", "--once")
        new.start_list()
        [after] = wait_for("the session", lambda: sessions(new, token)).values()
        assert (after["id"], after["params"]) == (before["id"], {"name": "kept"})
        # What still runs of the older one goes on with its last copy, until it is restarted; a
        # worker that had not been asked before has none
        answers = [fetch(f"{old.url}/api/list/{token}") for _ in range(40)]
        assert {each.status for each in answers} <= {200, 503}
        copies = [each.json for each in answers if each.status == 200]
        assert copies and all([each["id"] for each in copy] == [before["id"]] for copy in copies)
        done = old.tell("ls", "--login", "alice")
        assert done.returncode == 1 and "made by a newer fastx-list" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        old.processes.stop()
