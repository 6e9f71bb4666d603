from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from fastx_list import create_app
from fastx_list.config import Settings
from tests.answers import Issue, Observe, content, error, ids
from tests.conftest import session

pytestmark = pytest.mark.usefixtures("four_sessions")


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


def test_an_envelope_can_be_had_and_is_another_answer(
    client: FlaskClient, environ: dict[str, str], token: Issue
) -> None:
    url = f"/api/list/{token('bob')}"
    bare = client.get(url).headers["ETag"]
    app = create_app({**environ, "FASTX_LIST_RESULT_ENVELOPE": "true"})
    answer = app.test_client().get(url, headers={"If-None-Match": bare})
    assert [member["id"] for member in content(answer)["result"]] == ["d"] and content(
        answer
    ).keys() == {"result"}
    tag = {"If-None-Match": answer.headers["ETag"]}
    assert app.test_client().get(url, headers=tag).status_code == 304
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


def test_text_of_any_kind_arrives_whole(
    client: FlaskClient, token: Issue, observe: Observe
) -> None:
    command = '\x00\x1b</script>\u202e\U0001f600\u2028"\\'
    observe(session("z", command=command, params={"ключ": command}))
    answer = client.get(f"/api/list/{token('alice')}")
    assert json.loads(answer.data)[0]["command"] == command
    assert content(answer)[0]["params"] == {"ключ": command}


@pytest.mark.parametrize("host", ["localhost", "[", "a b"])
def test_nothing_redirects(client: FlaskClient, token: Issue, host: str) -> None:
    alice = token("alice")
    headers = {"Host": host}
    assert client.get(f"/api/list/{alice}/", headers=headers).status_code == 200
    for path in ("/api/list//{}", "//api/list/{}", "/api//list/{}", "/api/list/{}//"):
        answer = client.get(path.format(alice), headers=headers)
        assert answer.status_code == 404 and answer.json is not None
        assert "Location" not in answer.headers and alice not in answer.text
