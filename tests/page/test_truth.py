"""What is not known to be so now is not shown as if it were; and a token is renewed in time."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, expect

from tests.page.conftest import Tab, User
from tests.page.test_token import ask, stored

CONNECTED = {"a": {"command": "xterm", "clients": 1}}
DAY = 86_400


def bar(tab: Tab) -> Locator:
    return tab.page.locator("#bar")


def dot(tab: Tab) -> str:
    """The colour within the mark of session a's state."""
    found: str = (
        tab.row("a")
        .locator(".state")
        .evaluate("(cell) => getComputedStyle(cell, '::before').backgroundColor")
    )
    return found


def test_what_is_old_says_as_of_when_and_looks_it_until_it_is_not(tab: Tab, alice: User) -> None:
    alice.has({**CONNECTED, **{f"{n:02}": {"command": f"n{n}"} for n in range(45)}})
    tab.open(alice)
    expect(bar(tab)).to_be_hidden()
    fresh = dot(tab)
    tab.page.route(re.compile("/api/list/"), lambda route: route.abort())
    alice.has(CONNECTED)
    expect(bar(tab)).to_contain_text(re.compile(r"^\s*As of \d\d?:\d\d.*: the list cannot be"))
    assert dot(tab) != fresh
    tab.rows.last.scroll_into_view_if_needed()
    expect(bar(tab)).to_be_in_viewport()
    head = tab.page.locator("#table thead").bounding_box()
    above = bar(tab).bounding_box()
    assert head and above and head["y"] >= above["y"] + above["height"] - 1
    tab.page.unroute_all()
    tab.shows("xterm")
    expect(bar(tab)).to_be_hidden()
    assert dot(tab) == fresh


def test_an_answer_that_does_not_come_makes_what_is_shown_old(tab: Tab, alice: User) -> None:
    tab.page.clock.install()
    tab.page.add_init_script("AbortSignal.timeout = () => new AbortController().signal")
    alice.has(CONNECTED)
    tab.open(alice)
    tab.shows("xterm")
    tab.page.route(re.compile("/api/list/"), lambda route: None)  # a cut cable says nothing
    tab.page.clock.run_for(41_000)
    expect(bar(tab)).to_contain_text("the list has not answered since")


def test_who_signs_in_again_in_time_keeps_what_is_on_the_screen(tab: Tab, alice: User) -> None:
    alice.has({**CONNECTED, "b": {"command": "other", "clients": 0}})
    tab.open(alice, "&filter=clients%3D%3D1", ttl=290)
    tab.shows("xterm")
    expect(bar(tab)).to_contain_text("Your token ends at")
    tab.rows.first.get_by_role("button").click()
    tab.page.evaluate("window.kept = document.querySelector('#rows tr')")
    bar(tab).get_by_role("button", name="Sign in again").click()
    expect(tab.page.get_by_label("Your token")).to_be_focused()
    ask(tab.page, "not a token")
    expect(tab.page.get_by_role("alert").first).to_contain_text("This is no token")
    tab.shows("xterm")
    ask(tab.page, alice.token())
    expect(bar(tab)).to_be_hidden()
    expect(tab.page.get_by_label("Your token")).to_be_hidden()
    expect(tab.connection).to_have_text("live")
    assert tab.page.evaluate("kept === document.querySelector('#rows tr')")
    expect(tab.page.locator("#rows .details")).to_be_visible()


def test_a_token_of_a_day_is_not_said_to_end(tab: Tab, alice: User) -> None:
    tab.open(alice, ttl=DAY)
    expect(bar(tab)).to_be_hidden()


def test_it_is_the_lists_clock_that_says_when_a_token_ends(tab: Tab, alice: User) -> None:
    tab.page.add_init_script(f"{{ const now = Date.now; Date.now = () => now() + {DAY}000; }}")
    tab.open(alice, ttl=3600)
    expect(bar(tab)).to_be_hidden()
    tab.open(alice, ttl=290)
    expect(bar(tab)).to_contain_text("Your token ends at")


def test_what_a_token_showed_that_has_ended_stays_for_its_user_alone(
    tab: Tab, alice: User, bob: User
) -> None:
    alice.has(CONNECTED)
    bob.has({"b": {"command": "of bob"}})
    tab.open(alice, ttl=3)
    tab.shows("xterm")
    expect(tab.page.get_by_role("alert").first).to_have_text(
        re.compile("the token has expired|it has expired")
    )
    expect(tab.page.get_by_label("Your token")).to_be_focused()
    expect(bar(tab)).to_contain_text("your token has ended")
    tab.shows("xterm")
    assert stored(tab.page) == '[{},{},""]'
    ask(tab.page, alice.token())
    expect(tab.connection).to_have_text("live")
    expect(bar(tab)).to_be_hidden()
    tab.open(alice, ttl=3)
    expect(bar(tab)).to_contain_text("your token has ended")
    ask(tab.page, bob.token())
    tab.shows("of bob")
    assert "xterm" not in tab.page.content()
