"""A portal that was written for FastX: it logs its user in, and takes what it gets as FastX's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from fastx_list.model.session import PUBLISHED
from tests.portal.programs import DOCUMENT, OTHERS, THESIS, Observe, Portal
from tests.support import Answer, Processes, Service, fetch, free_port, program, wait_for

JSON = {"Content-Type": "application/json"}
# Of "secret", as htpasswd -B writes it
PASSWORDS = "bob:$2y$05$x\nalice:{}\n"


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A list and a sidecar with the setting that the document names, and no other."""
    assert "\nFASTX_LIST_COMPAT=fastx\n" in DOCUMENT
    directory = tmp_path_factory.mktemp("fastx")
    processes = Processes(directory)
    environ = {"FASTX_LIST_SERVER_ID": "here", "FASTX_LIST_COMPAT": "fastx"}
    service = Service(directory / "state", processes, environ)
    service.start_list()
    service.start_live()
    yield service
    processes.stop()


@pytest.fixture
def login(portal: Portal, tmp_path: Path) -> str:
    """The address of the document's program that answers ``/api/login``."""
    php, address = program("php", "php-cli"), f"127.0.0.1:{free_port()}"
    script = "echo password_hash('secret', PASSWORD_BCRYPT, ['cost' => 4]);"
    portal.processes.start([php, "-r", script], "hash").wait(60)
    passwords = tmp_path / "passwords"
    passwords.write_text(PASSWORDS.format(portal.processes.log("hash").strip()))
    portal.processes.start(
        [php, "-S", address, "login.php"],
        "login.php",
        portal.environ(LIST_PASSWORDS=str(passwords)),
        cwd=portal.folder,
    )
    url = f"http://{address}/api/login"
    wait_for("PHP's server", lambda: _status(url))
    return url


def _status(url: str) -> int:
    try:
        return fetch(url).status
    except OSError:
        return 0


def result(answer: Answer) -> Any:
    """Return what a portal takes out of a success, as FastX's own page does."""
    assert answer.status == 200 and answer.json.keys() == {"result"}, answer.body
    return answer.json["result"]


def failed(answer: Answer) -> str:
    assert answer.json.keys() == {"error"} and answer.json["error"].keys() == {"name", "message"}
    name: str = answer.json["error"]["name"]
    return name


@pytest.mark.parametrize("kind", ["JSON", "form"])
def test_a_portal_logs_in_lists_follows_and_names_a_session(
    listing: Service, login: str, observe: Observe, kind: str
) -> None:
    observe(THESIS, *OTHERS)
    body = b'{"username": "alice", "password": "secret"}'
    form = b"username=alice&password=secret"
    answer = fetch(login, "POST", *((body, JSON) if kind == "JSON" else (form, {})))
    token = result(answer)["token"]

    sessions = result(fetch(f"{listing.url}/api/list/{token}"))
    assert [each["id"] for each in sessions] == ["thesis", "rootless"]
    assert all(tuple(each) == PUBLISHED for each in sessions)
    question = json.dumps({"filter": "windowMode==desktop", "sortBy": "started"}).encode()
    posted = fetch(f"{listing.url}/api/list/{token}", "POST", question, JSON)
    assert [each["id"] for each in result(posted)] == ["thesis"]
    assert result(fetch(f"{listing.url}/api/list/{token}?filter=clients==9")) == []

    with connect(f"{listing.live_url}?token={token}&filter=id==thesis") as socket:
        first = json.loads(socket.recv(timeout=60))
        assert first.keys() == {"id", "data"} and tuple(first["data"]) == PUBLISHED
        name = f"Draft of the {kind}"  # another one each time: nobody is told what is no news
        call = json.dumps({"id": "thesis", "params": {"name": name}}).encode()
        named = result(fetch(f"{listing.url}/api/params/{token}", "POST", call, JSON))
        assert named["params"]["name"] == name
        assert json.loads(socket.recv(timeout=60))["data"]["params"]["name"] == name


def test_what_fails_is_an_error_as_fastx_has_it(listing: Service, login: str) -> None:
    for body in (
        b'{"username": "alice", "password": "wrong"}',
        b'{"username": "nobody", "password": "secret"}',
        b'{"username": "bob", "password": "x"}',
        b'{"username": ["alice"], "password": {}}',
        b"{}",
        b"",
    ):
        answer = fetch(login, "POST", body, JSON)
        assert answer.status == 401 and failed(answer) == "AuthError"
    assert failed(fetch(f"{listing.url}/api/list/x")) == "AuthError"
    assert failed(fetch(f"{listing.url}/api/start/x")) == "NotFound"


def test_what_fastx_does_not_have_is_not_wrapped(listing: Service) -> None:
    assert fetch(f"{listing.url}/health").json == {"status": "ok"}
    assert "paths" in fetch(f"{listing.url}/api/openapi.json").json
