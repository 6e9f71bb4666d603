"""The short cut for portals' usual question answers exactly as the application behind it does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from fastx_list import create_app
from fastx_list.api.addresses import LISTINGS
from fastx_list.config import Settings
from fastx_list.web.short_cut import short_cut
from tests.answers import Issue, Observe, ids
from tests.conftest import session

QUERIES = (
    "",
    "?",
    "?limit=1",
    "?sortBy=clients&_=17",
    "?filter=clients%3D%3D0&filter=login==alice",
    "?filter=x",
    "?start=-1",
    "?limit=1&limit=2",
    "?sortBy=%FF%00",
    "?filter=%C3%A9%3D%3D%C3%A9",
    "?sortReverse=perhaps",
    "?&&=&limit=",
    "?limit=%D9%A5",
    "?filter[]=clients%3D%3D0&filter%5B7%5D=login==alice",
    "?filters=clients==0",
    "?limit=1;filter=clients==0",
    "?filter=name==%EB",
    "?_=1;filter%5B%5D=clients%3D%3D0",
    "?filter%3Dclients%3D%3D0",
    "?_&filter&%EB",
    "?filters",
)


@pytest.fixture
def both(environ: dict[str, str]) -> Iterator[tuple[FlaskClient, FlaskClient]]:
    """A client of the application as it is, and one of it without the short cut."""
    quick, plain = create_app(environ), create_app(environ)
    del plain.wsgi_app  # the method of the class comes back
    assert plain.wsgi_app.__func__ is Flask.wsgi_app  # type: ignore[attr-defined]
    yield quick.test_client(), plain.test_client()
    for app in (quick, plain):
        app.extensions["fastx-list"].store.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_both_ways_answer_alike(
    both: tuple[FlaskClient, FlaskClient], token: Issue, observe: Observe, method: str
) -> None:
    observe(
        session("a", started=2, clients=1), session("b", started=1, clients=0), session("c", "bob")
    )
    good = token("alice")
    tag = both[1].get(f"/api/list/{good}").headers["ETag"]
    tokens = [
        good,
        token("bob"),
        token("nobody"),
        token("alice", ttl=-1),
        "x",
        "",
        good + "/",
        f"{good}/x",
        "%2F",
        "é",
    ]
    conditions: list[dict[str, str]] = [
        {},
        {"If-None-Match": tag},
        {"If-None-Match": f"W/{tag}"},
        {"If-None-Match": '"x"'},
        {"If-None-Match": f'"x", {tag}'},
        {"If-None-Match": "*"},
        {"If-None-Match": ""},
    ]
    for text in tokens:
        for query in QUERIES:
            for headers in conditions:
                quick, plain = (
                    _ask(client, method, f"/api/list/{text}{query}", headers) for client in both
                )
                assert quick == plain, (method, text, query, headers)


@pytest.mark.parametrize("address", LISTINGS)
def test_both_ways_answer_alike_at_every_address(
    both: tuple[FlaskClient, FlaskClient], token: Issue, observe: Observe, address: str
) -> None:
    observe(session("a"), session("b", "bob"))
    for good in (token("alice", admin=True), token("alice")):
        for _ in range(2):  # at first the token is not a known one
            quick, plain = (_ask(client, "GET", f"{address}/{good}", {}) for client in both)
            assert quick == plain


def test_both_ways_answer_alike_while_the_store_is_away(
    both: tuple[FlaskClient, FlaskClient], token: Issue, observe: Observe, settings: Settings
) -> None:
    observe(session("a"))
    url = f"/api/list/{token('alice')}"
    tags = {client.get(url).headers["ETag"] for client in both}
    database = settings.state_dir / "sessions.db"
    os.rename(database, settings.state_dir / "away")
    database.mkdir()
    for headers in ({}, {"If-None-Match": tags.pop()}):
        quick, plain = (_ask(client, "GET", url, headers) for client in both)
        assert quick == plain and "Warning" in dict(quick[1])


@pytest.mark.parametrize("address", LISTINGS)
def test_what_portals_ask_all_day_never_comes_to_flask(
    environ: dict[str, str], token: Issue, observe: Observe, address: str
) -> None:
    app = create_app(environ)
    good = token("alice", admin=True)
    observe(session("a"))
    tag = app.test_client().get(f"{address}/{good}").headers["ETag"]

    def fail(*args: object) -> Iterable[bytes]:
        raise AssertionError("it came to Flask")

    service = app.extensions["fastx-list"]
    app.wsgi_app = short_cut(fail, service)  # type: ignore[method-assign, assignment]
    answer = app.test_client().get(f"{address}/{good}?limit=1")
    assert ids(answer) == ids(app.test_client().get(f"{address}/{good}"))
    for condition in (tag, "*"):
        again = app.test_client().get(f"{address}/{good}", headers={"If-None-Match": condition})
        assert again.status_code == 304
    service.store.close()


@pytest.mark.parametrize("host", ["x" * 64, "..", "[", "a b", "é", "", "x:y", "x" * 8000])
def test_both_ways_answer_alike_whatever_the_host_is_called(
    both: tuple[FlaskClient, FlaskClient], token: Issue, observe: Observe, host: str
) -> None:
    observe(session("a"))
    url = f"/api/list/{token('alice')}"
    for _ in range(2):  # at first the token is not a known one
        quick, plain = (_ask(client, "GET", url, {"Host": host}) for client in both)
        assert quick == plain and quick[0] == "200 OK"


def test_both_ways_answer_a_handshake_alike(
    both: tuple[FlaskClient, FlaskClient], token: Issue, observe: Observe
) -> None:
    observe(session("a"))
    url, headers = f"/api/list/{token('alice')}", {"Upgrade": "websocket", "Connection": "Upgrade"}
    for client in both:
        assert client.get(url).status_code == 200
    quick, plain = (_ask(client, "GET", url, headers) for client in both)
    assert quick == plain and quick[0] == "400 BAD REQUEST"


def test_a_known_token_at_another_address_opens_nothing(
    both: tuple[FlaskClient, FlaskClient], token: Issue
) -> None:
    good = token("alice")
    for path in (f"/api/list/{good}", f"/api/lost/{good}", f"/{good}", f"/api/list{good}"):
        quick, plain = (_ask(client, "GET", path, {}) for client in both)
        assert quick == plain and (quick[0] == "200 OK") == path.startswith("/api/list/")


def _ask(client: FlaskClient, method: str, url: str, headers: dict[str, str]) -> Any:
    answer = client.open(url, method=method, headers=headers)
    return answer.status, sorted(answer.headers.items()), answer.data
