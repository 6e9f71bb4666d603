from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator

from fastx_list import create_app
from fastx_list.model.session import MEMBERS
from fastx_list.replica import past
from fastx_list.web import history
from tests.answers import Issue, Observe, content, error, ids
from tests.conftest import session

FORMULA = "=HYPERLINK(1)"


@pytest.fixture(autouse=True)
def _sessions(observe: Observe) -> None:
    """``a`` and ``b`` of alice have ended, in this order; ``c`` runs, and ``d`` of bob."""
    every = [
        session("a", started=1000, clients=1, command="blender", kind="xrdp"),
        session("b", started=2000, clients=0, command=FORMULA),
        session("c", started=3000, clients=0, command="matlab"),
        session("d", "bob", started=4000, params={"name": "x"}),
    ]
    observe(*every)
    observe(*every[1:])
    observe(*every[2:])


@pytest.fixture
def url(token: Issue) -> str:
    return f"/api/history/{token('alice')}"


def test_history_has_what_runs_and_what_has_ended_the_last_first(
    client: FlaskClient, url: str
) -> None:
    answer = client.get(url)
    assert ids(answer) == ["c", "b", "a"] and answer.headers["X-Total-Count"] == "3"
    assert answer.headers["Cache-Control"] == "no-store"
    running, _, ended = content(answer)
    assert list(running) == [*MEMBERS, "began", "ended", "connectedSeconds", "addresses"]
    assert running["ended"] is None and running["began"] == 3000
    assert ended["ended"] > ended["began"] == 1000 and ended["command"] == "blender"
    assert ids(client.get(f"{url}?sortReverse=1")) == ["a", "b", "c"]
    assert ids(client.post(url, json={"start": 1, "limit": 1})) == ["b"]
    assert ids(client.post(url, data={"limit": "0"})) == []
    for start in ("9" * 30, "9" * 1000):
        assert ids(client.get(f"{url}?start={start}&limit={start}")) == []
        assert ids(client.get(f"{url}?start={start}&limit={start}&sortBy=id")) == []


def test_each_sees_only_their_own_and_an_administrator_all(
    client: FlaskClient, token: Issue, url: str
) -> None:
    assert ids(client.get(f"/api/history/{token('bob')}")) == ["d"]
    assert ids(client.get(f"/api/history/{token('eve')}")) == []
    error(client.get(f"/api/admin/history/{token('alice')}"), 403, "Forbidden")
    error(client.get("/api/history/nonsense"), 401, "AuthError")
    all_of_them = client.get(f"/api/admin/history/{token('root', admin=True)}")
    assert ids(all_of_them) == ["d", "c", "b", "a"]
    header = {"Authorization": f"Bearer {token('bob')}"}
    assert ids(client.get("/api/history", headers=header)) == ["d"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("filter=command==matlab,blender", ["c", "a"]),
        ("filter=ended==", ["c"]),
        ("filter=ended==&filter=command==blender", []),
        ("sortBy=began", ["a", "b", "c"]),
        ("sortBy=began&sortReverse=true&limit=2", ["c", "b"]),
        ("sortBy=ended&sortReverse=true", ["b", "a", "c"]),
        ("sortBy=kind&start=1", ["b", "c"]),
        ("sortBy=nothing", ["a", "b", "c"]),
        ("filter=clients==0&sortReverse=1", ["b", "c"]),
    ],
)
def test_the_parameters_of_the_list_hold(
    client: FlaskClient, url: str, query: str, expected: list[str]
) -> None:
    if query.startswith("sortBy=ended"):
        found = [each["ended"] for each in content(client.get(url))]
        if found[1] == found[2]:  # within a millisecond, and ties come by id
            expected = ["a", "b", "c"]
    assert ids(client.get(f"{url}?{query}")) == expected


def test_since_and_until_are_about_the_end(client: FlaskClient, url: str) -> None:
    ended = {each["id"]: each["ended"] for each in content(client.get(url))}
    assert ids(client.get(f"{url}?since={ended['b'] + 1}")) == ["c"]
    assert "a" in ids(client.get(f"{url}?since={ended['a']}"))
    assert ids(client.get(f"{url}?until={ended['b'] + 1}")) == ["b", "a"]
    assert ids(client.get(f"{url}?until=2001-02-03")) == []
    assert ids(client.get(f"{url}?since=2001-02-03T04:05:06Z&filter=ended==")) == ["c"]
    assert ids(client.post(f"{url}?until=2001-02-03", json={"until": None, "since": 1})) == []


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("since=yesterday", "since"),
        ("until=2026-13-01", "until"),
        ("until=-1", "until"),
        ("format=xml", "format"),
        ("Since=1", "since"),
        ("limit=-1", "limit"),
        ("filters=a==b", "filter"),
    ],
)
def test_what_is_wrong_or_nearly_right_is_refused(
    client: FlaskClient, url: str, query: str, name: str
) -> None:
    assert error(client.get(f"{url}?{query}"), 400, "ValidationError").startswith(f"{name}: ")
    answer = client.post(f"{url}?{query}", json={})
    assert error(answer, 400, "ValidationError").startswith(f"{name}: ")


