from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from flask.testing import FlaskClient

from fastx_list import create_app
from fastx_list.config import Settings
from fastx_list.store import Store
from fastx_list.tokens import read_secret
from tests.conftest import session

Issue = Callable[..., str]
Observe = Callable[..., None]


@pytest.fixture(autouse=True)
def _sessions(observe: Observe) -> None:
    observe(
        session("a", started=1, geometry="800x600", clients=0, command="xterm"),
        session("b", started=2, geometry="1280x720", clients=2, command="blender"),
        session(
            "c",
            started=3,
            geometry="1024x768",
            clients=0,
            command="matlab",
            params={"name": "Thesis", "tag": "x"},
        ),
        session("d", "bob", started=4, command="secret of bob"),
    )


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [member["id"] for member in content(answer)]


def content(answer: Any) -> Any:
    """Return the JSON of an answer."""
    return json.loads(answer.data)


def error(answer: Any, status: int, name: str) -> str:
    """Check the one form of an error and return its message."""
    assert answer.status_code == status
    assert answer.mimetype == "application/json"
    assert content(answer).keys() == {"error"} and content(answer)["error"].keys() == {
        "name",
        "message",
    }
    assert content(answer)["error"]["name"] == name
    message: str = content(answer)["error"]["message"]
    return message


def test_it_lists_the_sessions_of_the_tokens_login_only(client: FlaskClient, token: Issue) -> None:
    answer = client.get(f"/api/list/{token('alice')}")
    assert ids(answer) == ["a", "b", "c"]
    assert b"bob" not in answer.data
    assert answer.headers["X-Total-Count"] == "3"
    assert answer.mimetype == "application/json"
    assert ids(client.get(f"/api/list/{token('bob')}")) == ["d"]
    assert ids(client.get(f"/api/list/{token('nobody-here')}")) == []


def test_an_administrators_token_lists_its_own_login_here_too(
    client: FlaskClient, token: Issue
) -> None:
    assert ids(client.get(f"/api/list/{token('bob', admin=True)}")) == ["d"]


@pytest.mark.parametrize("method", ["query", "form", "multipart", "json"])
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"sortBy": "command"}, ["b", "c", "a"]),
        ({"sortBy": "command", "sortReverse": "true"}, ["a", "c", "b"]),
        ({"start": "1"}, ["b", "c"]),
        ({"start": "1", "limit": "1"}, ["b"]),
        ({"limit": "0"}, []),
        ({"filter": "clients==0"}, ["a", "c"]),
        ({"filter": "geometry==800x600,1280x720"}, ["a", "b"]),
        ({"filter": ["clients==0", "name==Thesis"]}, ["c"]),
        ({"_": "1693", "unknown": "ignored"}, ["a", "b", "c"]),
    ],
)
def test_parameters_mean_the_same_wherever_they_stand(
    client: FlaskClient, token: Issue, method: str, parameters: dict[str, Any], expected: list[str]
) -> None:
    url = f"/api/list/{token('alice')}"
    if method == "query":
        answer = client.get(url, query_string=parameters)
        assert ids(client.post(url, query_string=parameters)) == expected
    elif method == "json":
        answer = client.post(url, json=parameters)
    else:
        content_type = {
            "form": "application/x-www-form-urlencoded",
            "multipart": "multipart/form-data",
        }[method]
        answer = client.post(url, data=parameters, content_type=content_type)
    assert ids(answer) == expected


def test_the_body_wins_over_the_query_and_filters_of_both_hold(
    client: FlaskClient, token: Issue
) -> None:
    url = f"/api/list/{token('alice')}"
    assert ids(client.post(f"{url}?limit=1&start=1", json={"limit": 2})) == ["b", "c"]
    assert ids(client.post(f"{url}?filter=clients%3D%3D0", json={"filter": "name==Thesis"})) == [
        "c"
    ]
    assert ids(
        client.post(f"{url}?filter=clients%3D%3D0", data={"filter": ["name==Thesis", "tag==x"]})
    ) == ["c"]
    assert ids(client.post(f"{url}?filter=clients%3D%3D0", json={"filter": ["name=="]})) == ["a"]


