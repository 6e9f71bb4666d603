"""Codes for links: each is changed for a token once, within a minute."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
from flask.testing import FlaskClient

from fastx_list import tokens
from fastx_list.config import load
from fastx_list.store import StoreError
from fastx_list.store.sqlite import SqliteStore
from fastx_list.store.sqlite_archive import SqliteArchive
from fastx_list.tokens import Tokens
from tests.answers import content
from tests.support import Answer, Service, fetch


@pytest.fixture
def issuer(environ: dict[str, str]) -> Tokens:
    return Tokens(load(environ))


def change(client: FlaskClient, code: Any) -> Any:
    return client.post("/code", json={"code": code})


def test_a_code_is_changed_for_a_token_once(client: FlaskClient, issuer: Tokens) -> None:
    code = issuer.issue_code("alice", 600, admin=True)
    answer = change(client, code)
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    claims = issuer.verify(content(answer)["token"], ())
    assert (claims.login, claims.admin) == ("alice", True)
    assert 590 <= claims.expires - time.time() <= 600
    again = change(client, code)
    assert again.status_code == 401 and again.headers["X-Token-Guessed"] == "no"
    assert content(again)["error"]["message"] == "code: it has been used; get a new link"


def test_a_code_is_no_token_and_a_token_no_code(client: FlaskClient, issuer: Tokens) -> None:
    assert client.get(f"/api/list/{issuer.issue_code('alice', 600)}").status_code == 401
    for guess in (issuer.issue("alice", 600), "a.b.c", jwt.encode({"aud": "code"}, "x" * 32)):
        answer = change(client, guess)
        assert answer.status_code == 401 and "X-Token-Guessed" not in answer.headers


def test_a_code_ends_after_a_minute(
    client: FlaskClient, issuer: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "CODE_SECONDS", 0)
    answer = change(client, issuer.issue_code("alice", 600))
    assert content(answer)["error"]["message"] == "code: it is too old; get a new link"


def test_a_code_is_not_lost_when_the_disk_is_full_after_it_was_used(
    client: FlaskClient, issuer: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(SqliteArchive, "note", fail)
    assert change(client, issuer.issue_code("alice", 600)).status_code == 200
    monkeypatch.setattr(SqliteStore, "revoke", fail)
    assert change(client, issuer.issue_code("alice", 600)).status_code == 503


@pytest.mark.parametrize("code", [None, 7, "", "x" * 5000, ["a"]], ids=repr)
def test_what_is_no_code_is_refused(client: FlaskClient, code: Any) -> None:
    assert change(client, code).status_code == 400


def test_of_many_who_come_at_once_with_one_code_one_gets_a_token(served: Service) -> None:
    code = Tokens(load(served.environ)).issue_code("alice", 600)
    body = json.dumps({"code": code}).encode()

    def ask(_: int) -> Answer:
        headers = {"Content-Type": "application/json"}
        return fetch(f"{served.url}/code", "POST", body, headers)

    with ThreadPoolExecutor(8) as many:
        statuses = sorted(answer.status for answer in many.map(ask, range(16)))
    assert statuses == [200] + [401] * 15
    logs = served.processes.log("list")
    assert code not in logs and code.rpartition(".")[2] not in logs
