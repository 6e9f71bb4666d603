"""The machines, which an administrator sees beside the sessions."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, WebSocketRoute, expect

from fastx_list.model.server import Server
from fastx_list.store import Lease, Store
from tests.page.conftest import Tab, User
from tests.support import end, wait_for

GIB = 2**30


def beat(store: Store, name: str, seconds: float = 3600, **facts: Any) -> None:
    """Say as the agent of server ``name`` what it is like."""
    store.heartbeat(Server(name, f"{name}.example.org", **facts), Lease(name, "1", name, seconds))


def card(tab: Tab, name: str) -> Locator:
    return tab.page.locator(f'#servers li[data-id="{name}"]')


def test_an_administrator_sees_the_machines_at_a_glance(
    tab: Tab, alice: User, store: Store
) -> None:
    beat(
        store,
        "north",
        cpu=93.4,
        free_memory=24 * GIB,
        total_memory=32 * GIB,
        sessions=1,
        logged_in_users=1,
        uptime=7200,
        load=(1.5, 1.0, 0.5),
        pool="teaching",
    )
    tab.open(alice, admin=True)
    north = card(tab, "north")
    for text in (
        "north.example.org · teaching",
        "93 %",
        "8.0 of 32.0 GiB",
        "1 session · 1 login · load 1.5 · up 2 h",
    ):
        expect(north).to_contain_text(text)
    expect(north.locator(".cpu.busy")).to_have_count(1)
    expect(north.locator(".memory.busy")).to_have_count(0)
    beat(store, "north", cpu=12.0, sessions=3)
    expect(north).to_contain_text("12 %")
    expect(north).to_contain_text("3 sessions")


def test_a_machine_that_is_gone_goes(tab: Tab, alice: User, store: Store) -> None:
    tab.open(alice, admin=True)
    beat(store, "brief", seconds=2)
    expect(card(tab, "brief")).to_have_count(1)
    expect(card(tab, "brief")).to_have_count(0)


def test_a_machine_shows_its_sessions_alone(tab: Tab, alice: User, bob: User, store: Store) -> None:
    alice.has({"a": {"command": "of alice"}})
    bob.has({"b": {"command": "of bob"}})
    beat(store, f"of-{bob.login}", sessions=1)
    tab.open(alice, admin=True)
    card(tab, f"of-{bob.login}").get_by_role("button").click()
    tab.shows("of bob")
    asked = "GET /api/admin/session/TOKEN?sortReverse=true&limit=50&filter=serverId%3D%3D"
    assert tab.requests[-1] == f"{asked}of-{bob.login}"


def test_a_machines_name_stays_text(tab: Tab, alice: User, store: Store) -> None:
    store.heartbeat(Server("<img src=x onerror=alert(1)>", "<b>"), Lease("x", "1", "x", 3600))
    tab.open(alice, admin=True)
    expect(tab.page.locator("#servers")).to_contain_text("<img src=x onerror=alert(1)>")
    assert tab.page.locator("#servers img, #servers b").count() == 0


def test_nobody_else_sees_any(tab: Tab, alice: User, store: Store) -> None:
    beat(store, "north")
    tab.open(alice)
    expect(tab.page.locator("#machines")).to_be_hidden()
    assert not any("server" in request for request in tab.requests)


@pytest.mark.usefixtures("context")
def test_machines_are_right_again_after_an_outage(page: Any, own: User) -> None:
    tab = Tab(page, own.service)
    beat(own.store, "stays", sessions=1)
    beat(own.store, "leaves", seconds=4)
    tab.open(own, admin=True)
    expect(card(tab, "leaves")).to_have_count(1)
    end(own.service.running["live"])
    expect(tab.connection).to_have_attribute("data-state", "polling")
    beat(own.store, "stays", sessions=2)
    expect(card(tab, "stays")).to_contain_text("2 sessions")  # the list goes on
    own.service.start_live()
    expect(tab.connection).to_have_text("live")
    expect(card(tab, "leaves")).to_have_count(0)
    beat(own.store, "stays", sessions=3)
    expect(card(tab, "stays")).to_contain_text("3 sessions")


@pytest.mark.usefixtures("context")
def test_of_machines_it_is_told_what_it_has_missed_and_no_more(page: Any, own: User) -> None:
    end(own.service.running["live"])
    own.service.environ["WEB_CONCURRENCY"] = "1"  # each worker knows what was since it began
    own.service.start_live()
    del own.service.environ["WEB_CONCURRENCY"]
    tab, routes, told = Tab(page, own.service), list[WebSocketRoute](), list[list[Any]]()

    def pass_on(route: WebSocketRoute) -> None:
        mine: list[Any] = []
        routes.append(route)
        told.append(mine)

        def to_page(text: str | bytes) -> None:
            mine.append(json.loads(text))
            route.send(text)

        route.connect_to_server().on_message(to_page)

    page.route_web_socket(re.compile("/api/admin/server"), pass_on)
    for name in ("one", "other"):
        beat(own.store, name, sessions=1)
    tab.open(own, admin=True)
    expect(card(tab, "one")).to_contain_text("1 session")
    expect(card(tab, "other")).to_contain_text("1 session")

    def bookmark(number: int, *names: str) -> str:
        """Return the last revision, once it comes behind what is told of all these."""
        assert page.evaluate("0") == 0  # lets what has come in be noted
        mine = told[number] if number < len(told) else []
        *_, last = {}, *mine
        is_whole = {each.get("id") for each in mine} >= {*names}
        return str(last.get("revision", "")) if is_whole else ""

    known = wait_for("a bookmark", lambda: bookmark(0, "one", "other"))
    # The list, which is asked meanwhile, might tell first
    page.route(re.compile("/api/admin/server/"), lambda route: route.abort())
    routes[0].close(code=1001, reason="as if the sidecar had said so")
    beat(own.store, "one", sessions=2)
    expect(card(tab, "one")).to_contain_text("2 sessions")
    wait_for("another bookmark", lambda: bookmark(1, "one"))
    assert f"since={known}" in routes[1].url
    assert {each["id"] for each in told[1] if "id" in each} == {"one"}
    expect(card(tab, "other")).to_contain_text("1 session")
