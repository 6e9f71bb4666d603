"""What people come for, done with few clicks and keys; docs/users.md has the same on the command
line."""

from __future__ import annotations

import time

from playwright.sync_api import Locator, expect

from fastx_list.store import Store
from tests.page.conftest import Tab, User
from tests.page.test_servers import beat

DAY_MS = 86_400_000


class Hand:
    """Clicks and types in a tab, and counts."""

    def __init__(self, tab: Tab) -> None:
        self._tab = tab
        self.clicks = self.keys = 0

    def click(self, what: Locator) -> None:
        what.click()
        self.clicks += 1

    def type(self, text: str) -> None:
        for key in text:
            self._tab.page.keyboard.press(key)
            self.keys += 1


def test_to_find_ones_session_on_a_machine_takes_its_name(tab: Tab, alice: User) -> None:
    alice.has({f"{n}": {"hostname": f"node{n}", "command": f"on {n}"} for n in range(9)})
    tab.open(alice)
    hand = Hand(tab)
    hand.type("/node7")
    tab.shows("on 7")
    assert (hand.clicks, hand.keys) == (0, 6)


def test_who_has_been_idle_for_longest_is_a_click_away(tab: Tab, alice: User, bob: User) -> None:
    now = round(time.time() * 1000)
    alice.has(
        {"now": {"command": "in use"}, "long": {"command": "idle", "idle_since": now - 9 * DAY_MS}}
    )
    bob.has({"short": {"command": "paused", "idle_since": now - DAY_MS}})
    tab.open(alice, f"&filter=login=={alice.login},{bob.login}", admin=True)
    hand = Hand(tab)
    hand.click(tab.page.get_by_role("columnheader").get_by_role("button", name="Idle"))
    tab.shows("idle", "paused", "in use")
    assert hand.clicks == 1


def test_what_runs_on_the_busiest_machine_is_two_clicks_away(
    tab: Tab, alice: User, store: Store
) -> None:
    for n in range(9):
        beat(store, f"{alice.login}-{n}", cpu=1.0)
    alice.has({"render": {"command": "blender"}})
    beat(store, f"of-{alice.login}", cpu=99.9, sessions=1)
    tab.open(alice, admin=True)
    hand = Hand(tab)
    machines = tab.page.locator("#machines")
    if machines.get_attribute("open") is None:
        hand.click(machines.locator("summary"))
    busiest = machines.locator("tbody tr").first
    expect(busiest).to_contain_text(f"of-{alice.login}")
    hand.click(busiest.get_by_role("button"))
    tab.shows("blender")
    assert hand.clicks <= 2


def test_why_a_token_is_refused_is_said_where_it_is_pasted(tab: Tab, alice: User) -> None:
    tab.page.goto(alice.service.url)
    hand = Hand(tab)
    tab.page.get_by_label("Your token").fill(alice.token(ttl=-5))  # pasted
    hand.click(tab.page.get_by_role("button", name="Show my sessions"))
    expect(tab.page.locator("#why")).to_contain_text("expired")
    assert hand.clicks == 1
