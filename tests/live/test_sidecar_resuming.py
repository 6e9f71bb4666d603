"""A client that resumes, on a sidecar that runs."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.sync.client import connect

from tests.conftest import session
from tests.live.clients import BOOKMARKS, Observe, Returning, first_id, follow, refused, take, told
from tests.support import Service, end, fetch, wait_for


@pytest.fixture
def service(service: Service, request: pytest.FixtureRequest) -> Service:
    """One worker, unless a test asks for more: each takes steps over by itself, from its own first
    reading on, so that another need not have come as far yet when a client comes back to it."""
    service.environ["WEB_CONCURRENCY"] = getattr(request, "param", "1")
    return service


def revision_of(found: list[tuple[str, Any]]) -> str:
    assert found[-1][0] == "revision"
    return str(found[-1][1])


def test_who_comes_back_is_told_what_has_changed_and_no_more(
    live: Service, alice: str, observe: Observe
) -> None:
    observe(session("a", clients=0), session("b", clients=0), session("c", clients=0))
    wait_for("the snapshot", lambda: first_id(live, alice))
    with follow(live, alice, BOOKMARKS) as connection:
        found = told(connection)
    assert sorted(found[:-1]) == [("a", 0), ("b", 0), ("c", 0)]
    revision = revision_of(found)
    with follow(live, alice, f"{BOOKMARKS}&since={revision}") as connection:
        assert told(connection) == [("revision", revision)]
        observe(session("a", clients=0), session("b", clients=1), session("d", "bob"))
        assert dict([take(connection), take(connection)]).keys() == {"b", "c"}
        assert told(connection)[-1][1] != revision
    with follow(live, alice, f"{BOOKMARKS}&since={revision}") as connection:
        found = told(connection)
        assert found[:-1] == [("c", None), ("b", 1)]
    with follow(live, alice, f"{BOOKMARKS}&since={revision_of(found)}") as connection:
        assert told(connection) == found[-1:]


@pytest.mark.parametrize("service", ["2"], indirect=True)
def test_who_comes_back_to_any_worker_gets_the_list(
    live: Service, alice: str, observe: Observe
) -> None:
    client = Returning()
    for clients in range(1, 8):
        new = f"s{clients}"
        observe(session("a", clients=0), session("b", clients=clients), session(new, clients=0))
        expected = {"a": 0, "b": clients, new: 0}
        wait_for("the list", lambda: client.come_back(live, alice) == expected)


def test_an_empty_list_says_so(live: Service, alice: str) -> None:
    with follow(live, alice, BOOKMARKS) as connection:
        found = told(connection)
        assert len(found) == 1
    with follow(live, alice, f"{BOOKMARKS}&since={revision_of(found)}") as connection:
        assert told(connection) == found


@pytest.mark.parametrize("revision", ["unknown", "0", "%00%F0%9F%98%80", "f" * 256])
def test_who_comes_with_an_unknown_revision_is_told_to_drop_what_it_has(
    live: Service, alice: str, observe: Observe, revision: str
) -> None:
    observe(session("a", clients=0))
    wait_for("the snapshot", lambda: first_id(live, alice))
    with follow(live, alice, f"{BOOKMARKS}&since={revision}") as connection:
        assert told(connection)[:-1] == [("revision", None), ("a", 0)]
    with follow(live, alice, f"{BOOKMARKS}&snapshot=0&since={revision}") as connection:
        assert told(connection)[:-1] == [("revision", None)]
    with follow(live, alice, f"{BOOKMARKS}&since=") as connection:
        assert told(connection)[:-1] == [("a", 0)]


def test_a_revision_is_no_place_for_very_much(live: Service, alice: str) -> None:
    status, error = refused(live, f"?token={alice}&since={'f' * 257}")
    assert status == 400 and error["message"].startswith("since: takes a revision")


def test_filters_hold_for_what_was_missed(live: Service, alice: str, observe: Observe) -> None:
    idle = f"{BOOKMARKS}&filter=clients%3D%3D0"
    observe(session("a", clients=0), session("b", clients=0), session("c", clients=1))
    wait_for("the snapshot", lambda: first_id(live, alice))
    with follow(live, alice, idle) as connection:
        revision = revision_of(told(connection))
    observe(session("a", clients=2), session("c", clients=0))
    with follow(live, alice, f"{idle}&since={revision}") as connection:
        # It may not have been told of all changes when this one comes
        found = dict(told(connection))
        while not found.keys() >= {"a", "b", "c"}:
            found |= dict(told(connection))
    del found["revision"]
    assert found == {"a": None, "b": None, "c": 0}


def test_the_list_says_from_where_to_go_on(live: Service, alice: str, observe: Observe) -> None:
    observe(session("a", clients=0), session("b", clients=0))
    wait_for("the snapshot", lambda: first_id(live, alice))
    live.start_list()
    answer = fetch(f"{live.url}/api/list/{alice}")
    revision = answer.headers["X-Revision"]
    tag = {"If-None-Match": answer.headers["ETag"]}
    again = fetch(f"{live.url}/api/list/{alice}", headers=tag)
    assert (again.status, again.headers["X-Revision"]) == (304, revision)
    observe(session("a", clients=0), session("b", clients=1))
    with follow(live, alice, f"&since={revision}") as connection:
        name, data = take(connection)
        assert name == "b" and data is not None and data["clients"] == 1


@pytest.mark.parametrize(
    ("login", "address"),
    [
        ("bob", "/api/list?bookmarks=1"),
        ("alice", "/api/list?bookmarks=1&filter=clients%3D%3D0,1"),
        ("root", "/api/admin/session?bookmarks=1"),
        ("root", "/api/admin/server?bookmarks=1"),
    ],
)
def test_a_revision_of_another_list_is_an_unknown_one(
    live: Service, alice: str, observe: Observe, login: str, address: str
) -> None:
    observe(session("a", clients=0), session("b", "bob", clients=0), session("c", "bob", clients=0))
    wait_for("the snapshot", lambda: first_id(live, alice))
    with follow(live, alice, BOOKMARKS) as connection:
        revision = revision_of(told(connection))
    token = live.token(login, admin=login == "root")
    address = f"ws://127.0.0.1:{live.live_port}{address}&token={token}"
    with connect(address) as connection:
        everything = told(connection)
    with connect(f"{address}&since={revision}") as connection:
        assert told(connection) == [("revision", None), *everything]
    with connect(f"{address}&since={revision_of(everything)}") as connection:
        assert told(connection) == everything[-1:]


def test_who_comes_back_to_other_members_gets_the_list(
    live: Service, alice: str, observe: Observe
) -> None:
    observe(session("a", clients=0))
    wait_for("the snapshot", lambda: first_id(live, alice))
    with follow(live, alice, BOOKMARKS) as connection:
        revision = revision_of(told(connection))
    end(live.running["live"])
    live.environ["FASTX_LIST_PUBLISHED_ONLY"] = "true"
    live.start_live()
    with follow(live, alice, f"{BOOKMARKS}&since={revision}") as connection:
        assert told(connection)[:-1] == [("revision", None), ("a", 0)]
    end(live.running["live"])
    del live.environ["FASTX_LIST_PUBLISHED_ONLY"]
    live.start_live()
    with follow(live, alice, f"{BOOKMARKS}&since={revision}") as connection:
        assert told(connection) == [("revision", revision)]
