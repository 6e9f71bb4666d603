"""``fastx_list.client`` against the list and the sidecar."""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from fastx_list.client import Client, Refused
from fastx_list.endpoint import Endpoint
from fastx_list.store import Store
from tests.conftest import session
from tests.live.cable import cable, live_through_outages
from tests.live.clients import Observe
from tests.support import Service, let_others_in, needs_root, ordinary_user, wait_for

DOCUMENT = (Path(__file__).parents[2] / "docs" / "portal.md").read_text(encoding="utf-8")


def test_the_documented_program_has_the_list_after_any_outage(
    live: Service, alice: str, observe: Observe, tmp_path: Path
) -> None:
    [text] = re.findall(r'^```python\n("{3}follow\.py.*?)^```$', DOCUMENT, re.MULTILINE | re.DOTALL)
    program = tmp_path / "follow.py"
    program.write_text(text, encoding="utf-8")
    live.start_list()

    def shown() -> Mapping[str, int]:
        whole, _, _ = live.processes.log("client").rpartition("\n")
        last = dict(line.split() for line in whole.splitlines())
        return {name: int(said) for name, said in last.items() if said != "ended"}

    with cable(live.live_port) as wire:
        urls = {"LIST_URL": live.url, "LIST_LIVE_URL": f"ws://127.0.0.1:{wire.port}"}
        environ = live.environ | urls | {"TOKEN": alice}
        live.processes.start([sys.executable, str(program)], "client", environ)
        live_through_outages(live, observe, wire, shown)


@pytest.mark.settings(RESULT_ENVELOPE="true")
def test_it_asks_for_sessions_as_the_api_does(
    live: Service, alice: str, observe: Observe, store: Store
) -> None:
    observe(session("a", clients=1), session("b", started=5), session("c", "bob"))
    live.start_list()
    client = Client(live.url, alice)
    assert [each["id"] for each in client.sessions(sort_by="clients", reverse=True)] == ["a", "b"]
    assert [each["id"] for each in client.sessions(["clients==1,2", "login==alice"])] == ["a"]
    with pytest.raises(Refused, match="administrator") as refused:
        client.sessions(everybody=True)
    assert refused.value.status == 403
    admin = Client(
        live.url, live.token("root", admin=True), live_url=live.live_url.removesuffix("/api/list")
    )
    assert len(admin.sessions(everybody=True)) == 3
    first = admin.ask("/api/admin/session", [("limit", "2")])
    assert (len(first.content), first.total) == (2, 3) and first.etag and first.warning is None
    assert admin.ask("/api/admin/session", [("limit", "2")], first.etag).content is None
    found = {name for name, _ in zip(range(3), admin.follow(everybody=True), strict=False)}
    assert len(found) == 3
    for refusing in (Client(live.url, "x"), Client(live.url)):
        with pytest.raises(Refused, match="token: ") as refused:
            refusing.sessions()
        assert refused.value.status == 401


def test_following_ends_where_trying_again_would_not_help(
    live: Service, alice: str, observe: Observe
) -> None:
    observe(session("a"))
    where = live.live_url.removesuffix("/api/list")
    for client, everybody, status in (
        (Client(where, "x"), False, 401),
        (Client(where, alice), True, 403),
    ):
        with pytest.raises(Refused) as refused:
            next(client.follow(everybody=everybody))
        assert refused.value.status == status
    with pytest.raises(Refused, match="filter"):
        next(Client(where, alice).follow(["clients"]))
    made: list[str] = []

    def token() -> str:
        made.append(live.token("alice", ttl=2))
        return made[-1]

    following = Client(where, token).follow()
    assert next(following)[0] == "a"
    changes: list[object] = []
    threading.Thread(target=lambda: changes.extend(next(following)), daemon=True).start()
    wait_for("the next connection, when the first token has ended", lambda: len(made) > 1)
    observe(session("a", clients=3))
    wait_for("the change", lambda: changes)


def test_a_url_of_another_kind_is_refused() -> None:
    for url in ("list.example.org", "ftp://list.example.org", "unix:", "http://", "http://:80"):
        with pytest.raises(ValueError, match="takes https://HOST"):
            Client(url)


def test_a_socket_that_another_user_holds_is_not_asked(tmp_path: Path) -> None:
    needs_root()
    let_others_in(tmp_path)
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(str(path))
        own.listen()
        path.chmod(0o666)
        with ordinary_user():
            Endpoint(f"unix:{path}").connect(5).close()  # root's
        path.unlink()
    with socket.socket(socket.AF_UNIX) as others:
        tmp_path.chmod(0o777)
        with ordinary_user():
            others.bind(str(path))
            others.listen()
        with pytest.raises(PermissionError, match="held by another user"):
            Endpoint(f"unix:{path}").connect(5)
        with ordinary_user():
            Endpoint(f"unix:{path}").connect(5).close()
