"""Sorting, filtering and paging: the page asks the API, with the API's parameters, and shows what
it answers."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.page.conftest import Tab, User

THREE = {
    "a": {
        "command": "xterm",
        "started": 1,
        "clients": 2,
        "geometry": "800x600",
        "params": {"project": "red"},
    },
    "b": {
        "command": "emacs",
        "started": 2,
        "clients": 0,
        "geometry": "640x480",
        "params": {"name": "Alpha", "project": "blue"},
    },
    "c": {
        "command": "gimp",
        "started": 3,
        "clients": 1,
        "geometry": "1024x768",
        "params": {"name": "beta", "project": "green"},
    },
}


def test_every_column_sorts(tab: Tab, alice: User) -> None:
    alice.has(THREE)
    tab.open(alice)
    tab.shows("beta", "Alpha", "xterm")
    headers = tab.page.get_by_role("columnheader")
    expect(headers).to_have_text(
        [
            "Session",
            "State",
            "Mode",
            "Host",
            "Display",
            "Geometry",
            "Started",
            "Kind",
            "From",
            "Idle",
            "CPU",
            "Memory",
        ]
    )
    expect(tab.page.get_by_role("columnheader", name="Started")).to_have_attribute(
        "aria-sort", "descending"
    )
    asked = {
        "Session": "name",
        "State": "clients",
        "Mode": "windowMode",
        "Kind": "kind",
        "From": "clientAddresses",
        "Idle": "idleSince",
        "CPU": "cpu",
        "Memory": "memory",
        "Host": "hostname",
        "Display": "display",
        "Geometry": "geometry",
        "Started": "started",
    }
    for label, name in asked.items():
        header = tab.page.get_by_role("columnheader", name=label)
        for query, way in (
            (f"?sortBy={name}&limit=50", "ascending"),
            (f"?sortBy={name}&sortReverse=true&limit=50", "descending"),
        ):
            with tab.page.expect_request(re.compile(re.escape(query) + "$")):
                header.get_by_role("button").click()
            expect(header).to_have_attribute("aria-sort", way)
            expect(tab.page.locator("th[aria-sort]")).to_have_count(1)
    tab.shows("beta", "Alpha", "xterm")
    tab.page.get_by_role("columnheader", name="Session").get_by_role("button").click()
    tab.shows("Alpha", "beta", "xterm")  # xterm has no name, only a command
    tab.page.get_by_role("columnheader", name="State").get_by_role("button").click()
    tab.shows("Alpha", "beta", "xterm")
    tab.page.get_by_role("columnheader", name="State").get_by_role("button").click()
    tab.shows("xterm", "beta", "Alpha")


def test_the_order_holds_while_sessions_change(tab: Tab, alice: User) -> None:
    alice.has(THREE)
    tab.open(alice, "&sortBy=clients")
    tab.shows("Alpha", "beta", "xterm")
    alice.has({**THREE, "b": {**THREE["b"], "clients": 5}, "d": {"command": "new", "clients": 1}})
    tab.shows("beta", "new", "xterm", "Alpha")


def test_filters_are_added_changed_and_removed(tab: Tab, alice: User) -> None:
    alice.has(THREE)
    tab.open(alice)
    tab.shows("beta", "Alpha", "xterm")
    tab.filter("clients", "0,1")
    tab.shows("beta", "Alpha")
    assert (
        tab.requests[-1]
        == "GET /api/list/TOKEN?sortReverse=true&limit=50&filter=clients%3D%3D0%2C1"
    )
    tab.find("params.project: green,red")
    tab.shows("beta")
    assert tab.requests[-1] == (
        "GET /api/list/TOKEN?sortReverse=true&limit=50&filter=clients%3D%3D0%2C1"
        "&filter=params.project%3D%3Dgreen%2Cred"
    )
    tab.page.get_by_role("button", name="Clients: 0,1", exact=True).click()
    expect(tab.search).to_have_value("Clients: 0,1")
    tab.shows("beta", "xterm")
    tab.find("Clients: 2")
    tab.shows("xterm")
    for text in ("Clients: 2", "params.project: green,red"):
        tab.page.get_by_role("button", name=f"Remove filter {text}").click()
    tab.shows("beta", "Alpha", "xterm")
    expect(tab.page.locator("#filters")).to_be_hidden()


def test_members_and_values_are_there_to_choose_from(tab: Tab, alice: User) -> None:
    alice.has(THREE)
    tab.open(alice)
    tab.shows("beta", "Alpha", "xterm")
    expect(tab.page.locator("#names option[value='windowMode']")).to_have_count(1)
    expect(tab.page.locator("#names option[value='params.project']")).to_have_count(1)
    tab.search.focus()
    offered = tab.page.locator("#offers option").evaluate_all(
        "(options) => options.map(({ value }) => value)"
    )
    for offer in ("State: connected", "Host: here.example", "Geometry: 640x480"):
        assert offered.count(offer) == 1


def test_a_filter_is_followed_live(tab: Tab, alice: User) -> None:
    alice.has(THREE)
    tab.open(alice, "&filter=clients%3D%3D0")
    tab.shows("Alpha")
    alice.has({**THREE, "a": {**THREE["a"], "clients": 0}, "b": {**THREE["b"], "clients": 1}})
    tab.shows("xterm")
    expect(tab.row("b")).to_have_class(re.compile("gone"))


def test_what_is_on_screen_is_kept_in_the_address(tab: Tab, alice: User) -> None:
    alice.has(THREE)
    tab.open(alice)
    tab.page.get_by_role("columnheader", name="State").get_by_role("button").click()
    tab.filter("clients", "0,1")
    tab.shows("Alpha", "beta")
    assert tab.page.url == f"{alice.service.url}/#sortBy=clients&filter=clients%3D%3D0%2C1"
    tab.page.reload()
    tab.shows("Alpha", "beta")
    expect(tab.page.get_by_role("columnheader", name="State")).to_have_attribute(
        "aria-sort", "ascending"
    )
    tab.page.evaluate("location.hash = '#sortBy=clients&sortReverse=true&limit=2'")
    tab.shows("xterm", "beta")
    expect(tab.page.get_by_label("Rows")).to_have_value("2")


def test_pages_turn(tab: Tab, alice: User) -> None:
    alice.has(
        {f"{number:03}": {"command": f"n{number}", "started": number} for number in range(1, 61)}
    )
    tab.open(alice)
    expect(tab.rows).to_have_count(50)
    shown, previous, following = (
        tab.page.locator("#range"),
        *map(tab.page.get_by_label, ("Previous page", "Next page")),
    )
    expect(shown).to_have_text("1–50 of 60")
    expect(previous).to_have_attribute("aria-disabled", "true")
    following.click()
    expect(shown).to_have_text("51–60 of 60")
    assert tab.requests[-1] == "GET /api/list/TOKEN?sortReverse=true&start=50&limit=50"
    tab.shows(*(f"n{number}" for number in range(10, 0, -1)))
    expect(following).to_have_attribute("aria-disabled", "true")
    expect(following).to_be_focused()
    asked = len(tab.requests)
    following.press("Enter")
    previous.click()
    expect(shown).to_have_text("1–50 of 60")
    assert (
        tab.requests[asked] == "GET /api/list/TOKEN?sortReverse=true&limit=50"
    )  # there was no page to turn to
    tab.page.get_by_label("Rows").select_option("25")
    expect(shown).to_have_text("1–25 of 60")
    assert tab.requests[-1] == "GET /api/list/TOKEN?sortReverse=true&limit=25"


def test_numbers_have_separators(tab: Tab, alice: User) -> None:
    alice.has({f"{number:04}": {"command": "x", "started": number} for number in range(1100)})
    tab.open(alice, "&start=1000&limit=10")
    expect(tab.page.locator("#range")).to_have_text("1,001–1,010 of 1,100")


def test_only_what_has_ended_is_struck_out_when_pages_move(tab: Tab, alice: User) -> None:
    sessions = {name: {"command": name, "started": number} for number, name in enumerate("bcdef")}
    alice.has(sessions)
    tab.open(alice, "&sortReverse=false&limit=2")
    tab.shows("b", "c")
    alice.has({**sessions, "a": {"command": "a", "started": 0}})
    tab.shows("a", "b")
    assert tab.row("c").count() == 0  # it is on the next page
    expect(tab.row("a")).to_have_class(re.compile("fresh"))
    alice.has(
        {
            name: facts
            for name, facts in {**sessions, "a": {"command": "a", "started": 0}}.items()
            if name != "b"
        }
    )
    tab.shows("a", "c")
    expect(tab.row("b")).to_have_class(re.compile("gone"))
    expect(tab.page.locator("#news")).to_have_text("1 new, 1 gone")


def test_a_session_that_moves_to_this_page_is_not_said_to_be_new(tab: Tab, alice: User) -> None:
    sessions = {name: {"command": name, "clients": number} for number, name in enumerate("abcd")}
    alice.has(sessions)
    tab.open(alice, "&sortBy=clients&limit=2")
    tab.shows("a", "b")
    alice.has({**sessions, "d": {"command": "d", "clients": 0}})
    tab.shows("a", "d")
    expect(tab.row("d")).to_have_class(re.compile("changed"))
    expect(tab.page.locator("#news")).to_have_text("Changed: d")


def test_the_last_page_ends_under_us(tab: Tab, alice: User) -> None:
    sessions = {name: {"command": name, "started": number} for number, name in enumerate("abcde")}
    alice.has(sessions)
    tab.open(alice, "&sortReverse=false&limit=2&start=4")
    tab.shows("e")
    alice.has({name: sessions[name] for name in "abc"})
    tab.shows("c")
    expect(tab.page.locator("#range")).to_have_text("3–3 of 3")


def test_it_says_what_there_is_instead_of_an_empty_table(tab: Tab, alice: User) -> None:
    tab.open(alice)
    expect(
        tab.page.get_by_text("You have no session now. Start one, and it appears here by itself.")
    ).to_be_visible()
    expect(tab.page.get_by_role("table")).to_be_hidden()
    tab.filter("clients", "7")
    expect(tab.page.get_by_text("No session matches the filter.")).to_be_visible()
    alice.has(THREE)
    expect(tab.page.get_by_text("No session matches the filter.")).to_be_visible()
    tab.page.get_by_role("button", name="Clear the filter").click()
    tab.shows("beta", "Alpha", "xterm")
    expect(tab.page.locator("#empty")).to_be_hidden()
    tab.page.evaluate("location.hash = '#start=10'")
    expect(tab.page.get_by_text("None of 3 sessions is on this page.")).to_be_visible()
    tab.page.get_by_role("button", name="First page").click()
    tab.shows("beta", "Alpha", "xterm")


def test_what_the_list_refuses_is_said_and_mended(tab: Tab, alice: User) -> None:
    alice.has(THREE)
    tab.open(alice)
    tab.shows("beta", "Alpha", "xterm")
    tab.page.evaluate("location.hash = '#filter=clients'")
    alert = tab.page.get_by_role("alert").filter(has_text="The list refused this")
    expect(alert).to_contain_text("filter: takes name==value1,value2")
    expect(tab.page.get_by_role("table")).to_be_hidden()
    alert.get_by_role("button", name="Ask for all again").click()
    tab.shows("beta", "Alpha", "xterm")
    expect(alert).to_be_hidden()
    expect(tab.connection).to_have_text("live")
