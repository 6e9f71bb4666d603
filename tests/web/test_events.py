from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator

from fastx_list import create_app
from fastx_list.model.event import What
from fastx_list.replica import past
from fastx_list.replica.past import NOT_ALL_KEPT
from fastx_list.store import Store
from fastx_list.store.sqlite import SqliteStore
from fastx_list.web.events import OwnIds
from tests.answers import Issue, Observe, content, error
from tests.conftest import session


@pytest.fixture(autouse=True)
def _sessions(observe: Observe, store: Store) -> None:
    """``a`` and ``b`` of alice began, and ``d`` of bob; ``a`` has ended."""
    every = [session("a", clients=0), session("b"), session("d", "bob")]
    observe(*every)
    observe(*every[1:])
    store.archive.note(What.TOKEN_ISSUED, "alice", {"token": "jti"})
    store.revoke({"other": 2**40})


@pytest.fixture
def url(token: Issue) -> str:
    return f"/api/events/{token('alice')}"


@pytest.fixture
def all_url(token: Issue) -> str:
    return f"/api/admin/events/{token('root', admin=True)}"


def told(answer: Any) -> list[tuple[str, str | None]]:
    """Return what has happened, and to which session."""
    assert answer.status_code == 200, answer.text
    return [(each["event"], each.get("session")) for each in content(answer)]


OWN = [("sessionBegan", "a"), ("sessionBegan", "b"), ("sessionEnded", "a"), ("tokenIssued", None)]


def test_events_come_in_the_order_in_which_things_happened(client: FlaskClient, url: str) -> None:
    answer = client.get(url)
    assert told(answer) == OWN and answer.headers["Cache-Control"] == "no-store"
    assert "Warning" not in answer.headers
    assert told(client.get(f"{url}?sortReverse=1")) == OWN[::-1]
    assert told(client.get(f"{url}?sortReverse=1&start=1&limit=2")) == OWN[2:0:-1]
    assert told(client.post(url, json={"start": 1, "limit": 2})) == OWN[1:3]
    assert told(client.post(url, data={"limit": "0"})) == []
    assert told(client.get(f"{url}?start={'9' * 1000}&limit={'9' * 1000}")) == []


def test_each_sees_only_their_own_and_an_administrator_all(
    client: FlaskClient, token: Issue, url: str, all_url: str
) -> None:
    assert told(client.get(f"/api/events/{token('bob')}")) == [("sessionBegan", "d")]
    assert told(client.get(f"/api/events/{token('eve')}")) == []
    own_of_an_administrator = f"/api/events/{token('root', admin=True)}"
    assert told(client.get(own_of_an_administrator)) == []
    error(client.get(f"/api/admin/events/{token('alice')}"), 403, "Forbidden")
    error(client.get("/api/events/nonsense"), 401, "AuthError")
    found = told(client.get(all_url))
    assert [each for each in found if each[1] != "d"] == [*OWN, ("tokenRevoked", None)]
    assert ("sessionBegan", "d") in found
    header = {"Authorization": f"Bearer {token('bob')}"}
    assert told(client.get("/api/events", headers=header)) == [("sessionBegan", "d")]


def test_who_comes_back_gets_what_followed(
    client: FlaskClient, url: str, all_url: str, observe: Observe
) -> None:
    for where in (url, all_url):
        first, second, *rest = content(client.get(where))
        assert content(client.get(f"{where}?since={first['id']}")) == [second, *rest]
        assert content(client.get(f"{where}?since={first['id']}&limit=1")) == [second]
        back = client.get(f"{where}?since={first['id']}&sortReverse=1&limit=2")
        assert content(back) == rest[:-3:-1]
        last = rest[-1]["id"]
        answer = client.get(f"{where}?since={last}")
        assert content(answer) == [] and "Warning" not in answer.headers
        observe(session("b"), session("d", "bob"), session(where[5:10]))
        assert ("sessionBegan", where[5:10]) in told(client.get(f"{where}?since={last}"))


def test_who_knows_an_event_that_is_not_there_is_told_so(
    client: FlaskClient, token: Issue, url: str, all_url: str
) -> None:
    own = content(client.get(url))[0]["id"]
    of_all = content(client.get(all_url))[0]["id"]
    assert not {each["id"] for each in content(client.get(url))} & {
        each["id"] for each in content(client.get(all_url))
    }
    changed = ("B" if own[0] == "A" else "A") + own[1:]
    for where, place in (
        *((url, changed), (url, of_all), (url, f"é-{own[-16:]}"), (url, f"x-{own[-16:]}")),
        *((all_url, own), (all_url, f"77-{'0' * 16}")),
        (f"/api/events/{token('bob')}", own),
    ):
        answer = client.get(where, query_string={"since": place})
        if "é" in place:
            error(answer, 400, "ValidationError")
        else:
            assert bool(told(answer)) == (not place.startswith("77-"))
            assert answer.headers["Warning"] == f'199 - "{NOT_ALL_KEPT}"'


