"""The machines, which an administrator sees beside the sessions."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, WebSocketRoute, expect

from fastx_list.model.server import Server, encode_server
from fastx_list.store import Lease, Store
from tests.page.conftest import Tab, User
from tests.support import end, wait_for

GIB = 2**30


def beat(store: Store, name: str, seconds: float = 3600, **facts: Any) -> None:
    """Say as the agent of server ``name`` what it is like."""
    store.heartbeat(Server(name, f"{name}.example.org", **facts), Lease(name, "1", name, seconds))


def card(tab: Tab, name: str) -> Locator:
    return tab.page.locator(f'#servers tr[data-id="{name}"]')


def open_as_administrator(tab: Tab, user: User) -> None:
    """Open the page, and there the machines."""
    tab.open(user, admin=True)
    machines = tab.page.locator("#machines")
    expect(machines).to_be_visible()
    if machines.get_attribute("open") is None:
        machines.locator("summary").click()


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
    open_as_administrator(tab, alice)
    north = card(tab, "north")
    for text in ("north.example.org", "teaching", "93 %", "8.0 of 32.0 GiB", "1.5", "2 h"):
        expect(north).to_contain_text(text)
    expect(north.locator(".cpu.busy")).to_have_count(1)
    expect(north.locator(".memory.busy")).to_have_count(0)
    beat(store, "north", cpu=12.0, sessions=3)
    expect(north).to_contain_text("12 %")
    expect(north.locator(".sessions")).to_have_text("3")


def test_a_machine_that_is_gone_goes(tab: Tab, alice: User, store: Store) -> None:
    open_as_administrator(tab, alice)
    beat(store, "brief", seconds=2)
    expect(card(tab, "brief")).to_have_count(1)
    expect(card(tab, "brief")).to_have_count(0)


def test_a_machine_shows_its_sessions_alone(tab: Tab, alice: User, bob: User, store: Store) -> None:
    alice.has({"a": {"command": "of alice"}})
    bob.has({"b": {"command": "of bob"}})
    beat(store, f"of-{bob.login}", sessions=1)
    open_as_administrator(tab, alice)
    card(tab, f"of-{bob.login}").get_by_role("button").click()
    tab.shows("of bob")
    asked = "GET /api/admin/session/TOKEN?sortReverse=true&limit=50&filter=serverId%3D%3D"
    assert tab.requests[-1] == f"{asked}of-{bob.login}"


def test_a_machines_name_stays_text(tab: Tab, alice: User, store: Store) -> None:
    store.heartbeat(Server("<img src=x onerror=alert(1)>", "<b>"), Lease("x", "1", "x", 3600))
    open_as_administrator(tab, alice)
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
    open_as_administrator(tab, own)
    expect(card(tab, "leaves")).to_have_count(1)
    end(own.service.running["live"])
    expect(tab.connection).to_have_attribute("data-state", "polling")
    beat(own.store, "stays", sessions=2)
    expect(card(tab, "stays").locator(".sessions")).to_have_text("2")  # the list goes on
    own.service.start_live()
    expect(tab.connection).to_have_text("live")
    expect(card(tab, "leaves")).to_have_count(0)
    beat(own.store, "stays", sessions=3)
    expect(card(tab, "stays").locator(".sessions")).to_have_text("3")


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
    open_as_administrator(tab, own)
    expect(card(tab, "one").locator(".sessions")).to_have_text("1")
    expect(card(tab, "other").locator(".sessions")).to_have_text("1")

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
    expect(card(tab, "one").locator(".sessions")).to_have_text("2")
    wait_for("another bookmark", lambda: bookmark(1, "one"))
    assert f"since={known}" in routes[1].url
    assert {each["id"] for each in told[1] if "id" in each} == {"one"}
    expect(card(tab, "other").locator(".sessions")).to_have_text("1")


def machine(number: int, cpu: float) -> dict[str, Any]:
    """What the WebSocket tells of a machine."""
    server = Server(f"m{number:04}", f"m{number:04}.example.org", cpu=cpu, sessions=2)
    return {"id": server.id, "data": json.loads(encode_server(server))}


def with_machines(page: Page, count: int) -> list[WebSocketRoute]:
    """Have the page told of so many machines, of which the last is the busiest; return what tells
    it, once it is connected."""
    routes: list[WebSocketRoute] = []

    def tell(route: WebSocketRoute) -> None:
        routes.append(route)
        for number in range(count):
            route.send(json.dumps(machine(number, 90 * (number + 1) / count)))

    page.route_web_socket(re.compile("/api/admin/server"), tell)
    return routes


@pytest.mark.parametrize("width", [360, 1280])
def test_many_machines_are_one_line_and_then_a_table_that_pushes_nothing_away(
    tab: Tab, alice: User, width: int
) -> None:
    alice.has({"a": {"command": "xterm"}})
    with_machines(tab.page, 1000)
    tab.page.set_viewport_size({"width": width, "height": 900})
    tab.open(alice, f"&filter=login%3D%3D{alice.login}", admin=True)
    tab.shows("xterm")
    summary = tab.page.locator("#machines summary")
    expect(summary).to_contain_text(
        "1,000 machines · 2,000 sessions · CPU 45 % · busiest m0999, 90 %"
    )
    expect(tab.page.locator("#servers")).to_be_hidden()
    closed = tab.rows.first.bounding_box()
    summary.click()
    expect(tab.page.locator("#servers tbody tr")).to_have_count(100)
    expect(tab.page.locator("#servers tbody tr").first).to_contain_text("m0999")
    opened = tab.rows.first.bounding_box()
    assert closed and closed["y"] + closed["height"] < 900
    assert opened and opened["y"] - closed["y"] < 300  # as far for 1,000 as for ten
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.page.get_by_role("button", name="100 more of 1,000").click()
    expect(tab.page.locator("#servers tbody tr")).to_have_count(200)
    tab.page.reload()
    expect(tab.page.locator("#servers tbody tr")).to_have_count(100)  # open, as it was left


def test_machines_are_sorted_by_any_column_and_lie_still_under_the_pointer(
    tab: Tab, alice: User
) -> None:
    routes = with_machines(tab.page, 3)
    open_as_administrator(tab, alice)
    names = tab.page.locator("#servers tbody .id button")
    expect(names).to_have_text(["m0002", "m0001", "m0000"])
    tab.page.locator("#servers").get_by_role("button", name="Machine", exact=True).click()
    expect(names).to_have_text(["m0000", "m0001", "m0002"])
    tab.page.locator("#servers").get_by_role("button", name="CPU").click()
    expect(names).to_have_text(["m0002", "m0001", "m0000"])
    names.last.hover()
    routes[0].send(json.dumps(machine(0, 99)))
    expect(card(tab, "m0000")).to_contain_text("99 %")
    expect(names).to_have_text(["m0002", "m0001", "m0000"])
    tab.page.mouse.move(0, 0)
    routes[0].send(json.dumps(machine(0, 98)))
    expect(names).to_have_text(["m0000", "m0002", "m0001"])


def test_the_load_of_the_last_hour_is_drawn_from_what_was_told(tab: Tab, alice: User) -> None:
    tab.page.clock.install()
    routes = with_machines(tab.page, 1)
    open_as_administrator(tab, alice)
    line = card(tab, "m0000").locator("svg")
    for minute in range(1, 4):
        tab.page.clock.run_for(60_000)
        routes[-1].send(json.dumps(machine(0, 10.0 * minute)))
        tab.page.clock.run_for(1000)
        expect(card(tab, "m0000").locator(".cpu")).to_contain_text(f"{10 * minute} %")
    expect(line).to_have_attribute("aria-label", "10 to 90 % since 3 min ago")
    points = str(line.locator("polyline").get_attribute("points")).split()
    assert len(points) == 4 and points[-1].startswith("90.0,")
