"""A session's own view, the choice of columns, and what is saved of what is shown."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.page.conftest import Tab, User

SESSION: dict[str, Any] = {
    "command": "xterm",
    "hostname": "no de/7",
    "display": 7,
    "started": 1_700_000_000_000,
}


def view(tab: Tab, name: str) -> Locator:
    """Open the view of the session with this name, and return it."""
    tab.page.get_by_role("button", name=name, exact=True).click()
    return tab.page.locator("#rows .details")


def test_a_link_connects_to_the_session_by_the_administrators_template(
    tab: Tab, alice: User
) -> None:
    alice.has({"a": SESSION, "b": {**SESSION, "command": "no display", "display": None}})
    tab.open(alice)
    link = view(tab, "xterm").get_by_role("link", name="Connect")
    expect(link).to_have_attribute("href", "https://portal.example.org/no%20de%2F7/7?a=b")
    expect(link).to_have_attribute("rel", re.compile("noopener"))
    tab.page.get_by_role("button", name="xterm", exact=True).click()
    expect(view(tab, "no display").get_by_role("link", name="Connect")).to_be_hidden()


def test_its_id_is_copied_and_history_is_told(tab: Tab, alice: User) -> None:
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    alice.has({"a": SESSION})
    tab.open(alice)
    opened = view(tab, "xterm")
    expect(opened).to_contain_text(re.compile(r"Began Nov 14, 2023.*clients were connected for"))
    opened.get_by_role("button", name="Copy id").click()
    expect(opened.get_by_text("Copied.", exact=True)).to_be_visible()
    assert tab.page.evaluate("navigator.clipboard.readText()") == f"{alice.login}-a"


def test_what_it_has_used_since_one_looked_is_drawn_and_said(tab: Tab, alice: User) -> None:
    tab.page.clock.install()
    alice.has({"a": {**SESSION, "cpu": 10, "memory": 2**31}, "b": {"command": "unmeasured"}})
    tab.open(alice)
    processor, memory = view(tab, "xterm").locator("figure").all()
    expect(processor).to_contain_text(re.compile("CPU 10 %, the same in the last [0-9]+ s"))
    tab.page.clock.run_for(180_000)
    alice.has({"a": {**SESSION, "cpu": 50, "memory": 2**30}, "b": {"command": "unmeasured"}})
    expect(processor).to_have_text("CPU 50 %, 10 % to 50 % in the last 3 min")
    expect(memory).to_have_text("Memory 1.0 GiB, 1.0 GiB to 2.0 GiB in the last 3 min")
    points = str(processor.locator("polyline").get_attribute("points")).split()
    heights = [float(each.partition(",")[2]) for each in points]
    assert heights[0] == heights[1] > heights[2] == heights[3]  # a value holds until the next
    assert points[0].startswith("0.0,") and points[-1].startswith("90.0,")
    expect(processor.locator("svg")).to_have_attribute("aria-hidden", "true")
    tab.page.get_by_role("button", name="xterm", exact=True).click()
    expect(view(tab, "unmeasured").locator("figure:visible")).to_have_count(0)


def test_its_events_are_told_as_they_happen(tab: Tab, alice: User) -> None:
    alice.has({"a": {**SESSION, "clients": 0}, "b": {"command": "another", "clients": 1}})
    tab.open(alice)
    events = view(tab, "xterm").get_by_role("list", name="Events").get_by_role("listitem")
    expect(events).to_have_count(1)
    expect(events).to_contain_text("began")
    alice.has({"a": {**SESSION, "clients": 1, "client_addresses": ("192.0.2.7",)}})
    expect(events.first).to_contain_text("a client connected; 1 connected, from 192.0.2.7")
    alice.has({"a": {**SESSION, "clients": 0, "client_addresses": ()}})
    expect(events.first).to_contain_text("a client left; nobody connected")
    expect(events).to_have_count(3)


def test_its_user_gives_it_a_name_and_nobody_else(tab: Tab, alice: User, bob: User) -> None:
    alice.has({"a": SESSION})
    bob.has({"b": {"command": "of bob"}})
    tab.open(alice, f"&filter=login%3D%3D{alice.login},{bob.login}", admin=True)
    opened = view(tab, "xterm")
    opened.get_by_role("button", name="Rename").click()
    opened.get_by_label("Name").fill("Thesis")
    tab.page.keyboard.press("Enter")
    expect(opened.get_by_text("Saved.")).to_be_visible()
    expect(tab.row("a").locator(".name")).to_have_text("Thesis")
    tab.page.get_by_role("button", name="Thesis", exact=True).click()
    expect(view(tab, "of bob").get_by_role("button", name="Rename")).to_have_count(0)


def test_columns_are_chosen_and_kept(tab: Tab, alice: User) -> None:
    alice.has({"a": {**SESSION, "server_pid": 4711}})
    tab.open(alice)
    tab.page.locator("#columns summary").click()
    tab.page.get_by_label("Server's pid").check()
    tab.page.get_by_label("Mode", exact=True).uncheck()
    expect(tab.rows.locator("td.serverPid")).to_have_text("4711")
    tab.page.reload()
    expect(tab.rows.locator("td.serverPid")).to_have_text("4711")
    expect(tab.page.get_by_role("columnheader", name="Mode")).to_have_count(0)


def saved(page: Page, label: str) -> str:
    with page.expect_download() as caught:
        page.get_by_role("button", name=label, exact=True).click()
    return Path(caught.value.path()).read_text(encoding="utf-8")


def test_what_is_shown_is_saved_and_no_spreadsheet_runs_it(tab: Tab, alice: User) -> None:
    alice.has(
        {
            "a": {**SESSION, "params": {"name": '=HYPERLINK("x")'}, "clients": 1},
            "b": {"command": 'a "b", c\n+1', "started": 1},
        }
    )
    tab.open(alice)
    expect(tab.rows).to_have_count(2)
    head, *rows = csv.reader(io.StringIO(saved(tab.page, "CSV")))
    assert head[:3] == ["Session", "State", "Mode"]
    told = [dict(zip(head, row, strict=True)) for row in rows]
    assert told[0]["Session"] == '\'=HYPERLINK("x")' and told[0]["State"] == "connected"
    assert told[0]["Display"] == "7" and told[0]["Started"] == "2023-11-14T22:13:20.000Z"
    assert told[1]["Session"] == 'a "b", c␊+1'
    assert [each["id"] for each in json.loads(saved(tab.page, "JSON"))] == [
        f"{alice.login}-a",
        f"{alice.login}-b",
    ]