def test_an_id_says_nothing_of_what_happens_to_others(
    client: FlaskClient, token: Issue, url: str
) -> None:
    ids = OwnIds(client.application.extensions["fastx-list"].tokens, "alice")
    told_of = {ids.shown(f"{number}-{name:016x}") for number in range(9) for name in range(9)}
    assert len(told_of) == 81 and len({len(each) for each in told_of}) == 1
    assert ids.meant(ids.shown("12345-00000000000000ff")) == "12345-00000000000000ff"
    assert ids.meant(ids.shown("1764292385123-7-00ff")) == "1764292385123-7-00ff"
    bob = OwnIds(client.application.extensions["fastx-list"].tokens, "bob")
    assert bob.meant(ids.shown("12345-00000000000000ff")) == "-"


def test_parameters_find_some(client: FlaskClient, url: str) -> None:
    for query, expected in (
        ("filter=session==a", [OWN[0], OWN[2]]),
        ("filter=event==sessionBegan,tokenIssued&limit=2", OWN[:2]),
        ("filter=session==a&filter=event==sessionEnded", OWN[2:3]),
        ("filter=login==bob", []),
        ("filter=token==jti", OWN[3:]),
        ("filter=session==a&sortReverse=1&limit=1", [OWN[2]]),
        ("since=1", OWN),
        ("since=2999-01-01", []),
        ("until=2001-02-03", []),
        ("until=2999-01-01&since=2001-02-03T04:05:06Z", OWN),
        ("sortBy=session", OWN),  # which is ignored: they have an order
    ):
        assert told(client.get(f"{url}?{query}")) == expected, query


def test_a_filter_finds_an_event_by_the_id_that_is_told(
    client: FlaskClient, url: str, all_url: str
) -> None:
    for where in (url, all_url):
        each = content(client.get(where))[1]
        assert content(client.get(f"{where}?filter=id=={each['id']}")) == [each]
    found = told(client.get(f"{all_url}?filter=login==bob"))
    assert found == [("sessionBegan", "d")]


def test_what_is_wrong_or_nearly_right_is_refused(client: FlaskClient, url: str) -> None:
    for query, name in (
        *(("since=yesterday", "since"), ("until=2026-13-01", "until"), ("Since=1", "since")),
        *(("until=77-0123456789abcdef", "until"), ("limit=-1", "limit")),
        ("filters=a==b", "filter"),
    ):
        refused = error(client.get(f"{url}?{query}"), 400, "ValidationError")
        assert refused.startswith(f"{name}: ")


def test_what_is_said_is_what_the_document_says(
    client: FlaskClient, url: str, all_url: str, documents: dict[str, Any]
) -> None:
    schema = documents["openapi"]["components"]["schemas"]["Event"]
    for each in [*content(client.get(url)), *content(client.get(all_url)), *schema["examples"]]:
        Draft202012Validator(schema).validate(each)


def test_many_are_looked_at_in_parts_and_too_many_refused(
    client: FlaskClient, url: str, all_url: str, observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe(*(session(f"n{number:03}") for number in range(450)))
    for where in (url, all_url):
        for query in ("", "&sortReverse=1", "&filter=event==sessionBegan", "&since=2001-01-01"):
            found = told(client.get(f"{where}?limit=1000{query}"))
            names = [each for _, each in found if each is not None and each[0] == "n"]
            assert sorted(names) == [f"n{number:03}" for number in range(450)]
        assert told(client.get(f"{where}?filter=session==n449")) == [("sessionBegan", "n449")]
        assert len(told(client.get(f"{where}?start=250"))) == 100
    monkeypatch.setattr(past, "MAX_LOOKED_AT", 200)
    for where in (url, all_url):
        assert len(told(client.get(f"{where}?limit=200"))) == 200
        message = error(client.get(f"{where}?filter=session==n449"), 400, "ValidationError")
        assert message.startswith("since, until: ")


def test_a_time_is_found_without_looking_at_all_before_it(
    client: FlaskClient, all_url: str, store: SqliteStore, observe: Observe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    observe(*(session(f"n{number:03}") for number in range(450)))
    with store._file.writing() as db:
        db.execute("UPDATE event SET at = seq * 3600000")
    monkeypatch.setattr(past, "MAX_LOOKED_AT", 200)
    begun = 300 * 3_600_000
    for query in (
        f"since={begun}&until={begun + 1}",
        f"since={begun}&until={begun + 1}&sortReverse=1",
    ):
        assert len(told(client.get(f"{all_url}?{query}"))) == 1
    assert len(told(client.get(f"{all_url}?since={begun}&limit=10"))) == 10
    assert len(told(client.get(f"{all_url}?until={begun}&limit=10&sortReverse=1"))) == 10


def test_a_store_that_cannot_be_read_is_none_in_which_nothing_happened(
    client: FlaskClient, url: str, lose_archive: Callable[[], None]
) -> None:
    told(client.get(url))
    lose_archive()
    error(client.get(url), 503, "Unavailable")


def test_settings_of_the_list_hold(environ: dict[str, str], url: str) -> None:
    app = create_app(environ | {"FASTX_LIST_COMPAT": "fastx"})
    found = content(app.test_client().get(url))["result"]
    assert [each["event"] for each in found] == [event for event, _ in OWN]
    app.extensions["fastx-list"].store.close()
