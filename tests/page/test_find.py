"""Finding a session: one box for words and for filters by a column's own name, cells that filter,
and a way back."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Route, expect

from tests.page.conftest import Tab, User

SESSIONS: dict[str, dict[str, Any]] = {
    "a": {"command": "xterm", "started": 1, "hostname": "node7", "clients": 1, "display": 12},
    "b": {
        "command": "startxfce4",
        "started": 2,
        "hostname": "node7",
        "clients": 0,
        "params": {"name": "Thesis: part 2", "project": "red"},
    },
    "c": {"command": "gimp", "started": 3, "hostname": "node3", "clients": 2, "last_connect": 5},
    "d": {"command": "left", "started": 4, "clients": 0, "last_disconnect": 6},
    "e": {"command": "dark", "started": 5},
}
ALL = ("dark", "left", "gimp", "Thesis: part 2", "xterm")


def test_the_newest_come_first(tab: Tab, alice: User) -> None:
    alice.has(SESSIONS)
    tab.open(alice)
    tab.shows(*ALL)


def test_words_are_searched_in_all_that_is_shown(tab: Tab, alice: User) -> None:
    alice.has(SESSIONS)
    tab.open(alice)
    tab.shows(*ALL)
    for key in ("/", "Control+k"):
        tab.page.locator("body").press(key)
        expect(tab.search).to_be_focused()
        tab.search.blur()
    found = {
        "NODE7": ("Thesis: part 2", "xterm"),
        "node7 thes": ("Thesis: part 2",),
        "startxfce": ("Thesis: part 2",),
        "red": ("Thesis: part 2",),
        ":12": ("xterm",),
        "never": ("Thesis: part 2",),
        "": ALL,
    }
    for words, names in found.items():
        tab.search.fill(words)  # nobody has to press Enter
        tab.shows(*names)
    tab.search.fill("nowhere")
    expect(tab.page.get_by_text("No session has “nowhere”.")).to_be_visible()
    alice.has({**SESSIONS, "f": {"command": "nowhere else"}})
    tab.shows("nowhere else")
    tab.page.reload()
    tab.shows("nowhere else")
    expect(tab.search).to_have_value("nowhere")


def test_what_was_found_has_pages(tab: Tab, alice: User) -> None:
    alice.has({f"{n:02}": {"command": f"n{n % 2} {n}", "started": n} for n in range(30)})
    tab.open(alice, "&limit=10")
    tab.search.fill("n1")
    expect(tab.page.locator("#range")).to_have_text("1–10 of 15")
    tab.page.get_by_label("Next page").click()
    tab.shows(*(f"n1 {n}" for n in range(9, 0, -2)))


def test_columns_filter_by_their_own_names_and_words(tab: Tab, alice: User) -> None:
    alice.has(SESSIONS)
    tab.open(alice)
    found = {
        "Host: node7": ("Thesis: part 2", "xterm"),
        "hostname:node3": ("gimp",),
        "State: connected": ("gimp", "xterm"),
        "state: never": ("Thesis: part 2",),
        "State: disconnected, unknown": ("dark", "left"),
        "Session: thesis": ("Thesis: part 2",),
        "project: red": ("Thesis: part 2",),
        "display==12": ("xterm",),
        "Mode: –": ALL,
    }
    for text, names in found.items():
        tab.find(text)
        tab.shows(*names)
        expect(tab.search).to_have_value("")
        tab.page.get_by_role("button", name="Remove filter").click()
        tab.shows(*ALL)
    tab.find("Thesis: part")  # no column, nor like one
    tab.shows("Thesis: part 2")


def test_a_name_that_is_none_is_refused_with_the_nearest(tab: Tab, alice: User) -> None:
    alice.has({**SESSIONS, "f": {"command": "the Hots: node7"}})
    tab.open(alice)
    said = tab.page.get_by_role("alert").filter(has_text="There is no column")
    for text in ("Hots: node7", "hosst==node7"):
        tab.find(text)
        expect(said).to_contain_text(re.compile("“(Hots|hosst)”; did you mean"))
        expect(tab.search).to_have_attribute("aria-invalid", "true")
    said.get_by_role("button", name="Host: node7").click()
    tab.shows("Thesis: part 2", "xterm")
    expect(said).to_be_hidden()
    tab.page.get_by_role("button", name="Remove filter").click()
    tab.find("Hots: node7")
    said.get_by_role("button", name="Search for the text").click()
    tab.shows("the Hots: node7")
    tab.find("qwertz==1")
    expect(said).to_contain_text("There is no column “qwertz”.")
    tab.find("State: asleep")
    expect(tab.page.get_by_role("alert").filter(has_text="State takes connected")).to_be_visible()


def test_a_cell_adds_a_filter_and_the_others_stay(tab: Tab, alice: User) -> None:
    alice.has(SESSIONS)
    tab.open(alice)
    tab.row("a").locator(".hostname").click()
    tab.shows("Thesis: part 2", "xterm")
    tab.row("a").locator(".state").click()
    tab.shows("xterm")
    chips = tab.page.locator("#filters li")
    expect(chips).to_contain_text(["Host: node7", "State: connected"])
    tab.find("term")
    tab.shows("xterm")
    expect(chips).to_have_count(2)
    tab.page.get_by_role("button", name="xterm", exact=True).click()
    tab.page.get_by_role("button", name="Show only Display: 12").click()  # by keyboard as well
    expect(chips).to_have_count(3)


def test_back_and_forward_go_through_what_was_asked(tab: Tab, alice: User) -> None:
    alice.has(SESSIONS)
    tab.open(alice)
    tab.shows(*ALL)
    tab.find("Host: node7")
    tab.shows("Thesis: part 2", "xterm")
    tab.page.get_by_role("columnheader", name="Session").get_by_role("button").click()
    tab.find("State: connected")
    tab.shows("xterm")
    tab.page.go_back()
    expect(tab.rows).to_have_count(2)
    tab.page.go_back()
    tab.shows("Thesis: part 2", "xterm")
    tab.page.go_back()
    tab.shows(*ALL)
    tab.page.go_forward()
    tab.shows("Thesis: part 2", "xterm")


def test_it_says_when_it_looked_through_a_part_only(tab: Tab, alice: User) -> None:
    alice.has(SESSIONS)

    def as_of_many(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, "x-total-count": "20000"})

    tab.open(alice)
    tab.page.route(re.compile("limit=10000"), as_of_many)
    tab.search.fill("node7")
    tab.shows("Thesis: part 2", "xterm")
    expect(tab.page.get_by_text("the first 10,000 of 20,000 sessions")).to_be_visible()
