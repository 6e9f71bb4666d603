"""``fastx-list events`` and ``deliver``."""

from __future__ import annotations

import base64
import hmac
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fastx_list.command import sinks
from fastx_list.command.sinks import Deliverer, sinks_of
from fastx_list.config import ConfigError, Settings, load
from fastx_list.store import Store
from tests.answers import Observe
from tests.command.conftest import Command
from tests.conftest import session
from tests.support import Service, wait_for

SECRET = "s" * 32


class Hook(ThreadingHTTPServer):
    """Takes what is posted to it, as often as it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []  # the next ones; 200 when there are no more
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook?key=secret"

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.taken]


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.answers.pop(0) if self.server.answers else 200
        if status == 200:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.taken.append((headers, body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "events.log"


@pytest.fixture
def delivering(environ: dict[str, str], hook: Hook, log_file: Path) -> Settings:
    return load(
        environ
        | {
            "FASTX_LIST_EVENTS": str(log_file),
            "FASTX_LIST_WEBHOOK": hook.url,
            "FASTX_LIST_WEBHOOK_SECRET": SECRET,
        }
    )


def deliver(settings: Settings, store: Store, turns: int = 3) -> None:
    """Run the deliverer for a few turns, and end it."""
    with Deliverer(settings, store.archive, sinks_of(settings)) as deliverer:
        for _ in range(turns):
            deliverer.turn()


def start(service: Service, name: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fastx_list", name, *options]
    return service.processes.start(command, name, service.environ)


def written(file: Path) -> list[str]:
    return [json.loads(line)["event"] for line in file.read_text().splitlines()]


def test_what_has_happened_is_printed_a_line_each(command: Command, observe: Observe) -> None:
    observe(session("a"))
    issued = command("token", "issue", "alice").stdout
    lines = [json.loads(line) for line in command("events", "--all").stdout.splitlines()]
    assert [line["event"] for line in lines] == ["sessionBegan", "tokenIssued"]
    assert lines[0]["session"] == "a" and lines[1]["login"] == "alice"
    assert issued.strip() not in json.dumps(lines)
    later = [
        json.loads(line)
        for line in command("events", "--all", "--since", lines[0]["id"]).stdout.splitlines()
    ]
    assert later == lines[1:]
    assert command("events", "--all", "--since", "1h").stdout.count("\n") == 2
    assert command("events", "--all", "--since", "2999-01-01").stdout == ""
    assert command("events", "--login", "alice").stdout.count("\n") == 2
    assert command("events").stdout == command("events", "--login", "bob").stdout == ""
    assert json.loads(command("events", "--all", "--filter", "session==a").stdout) == lines[0]
    assert command("events", "--since", "soon").returncode == 2
    unknown = command("events", "--since", "99-0123456789abcdef")
    assert unknown.stdout == "" and unknown.stderr == (
        "Warning: not all events up to here are kept (any more)\n"
    )


def test_what_happens_is_followed(service: Service, observe: Observe) -> None:
    service.environ["FASTX_LIST_SERVER_ID"] = "here"
    observe(session("a"))
    process = start(service, "events", "--all", "--follow", "--since", "1h")
    out = service.processes
    wait_for("what has happened", lambda: "sessionBegan" in out.log("events"))
    observe()
    wait_for("what happens", lambda: "sessionEnded" in out.log("events"))
    process.terminate()
    assert process.wait(30) == 0


def test_events_come_to_a_file_and_a_webhook_once_and_in_order(
    delivering: Settings, hook: Hook, log_file: Path, store: Store, observe: Observe
) -> None:
    observe(session("before"))
    deliver(delivering, store)  # what was before it was begun is nobody's
    assert not hook.taken and not log_file.exists()
    observe(session("a"), session("before"))
    deliver(delivering, store)
    observe()
    deliver(delivering, store)
    deliver(delivering, store)
    expected = ["sessionBegan", "sessionEnded", "sessionEnded"]
    assert written(log_file) == [event["event"] for event in hook.events()] == expected
    assert log_file.read_text().splitlines() == [body.decode() for _, body in hook.taken]


def test_a_webhook_can_see_who_has_sent_it(
    delivering: Settings, hook: Hook, store: Store, observe: Observe
) -> None:
    deliver(delivering, store)
    observe(session("a"))
    deliver(delivering, store)
    [(headers, body)] = hook.taken
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(SECRET.encode(), signed, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == json.loads(body)["id"]
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [301, 404, 500])
def test_what_a_webhook_refuses_is_sent_again_and_holds_up_nobody_else(
    delivering: Settings,
    hook: Hook,
    log_file: Path,
    store: Store,
    observe: Observe,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    monkeypatch.setattr(sinks, "FIRST_PAUSE", 0.0)
    deliver(delivering, store)
    observe(session("a"), session("b"))
    hook.answers = [status, status, 200, status]
    deliver(delivering, store, turns=6)
    assert [event["session"] for event in hook.events()] == ["a", "b"]
    assert written(log_file) == ["sessionBegan"] * 2
    assert "secret" not in caplog.text and SECRET not in caplog.text
    assert caplog.text.count("takes no events") == caplog.text.count("takes events again") == 1


def test_who_does_not_answer_is_asked_less_and_less_often(
    delivering: Settings, store: Store, observe: Observe, hook: Hook
) -> None:
    deliver(delivering, store)
    hook.shutdown()
    hook.server_close()
    observe(session("a"))
    pauses = []
    with Deliverer(delivering, store.archive, sinks_of(delivering)) as deliverer:
        for _ in range(12):
            deliverer._next.clear()
            deliverer.turn()
            pauses += [pause for name, pause in deliverer._pauses.items() if "webhook" in name]
    assert pauses[:4] == [1, 2, 4, 8] and pauses[-1] == sinks.LONGEST_PAUSE


def test_a_file_goes_on_where_it_ends_whoever_died(
    delivering: Settings, log_file: Path, store: Store, observe: Observe
) -> None:
    deliver(delivering, store)
    observe(session("a"))
    deliver(delivering, store)
    places = delivering.state_dir / "events-delivered"
    before = places.read_text()
    observe(session("a"), session("b"))
    deliver(delivering, store)
    places.write_text(before)  # as if it had died before it could say so
    with log_file.open("a") as file:
        file.write('{"id": "half a li')
    observe()
    deliver(delivering, store)
    assert written(log_file) == ["sessionBegan"] * 2 + ["sessionEnded"] * 2
    log_file.rename(f"{log_file}.1")
    observe(session("c"))
    deliver(delivering, store)
    assert written(log_file) == ["sessionBegan"]


def test_one_delivers_and_not_two(delivering: Settings, store: Store) -> None:
    with (
        Deliverer(delivering, store.archive, []),
        pytest.raises(ConfigError, match="delivered already"),
    ):
        deliver(delivering, store)


def test_a_store_that_is_away_is_waited_for(
    delivering: Settings, store: Store, observe: Observe, log_file: Path
) -> None:
    deliver(delivering, store)
    observe(session("a"))
    database = Path(delivering.store.removeprefix("sqlite:///"))
    aside = database.with_name("aside")
    store.close()
    os.rename(database, aside)
    database.mkdir()
    with Deliverer(delivering, store.archive, sinks_of(delivering)) as deliverer:
        deliverer.turn()
        database.rmdir()
        os.rename(aside, database)
        deliverer._next.clear()
        deliverer.turn()
    assert written(log_file) == ["sessionBegan"]


def test_the_command_delivers_until_it_is_stopped(
    service: Service, observe: Observe, hook: Hook
) -> None:
    nothing = service.run("deliver", check=False)
    assert nothing.returncode == os.EX_CONFIG and "FASTX_LIST_WEBHOOK" in nothing.stderr
    service.environ |= {"FASTX_LIST_WEBHOOK": hook.url, "FASTX_LIST_EVENTS": "journal"}
    refused = service.run("deliver", check=False)
    assert refused.returncode == os.EX_CONFIG and "FASTX_LIST_WEBHOOK_SECRET" in refused.stderr
    service.environ |= {"FASTX_LIST_WEBHOOK_SECRET": SECRET, "FASTX_LIST_SERVER_ID": "here"}
    process = start(service, "deliver")
    places = service.state / "events-delivered"
    wait_for("it to begin", lambda: places.exists() and places.read_text().count(":") >= 2)
    observe(session("a"))
    wait_for("the event", lambda: hook.events())
    wait_for("it in the journal", lambda: "sessionBegan" in service.processes.log("deliver"))
    process.terminate()
    assert process.wait(30) == 0