def test_csv_has_the_same_and_nothing_that_a_spreadsheet_takes_for_a_formula(
    client: FlaskClient, url: str
) -> None:
    answer = client.get(f"{url}?format=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == ["c", "b", "a"]
    assert rows[1]["command"] == "'" + FORMULA and rows[0]["ended"] == ""
    assert rows[2]["started"] == rows[2]["began"] == "1970-01-01 00:00:01"
    assert not any(cell[:1] in ("=", "+", "-", "@") for row in rows for cell in row.values())


def test_what_is_said_is_what_the_document_says(
    client: FlaskClient, url: str, documents: dict[str, Any]
) -> None:
    schemas = documents["openapi"]["components"]["schemas"]
    schema = {**schemas["PastSession"], "components": {"schemas": schemas}}
    for each in [*content(client.get(url)), *schema["examples"]]:
        Draft202012Validator(schema).validate(each)
        assert list(each) == list(schema["properties"])


@pytest.mark.parametrize(
    "given", [{"FASTX_LIST_COMPAT": "fastx"}, {"FASTX_LIST_PUBLISHED_ONLY": "true"}]
)
def test_settings_of_the_list_hold(
    environ: dict[str, str], url: str, given: dict[str, str]
) -> None:
    app = create_app(environ | given)
    found = content(app.test_client().get(url))
    found = found["result"] if "FASTX_LIST_COMPAT" in given else found
    assert [each["id"] for each in found] == ["c", "b", "a"]
    assert "kind" not in found[0] and "connectedSeconds" in found[0]
    assert "kind" not in app.test_client().get(f"{url}?format=csv").text.splitlines()[0].split(",")
    app.extensions["fastx-list"].store.close()


def test_where_no_history_is_kept_there_is_none(environ: dict[str, str], url: str) -> None:
    app = create_app(environ | {"FASTX_LIST_HISTORY": "0"})
    assert "FASTX_LIST_HISTORY" in error(app.test_client().get(url), 404, "NotFound")
    app.extensions["fastx-list"].store.close()


def test_too_much_to_look_at_is_refused_and_not_cut_off(
    client: FlaskClient, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "MAX_LOOKED_AT", 2)
    assert ids(client.get(url)) == ["c", "b", "a"]
    message = error(client.get(f"{url}?sortBy=command"), 400, "ValidationError")
    assert message.startswith("since, until: ") and "there are 3" in message
    ended = {each["id"]: each["ended"] for each in content(client.get(url))}
    if ended["a"] < ended["b"]:
        found = client.get(f"{url}?sortBy=command&since={ended['b']}")
        assert ids(found) == ["b", "c"]


def test_a_store_that_cannot_be_read_is_no_empty_history(
    client: FlaskClient, url: str, lose_archive: Callable[[], None]
) -> None:
    ids(client.get(url))
    lose_archive()
    error(client.get(url), 503, "Unavailable")


def test_csv_is_written_in_parts_and_whole(
    client: FlaskClient, url: str, observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe(*(session(f"n{number:03}", started=number) for number in range(450)))
    turns: list[str] = []
    monkeypatch.setattr(history, "in_parts", lambda whose, parts: turns.extend(parts))
    assert len(ids(client.get(f"{url}?limit=1000"))) == 453
    as_json = len(turns)
    answer = client.get(f"{url}?limit=1000&format=csv")
    assert len(list(csv.DictReader(io.StringIO(answer.text)))) == 453
    assert len(turns) - 2 * as_json == 2  # of 454 lines


def test_many_at_once_come_in_parts_and_whole(
    client: FlaskClient, url: str, observe: Observe
) -> None:
    observe(*(session(f"n{number:03}", started=number) for number in range(450)))
    assert len(ids(client.get(url))) == 100
    assert len(ids(client.get(f"{url}?limit=1000"))) == 453
    found = ids(client.get(f"{url}?limit=1000&sortBy=started&filter=ended=="))
    assert found == [f"n{number:03}" for number in range(450)]
    assert json.loads(client.get(f"{url}?limit=1").data)[0]["id"] == "n449"