def test_json_takes_numbers_booleans_and_null(client: FlaskClient, token: Issue) -> None:
    url = f"/api/list/{token('alice')}"
    assert ids(
        client.post(url, json={"sortReverse": True, "start": 1, "limit": 1, "sortBy": None})
    ) == ["b"]
    assert ids(client.post(url)) == ["a", "b", "c"]


def test_the_token_may_stand_elsewhere_than_in_the_path(client: FlaskClient, token: Issue) -> None:
    good = token("bob")
    for path in ("/api/list", "/api/list/"):
        assert ids(client.get(path, headers={"Authorization": f"Bearer {good}"})) == ["d"]
        assert ids(client.get(path, headers={"X-FASTX-TOKEN": good})) == ["d"]
        assert ids(client.get(path, query_string={"token": good})) == ["d"]
        assert ids(client.post(path, data={"token": good})) == ["d"]
        # A GET has no body that anybody would read
        assert client.get(path, data={"token": good}).status_code == 401


def test_total_count_is_that_before_paging(client: FlaskClient, token: Issue) -> None:
    answer = client.get(f"/api/list/{token('alice')}?limit=1&filter=clients%3D%3D0")
    assert answer.headers["X-Total-Count"] == "2" and len(content(answer)) == 1


def test_an_unchanged_list_is_not_sent_again(
    client: FlaskClient, token: Issue, observe: Observe
) -> None:
    url = f"/api/list/{token('alice')}"
    first = client.get(url)
    tag = first.headers["ETag"]
    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get(url, headers={"If-None-Match": condition})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200
    observe(session("a", started=1))
    assert client.get(url, headers={"If-None-Match": tag}).status_code == 200


def test_nothing_in_between_keeps_a_list(client: FlaskClient, token: Issue) -> None:
    answer = client.get(f"/api/list/{token('alice')}")
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert client.get("/api/list/x").headers["Cache-Control"] == "no-store"


def test_an_envelope_can_be_had(environ: dict[str, str], token: Issue) -> None:
    app = create_app({**environ, "FASTX_LIST_RESULT_ENVELOPE": "true"})
    answer = app.test_client().get(f"/api/list/{token('bob')}")
    assert [member["id"] for member in content(answer)["result"]] == ["d"] and content(
        answer
    ).keys() == {"result"}
    app.extensions["fastx-list"].store.close()


