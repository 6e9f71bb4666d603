"""The short cut for portals' usual question answers exactly as the application behind it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from fastx_list import create_app
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
    both: tuple[FlaskClient, FlaskClient],
    token: Callable[..., str],
    observe: Callable[..., None],
    method: str,
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
    ]
    for text in tokens:
        for query in QUERIES:
            for headers in conditions:
                quick, plain = (
                    _ask(client, method, f"/api/list/{text}{query}", headers) for client in both
                )
                assert quick == plain, (method, text, query, headers)


def test_a_known_token_at_another_address_opens_nothing(
    both: tuple[FlaskClient, FlaskClient], token: Callable[..., str]
) -> None:
    good = token("alice")
    for path in (f"/api/list/{good}", f"/api/lost/{good}", f"/{good}", f"/api/list{good}"):
        quick, plain = (_ask(client, "GET", path, {}) for client in both)
        assert quick == plain and (quick[0] == "200 OK") == path.startswith("/api/list/")


def _ask(client: FlaskClient, method: str, url: str, headers: dict[str, str]) -> Any:
    answer = client.open(url, method=method, headers=headers)
    return answer.status, sorted(answer.headers.items()), answer.data
