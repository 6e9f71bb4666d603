"""The history, in its tab: what is found there, by whom, and how it is saved."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Route, expect

from tests.page.conftest import Tab, User

TWO = {
    "a": {"command": "xterm", "hostname": "node7", "started": 1_700_000_000_000},
    "b": {"command": "=1+1", "hostname": "node8", "started": 1_700_000_000_000},
}


def look(tab: Tab) -> Locator:
    """Turn to the history by keyboard, and return its rows."""
    tab.page.get_by_role("tab", name="Running").focus()
    tab.page.keyboard.press("ArrowRight")
    expect(tab.page.get_by_role("tab", name="History")).to_be_focused()
    return tab.page.locator("#past-table tbody tr")


def test_what_has_ended_is_found_narrowed_and_saved(tab: Tab, alice: User, bob: User) -> None:
    alice.has(TWO)
    alice.has({"a": TWO["a"]})
    bob.has(TWO)
    tab.open(alice)
    page, rows = tab.page, look(tab)
    expect(rows.locator(".name")).to_have_text(["xterm", "=1+1"])
    expect(rows.nth(0).locator(".ended")).to_have_text("runs")
    ended = rows.nth(1).locator(".ended time")
    expect(ended).to_have_attribute("title", re.compile(r"\(20..-.*Z\)"))
    expect(rows.nth(1).locator(".lasted")).to_have_text(re.compile("^[0-9,]+ [dy]$"))
    find = page.get_by_label("Find in the history")
    find.fill("Host: node8")
    find.press("Enter")
    expect(rows).to_have_count(1)
    with page.expect_download() as caught:
        page.get_by_role("tabpanel", name="History").get_by_role("button", name="CSV").click()
    assert caught.value.url.startswith("blob:")  # an address with a token would be kept
    with Path(caught.value.path()).open(encoding="utf-8", newline="") as file:
        assert [row["command"] for row in csv.DictReader(file)] == ["'=1+1"]
    page.get_by_role("button", name="Remove filter Host: node8").click()
    expect(rows).to_have_count(2)
    find.fill("xter")
    find.press("Enter")
    expect(rows.locator(".name")).to_have_text(["xterm"])
    find.fill("Hots: node8")
    find.press("Enter")
    expect(page.get_by_text("did you mean Host: node8?")).to_be_visible()
    tab.page.get_by_label("Since", exact=True).fill("2099-01-01")
    with page.expect_request(re.compile("/api/history/.*until=")) as asked:
        tab.page.get_by_label("Until", exact=True).fill("2020-01-31")
    said = parse_qs(urlsplit(asked.value.url).query)
    zone = page.evaluate("[new Date(2099, 0, 1).valueOf(), new Date(2020, 1, 1).valueOf()]")
    assert [said["since"], said["until"]] == [[str(zone[0])], [str(zone[1])]]
    expect(page.get_by_text("No session matches.")).to_be_visible()
    page.get_by_role("button", name="Forget token").click()
    expect(rows).to_have_count(0)


def test_an_administrator_has_everybodys_history_by_pages(tab: Tab, alice: User, bob: User) -> None:
    alice.has({f"{number:02}": {"command": "x"} for number in range(60)})
    bob.has(TWO)
    tab.open(alice, admin=True)
    page, rows = tab.page, look(tab)
    expect(rows).to_have_count(50)
    find = page.get_by_label("Find in the history")
    find.fill(f"Login: {alice.login},{bob.login}")
    find.press("Enter")
    expect(page.locator("#past-range")).to_have_text("1–50 of 62")
    page.locator("#past-following").click()
    expect(page.locator("#past-range")).to_have_text("51–62 of 62")
    expect(rows).to_have_count(12)
    page.get_by_role("columnheader", name="Login").last.get_by_role("button").click()
    expect(page.locator("#past-range")).to_have_text("1–50 of 62")
    expect(rows.first.locator(".login")).to_have_text(alice.login)

    def uncounted(route: Route) -> None:  # as of very many
        answer = route.fetch()
        headers = {k: v for k, v in answer.headers.items() if k.lower() != "x-total-count"}
        route.fulfill(response=answer, headers=headers)

    page.route(re.compile("/api/admin/history/"), uncounted)
    page.get_by_role("columnheader", name="Login").last.get_by_role("button").click()
    expect(page.locator("#past-range")).to_have_text("1–50 of over 100,000")
    page.get_by_role("tabpanel", name="History").get_by_role("button", name="CSV").click()
    expect(page.get_by_text("has the last 10,000 of over 100,000")).to_be_visible()
    alice.has()  # and a token that no longer holds ends it
    page.route(re.compile("/api/admin/history/"), lambda route: route.fulfill(status=401))
    page.get_by_role("columnheader", name="Login").last.get_by_role("button").click()
    expect(page.get_by_label("Your token")).to_be_visible()
