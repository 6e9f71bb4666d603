from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from fastx_list import create_app
from fastx_list.config import Settings
from fastx_list.model.server import Server
from fastx_list.store import Lease, Store, StoreError
from fastx_list.store.sqlite import SqliteStore
from tests.answers import Issue, Observe, content, error
from tests.conftest import session
from tests.replica.stores import remove_database
from tests.support import wait_for


@pytest.fixture(autouse=True)
def _sessions(observe: Observe) -> None:
    observe(session("a"), session("b", "bob"))


def test_params_are_merged_and_the_session_is_the_answer(client: FlaskClient, token: Issue) -> None:
    url = f"/api/params/{token('alice')}"
    answer = client.post(url, json={"id": "a", "params": {"name": "Thesis", "n": 1}})
    assert (
        answer.status_code == 200
        and content(answer)["id"] == "a"
        and content(answer)["params"] == {"name": "Thesis", "n": 1}
    )
    assert answer.headers["Cache-Control"] == "no-store"
    answer = client.post(url, json={"id": "a", "params": {"n": None, "deep": {"x": None}}})
    assert content(answer)["params"] == {"name": "Thesis", "deep": {"x": None}}
    assert content(client.get(f"/api/list/{token('alice')}")) == [content(answer)]


def test_params_outlive_what_the_agent_sees(
    client: FlaskClient, token: Issue, observe: Observe
) -> None:
    client.post(f"/api/params/{token('alice')}", json={"id": "a", "params": {"name": "Thesis"}})
    observe(session("a", clients=3, params={"name": "from the launcher"}))
    [listed] = content(client.get(f"/api/list/{token('alice')}"))
    assert listed["params"] == {"name": "Thesis"} and listed["clients"] == 3


def test_params_of_a_session_that_the_store_has_lost_can_be_set_again_soon(
    client: FlaskClient, token: Issue, store: Store, observe: Observe, settings: Settings
) -> None:
    url, body = f"/api/params/{token('alice')}", {"id": "a", "params": {"name": "Thesis"}}
    server, lease = Server("here", "here.example", last_look=1), Lease("here", "1", "here", 3600)
    store.heartbeat(server, lease)
    assert content(client.get(f"/api/list/{token('alice')}"))
    remove_database(Path(settings.store.removeprefix("sqlite://")))
    answer = client.post(url, json=body)
    assert "try again" in error(answer, 503, "Unavailable")
    observe(session("a"))
    store.heartbeat(server, lease)
    assert client.post(url, json=body).status_code == 200
    other = {**body, "id": "unknown"}
    wait_for("certainty", lambda: client.post(url, json=other).status_code == 404)


def test_a_session_that_has_come_back_since_the_store_was_asked_is_not_one_that_does_not_exist(
    client: FlaskClient, token: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, body = f"/api/params/{token('alice')}", {"id": "a", "params": {"name": "Thesis"}}
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "set_params", lambda self, *asked: None)  # it was emptied
        assert "try again" in error(client.post(url, json=body), 503, "Unavailable")
    assert client.post(url, json=body).status_code == 200


@pytest.mark.parametrize("session_id", ["b", "unknown"])
def test_someone_elses_session_does_not_exist(
    client: FlaskClient, token: Issue, session_id: str
) -> None:
    answer = client.post(
        f"/api/params/{token('alice')}", json={"id": session_id, "params": {"name": "mine"}}
    )
    assert error(answer, 404, "NotFound") == "id: you have no session with this id"
    assert content(client.get(f"/api/list/{token('bob')}"))[0]["params"] == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {},
            (
                "id: takes the id of one of your sessions; params: takes a JSON object; a null in"
                " it removes a param"
            ),
        ),
        ({"id": 1, "params": {}}, "id: takes the id of one of your sessions"),
        ({"id": "\ud800", "params": {}}, "id: takes the id of one of your sessions"),
        ({"id": "", "params": {}}, "id: takes the id of one of your sessions"),
        ({"id": "a", "params": []}, "params: takes a JSON object; a null in it removes a param"),
        ({"id": "a", "params": None}, "params: takes a JSON object; a null in it removes a param"),
        (
            {"id": "a", "params": {"x": "y" * 9000}},
            "params: takes at most 8192 bytes of JSON in all",
        ),
        (
            {"id": "a", "params": {str(n): n for n in range(65)}},
            "params: takes at most 64 keys in all",
        ),
        (
            {"id": "a", "params": {"x": "\udfff"}},
            "params: takes Unicode text and finite numbers only",
        ),
    ],
)
def test_wrong_input_is_named_with_what_it_takes(
    client: FlaskClient, token: Issue, body: Any, message: str
) -> None:
    assert error(
        client.post(f"/api/params/{token('alice')}", json=body), 400, "ValidationError"
    ).startswith(message)
    assert content(client.get(f"/api/list/{token('alice')}"))[0]["params"] == {}


def test_only_json_is_taken(client: FlaskClient, token: Issue) -> None:
    url = f"/api/params/{token('alice')}"
    assert error(client.post(url, data={"id": "a"}), 400, "ValidationError").startswith(
        "Content-Type: takes application/json"
    )
    assert "well-formed" in error(
        client.post(url, data=b"{", content_type="application/json"), 400, "ValidationError"
    )
    assert "64 KiB" in error(
        client.post(url, json={"id": "a", "params": {"x": "y" * 70_000}}), 413, "PayloadTooLarge"
    )


def test_it_takes_posts_with_a_token_only(client: FlaskClient, token: Issue) -> None:
    error(client.get(f"/api/params/{token('alice')}"), 405, "MethodNotAllowed")
    error(client.post("/api/params/x", json={"id": "a", "params": {}}), 401, "AuthError")
    headers = {"Authorization": f"Bearer {token('alice')}"}
    assert (
        client.post("/api/params", json={"id": "a", "params": {}}, headers=headers).status_code
        == 200
    )


def test_the_envelope_holds_here_too(environ: dict[str, str], token: Issue) -> None:
    app = create_app({**environ, "FASTX_LIST_RESULT_ENVELOPE": "on"})
    answer = app.test_client().post(
        f"/api/params/{token('alice')}", json={"id": "a", "params": {"x": 1}}
    )
    assert content(answer)["result"]["params"] == {"x": 1}
    app.extensions["fastx-list"].store.close()


def test_a_change_that_cannot_be_kept_is_said_so(
    client: FlaskClient, token: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise StoreError("database or disk is full")

    monkeypatch.setattr("fastx_list.store.sqlite.SqliteStore.set_params", fail)
    answer = client.post(f"/api/params/{token('alice')}", json={"id": "a", "params": {"x": 1}})
    assert "could not be kept" in error(answer, 503, "Unavailable")