def test_what_is_written_shows_in_the_next_answer(
    client: FlaskClient, token: Issue, observe: Observe
) -> None:
    url = f"/api/list/{token('alice')}"
    assert ids(client.get(url)) == ["a", "b", "c"]
    observe(session("e", started=9))
    assert ids(client.get(url)) == ["e"]
    observe()
    assert ids(client.get(url)) == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"start": "-1"}, "start: takes a whole number, 0 or more"),
        ({"limit": "ten"}, "limit: takes a whole number, 0 or more"),
        ({"limit": "1.5"}, "limit: takes a whole number, 0 or more"),
        (
            {"sortReverse": "maybe"},
            "sortReverse: takes true or false (or one of 1, true, yes, on, 0, false, no, off)",
        ),
        (
            {"filter": "clients=0"},
            "filter: takes name==value1,value2 (in a URL the two equals signs are %3D%3D)",
        ),
        ({"filter": ["a==1"] * 33}, "filter: takes at most 32 filters, and this request has 33"),
        (
            {"filter": "a==" + "x" * 4094},
            "filter: takes at most 4096 bytes in all filters together",
        ),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_takes(
    client: FlaskClient, token: Issue, parameters: dict[str, Any], message: str
) -> None:
    url = f"/api/list/{token('alice')}"
    for answer in (
        client.get(url, query_string=parameters),
        client.post(url, query_string=parameters),
        client.post(url, data=parameters),
        client.post(url, json=parameters),
    ):
        assert error(answer, 400, "ValidationError") == message


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"{", "application/json", "body: it is not well-formed JSON in UTF-8"),
        (b"\xff{}", "application/json", "body: it is not well-formed JSON in UTF-8"),
        (b'{"start": NaN}', "application/json", "body: it is not well-formed JSON in UTF-8"),
        (b"[" * 30000, "application/json", "body: it is not well-formed JSON in UTF-8"),
        (b"[]", "application/json", "body: takes a JSON object, such as {}"),
        (b"1", "application/json", "body: takes a JSON object, such as {}"),
        (b"<list/>", "application/xml", "Content-Type: takes application/json"),
        (b"start=1", "", "Content-Type: takes application/json"),
        (b'{"start": -1}', "application/json", "start: takes a whole number, 0 or more"),
        (b'{"start": true}', "application/json", "start: takes a whole number, 0 or more"),
        (b'{"filter": [1]}', "application/json", "filter: takes text"),
        (b'{"filter": {"a": 1}}', "application/json", "filter: takes text"),
        (b'{"sortBy": ["id"]}', "application/json", "sortBy: takes the name"),
        (b'{"sortReverse": {}}', "application/json", "sortReverse: takes true or false"),
        (b'{"limit": 1.5}', "application/json", "limit: takes a whole number, 0 or more"),
        (b'{"limit": 1e999}', "application/json", "limit: takes a whole number, 0 or more"),
        (b"limit=1", "multipart/form-data; boundary=b", "body: it is not a well-formed form"),
        (
            b'--b\r\nContent-Disposition: form-data; name="limit"\r\n\r\n0',
            "multipart/form-data; boundary=b",
            "body: it is not a well-formed form",
        ),
        (b'{"filter": "\\ud800==1"}', "application/json", None),
    ],
)
def test_a_wrong_body_is_refused_and_said_why(
    client: FlaskClient, token: Issue, body: bytes, content_type: str, message: str | None
) -> None:
    answer = client.post(f"/api/list/{token('alice')}", data=body, content_type=content_type)
    if message is None:
        assert ids(answer) == []
    else:
        assert error(answer, 400, "ValidationError").startswith(message)


def test_what_is_wrong_in_the_query_is_refused_also_where_the_body_wins(
    client: FlaskClient, token: Issue
) -> None:
    answer = client.post(f"/api/list/{token('alice')}?limit=-1", json={"limit": 1})
    assert error(answer, 400, "ValidationError") == "limit: takes a whole number, 0 or more"


@pytest.mark.parametrize("two", [2, 2.0, "2", " 2 ", "\x1c\x852\u2003"])
def test_a_whole_number_is_one_however_it_is_written(
    client: FlaskClient, token: Issue, two: Any
) -> None:
    assert ids(client.post(f"/api/list/{token('alice')}", json={"limit": two})) == ["a", "b"]


def test_a_form_without_fields_asks_for_everything(client: FlaskClient, token: Issue) -> None:
    for content_type in (
        "multipart/form-data; boundary=b",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
    ):
        assert ids(
            client.post(f"/api/list/{token('alice')}", data=b"", content_type=content_type)
        ) == ["a", "b", "c"]


def test_an_overlong_body_is_refused(client: FlaskClient, token: Issue) -> None:
    url = f"/api/list/{token('alice')}"
    long = "x" * 70_000
    for answer in (client.post(url, json={"_": long}), client.post(url, data={"_": long})):
        assert "64 KiB" in error(answer, 413, "PayloadTooLarge")


@pytest.mark.parametrize(
    "path", ["/api", "/api/lists", "/api/list/a/b", "/nothing", "/api/admin/x"]
)
def test_an_unknown_address_is_not_found(client: FlaskClient, path: str) -> None:
    error(client.get(path), 404, "NotFound")


def test_a_wrong_method_is_told_the_right_ones(client: FlaskClient, token: Issue) -> None:
    answer = client.delete(f"/api/list/{token('alice')}")
    error(answer, 405, "MethodNotAllowed")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


def test_a_token_that_does_not_hold_is_refused(
    client: FlaskClient, token: Issue, settings: Settings, store: Store
) -> None:
    secret = read_secret(settings.secret_file)
    claims = {"sub": "alice", "aud": "api", "exp": 2**33}
    good = token("alice")
    revoked = token("alice")
    store.revoke(jwt.decode(revoked, options={"verify_signature": False})["jti"], 2**33)
    refused = {
        "x": "well-formed",
        good[:-6] + "AAAAAA": "signature",
        token("alice", ttl=-1): "expired",
        revoked: "revoked",
        jwt.encode({**claims, "aud": "other"}, secret): "aud",
        jwt.encode(claims, secret, "HS512"): "algorithm",
        jwt.encode(claims, "other" * 10): "signature",
        jwt.encode({"aud": "api", "exp": 2**33}, secret): "sub",
        jwt.encode({"aud": "api", "sub": "alice"}, secret): "exp",
        jwt.encode(claims, "", "none"): "algorithm",
        "a" * 5000: "at most",
    }
    for bad, word in refused.items():
        for answer in (
            client.get(f"/api/list/{bad}"),
            client.get("/api/list", headers={"Authorization": f"Bearer {bad}"}),
        ):
            message = error(answer, 401, "AuthError")
            assert word in message and bad not in answer.text
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "there is none" in error(client.get("/api/list"), 401, "AuthError")
    assert ids(client.get(f"/api/list/{good}")) == ["a", "b", "c"]


def test_the_last_copy_is_served_while_the_store_is_away(
    client: FlaskClient, token: Issue, settings: Settings
) -> None:
    url = f"/api/list/{token('alice')}"
    assert "Warning" not in client.get(url).headers
    assert client.get("/ready").status_code == 200
    database = settings.state_dir / "sessions.db"
    os.rename(database, settings.state_dir / "away")
    database.mkdir()
    answer = client.get(url)
    assert ids(answer) == ["a", "b", "c"] and answer.headers["Warning"].startswith("110 ")
    assert "last known state" in error(client.get("/ready"), 503, "Unavailable")
    assert client.get("/health").status_code == 200


def test_without_any_copy_it_says_so(environ: dict[str, str], tmp_path: Path, token: Issue) -> None:
    (tmp_path / "broken").write_bytes(b"no database" * 1000)
    app = create_app({**environ, "FASTX_LIST_STORE": f"sqlite:///{tmp_path / 'broken'}"})
    for path in (f"/api/list/{token('alice')}", "/ready"):
        error(app.test_client().get(path), 503, "Unavailable")


def test_a_mistake_of_ours_shows_no_stack_and_logs_no_token(
    client: FlaskClient,
    token: Issue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = token("alice")

    def fail(*args: object) -> None:
        raise RuntimeError(f"broken by /api/list/{good}")

    monkeypatch.setattr("fastx_list.replica.replica.Replica.page", fail)
    with caplog.at_level(logging.DEBUG):
        answer = client.get(f"/api/list/{good}")
    assert error(answer, 500, "InternalError") == "the server made a mistake; its log says more"
    assert (
        "RuntimeError" in caplog.text
        and good not in caplog.text
        and good.split(".")[2] not in caplog.text
    )


def test_text_of_any_kind_arrives_whole(
    client: FlaskClient, token: Issue, observe: Observe
) -> None:
    command = '\x00\x1b</script>\u202e\U0001f600\u2028"\\'
    observe(session("z", command=command, params={"ключ": command}))
    answer = client.get(f"/api/list/{token('alice')}")
    assert json.loads(answer.data)[0]["command"] == command
    assert content(answer)[0]["params"] == {"ключ": command}
