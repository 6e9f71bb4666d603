"""For everybody: both themes, narrow and wide, keyboard alone, and what axe checks of the Web
Content Accessibility Guidelines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.page.conftest import Tab, User
from tests.page.test_servers import beat

SESSIONS: dict[str, dict[str, Any]] = {
    "a": {
        "command": "startxfce4",
        "params": {"name": "Thesis"},
        "clients": 1,
        "window_mode": "desktop",
        "geometry": "1920x1080",
        "display": 9,
        "started": 1_700_000_000_000,
    },
    "b": {
        "command": "xterm",
        "clients": 0,
        "last_disconnect": 1_700_000_000_000,
        "window_mode": "rootless",
    },
    "c": {
        "command": "a name that goes on and on, as names do that somebody has made up " * 5,
        "clients": 0,
    },
    "d": {"command": "unknown", "hostname": "a-host-of-a-long-name." * 10, "display": 65535},
}
THEMES = ["light", "dark"]
WIDTHS = [360, 1280]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(params=THEMES)
def themed(request: pytest.FixtureRequest, browser: Browser, alice: User) -> Iterator[Tab]:
    with browser.new_context(color_scheme=request.param, reduced_motion="reduce") as context:
        yield Tab(context.new_page(), alice.service)


def complaints(page: Page) -> str:
    """Return what axe finds; it is put in by the debugger, for the page's policy lets no script
    in."""
    # A row that is halfway below the sticky header would count as too small to hit
    page.evaluate("scrollTo(0, 0)")
    found = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]})
    return "" if found.violations_count == 0 else str(found.generate_report())


def fit(page: Page) -> None:
    """Wait until nothing is wider than the window, nor text wider than its cell, which a row would
    cut off."""
    page.wait_for_function(
        "() => document.documentElement.scrollWidth <= innerWidth &&"
        " [...document.querySelectorAll('#rows td')].every((cell) => cell.scrollWidth <="
        " cell.clientWidth)"
    )


def states(tab: Tab, alice: User) -> Iterator[str]:
    """Bring the page into each of its states in turn, and yield the state's name."""
    page, now = tab.page, datetime.now()
    page.goto(alice.service.url)
    page.get_by_label("Your token").fill("nonsense")
    page.keyboard.press("Enter")
    expect(page.locator("#why")).not_to_be_empty()
    yield "ask"
    tab.open(alice)
    expect(page.get_by_text("You have no session now.")).to_be_visible()
    yield "empty"
    alice.has({"a": SESSIONS["a"], "d": SESSIONS["d"], "e": {"command": "gone soon"}})
    page.goto("about:blank")  # so that they are no news
    tab.open(alice, "&sortBy=command")
    expect(tab.rows).to_have_count(3)
    page.clock.set_fixed_time(now)  # so that rows stay as they are
    alice.has({**SESSIONS, "d": {**SESSIONS["d"], "clients": 3, "geometry": "5x5"}})
    expect(tab.row("e")).to_have_class(re.compile("gone"))
    expect(tab.page.locator("tr.fresh, tr.changed")).to_have_count(3)
    yield "new, changed and gone rows"
    page.clock.set_fixed_time(now + timedelta(seconds=10))
    page.get_by_role("button", name="Thesis").click()
    tab.filter("login", alice.login)
    expect(tab.rows).to_have_count(4)
    tab.open_bench()
    expect(page.locator("#response")).to_contain_text("Thesis")
    alice.has(SESSIONS)
    page.locator("#messages summary").first.click()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Try it", exact=True).click()
    page.get_by_role("button", name="Connect", exact=True).click()
    page.locator("#tries summary").last.click()
    expect(page.locator("#tries summary b").first).to_contain_text("open")
    yield "bench"
    page.get_by_role("tab", name="History").click()
    expect(page.locator("#past-table tbody tr")).to_have_count(5)
    yield "history"
    page.get_by_role("tab", name="Running").click()
    page.evaluate("location.hash = '#limit=-1'")
    expect(page.get_by_text("The list refused this")).to_be_visible()
    yield "refused"
    page.route(re.compile("/api/list/"), lambda route: route.abort())
    page.get_by_role("button", name="Ask for all again").click()
    expect(tab.connection).to_contain_text("offline")
    yield "offline"
    page.unroute_all()
    beat(
        alice.store,
        "north",
        cpu=93.4,
        free_memory=2**30,
        total_memory=2**35,
        sessions=17,
        uptime=7200,
        pool="teaching",
    )
    tab.open(alice, admin=True)
    machines = page.locator("#machines")
    expect(machines).to_be_visible()
    if machines.get_attribute("open") is None:
        machines.locator("summary").click()
    expect(page.locator("#servers")).to_contain_text("teaching")
    expect(page.get_by_role("columnheader", name="Login", exact=True)).to_be_visible()
    yield "administrator"


def test_axe_finds_nothing_and_nothing_sticks_out(themed: Tab, alice: User, tmp_path: Path) -> None:
    seen = []
    dark = themed.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    for state in states(themed, alice):
        for width in WIDTHS:
            themed.page.set_viewport_size({"width": width, "height": 800})
            fit(themed.page)
            picture = themed.page.screenshot(path=tmp_path / f"{state}-{width}.png")
            assert int.from_bytes(picture[16:20], "big") == width  # so says a PNG's header
            assert len(picture) > 5000, f"{state} at {width}"  # an empty one has 3 KB
            if width == 1280 or not dark:  # colours are the same at all widths
                assert complaints(themed.page) == "", f"{state} at {width}"
        seen.append(state)
    assert len(seen) == 8


def test_axe_would_find_something(themed: Tab, alice: User) -> None:
    themed.open(alice)
    themed.page.evaluate(
        "document.getElementById('who').style.color = 'color-mix(in srgb, currentColor 30%,"
        " var(--ground))'"
    )
    assert "color-contrast" in complaints(themed.page)


def test_the_themes_differ(browser: Browser, alice: User) -> None:
    grounds = []
    for theme in THEMES:
        with browser.new_context(color_scheme=theme) as context:  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(alice.service.url)
            grounds.append(
                page.locator("body").evaluate("(body) => getComputedStyle(body).backgroundColor")
            )
    [light, dark] = [sum(map(int, re.findall(r"\d+", ground))) for ground in grounds]
    assert light > 600 and dark < 150


def test_nothing_moves_by_itself(tab: Tab, alice: User) -> None:
    """It would hurt some people, and cost each frame of many rows."""
    alice.has(SESSIONS)
    tab.open(alice)
    expect(tab.rows).to_have_count(4)
    alice.has({"a": {**SESSIONS["a"], "clients": 2}})
    expect(tab.row("a")).to_have_class(re.compile("changed"))
    assert tab.page.evaluate(
        "() => [...document.querySelectorAll('*')].every((element) => {"
        " const { transitionDuration, animationName } = getComputedStyle(element);"
        " return parseFloat(transitionDuration) === 0 && animationName === 'none'; })"
    )


def ground(page: Page) -> str:
    return str(page.locator("body").evaluate("(body) => getComputedStyle(body).backgroundColor"))


def test_theme_and_density_are_the_users_to_choose(tab: Tab, alice: User) -> None:
    page = tab.page
    page.emulate_media(color_scheme="light")
    alice.has(SESSIONS)
    tab.open(alice)
    light, row = ground(page), tab.row("b").bounding_box()
    page.get_by_text("Look", exact=True).click()
    page.get_by_label("Theme").select_option("Dark")
    page.get_by_label("Density").select_option("Compact")
    assert ground(page) != light
    smaller = tab.row("b").bounding_box()
    assert row and smaller and smaller["height"] < row["height"] - 6
    page.reload()
    page.get_by_text("Look", exact=True).click()
    expect(page.get_by_label("Theme")).to_have_value("dark")
    assert ground(page) != light
    page.get_by_label("Theme").select_option("System")
    assert ground(page) == light


def test_forced_colours_keep_every_meaning(tab: Tab, alice: User) -> None:
    tab.page.emulate_media(forced_colors="active")
    alice.has({"a": {"clients": 1}, "b": {"clients": 0, "last_connect": 1}})
    tab.open(alice)
    marks = [
        tab.row(name)
        .locator(".state")
        .evaluate("(cell) => getComputedStyle(cell, '::before').backgroundColor")
        for name in "ab"
    ]
    assert marks[0] != marks[1]
    alice.has({"a": {"clients": 2}, "b": {"clients": 0, "last_connect": 1}})
    expect(tab.row("a")).to_have_class(re.compile("changed"))
    edges = [
        tab.row(name).evaluate("(row) => getComputedStyle(row).borderInlineStartWidth")
        for name in "ab"
    ]
    assert edges == ["4px", "0px"]


SMALL = """(least) => [...document.querySelectorAll(
    "a[href]:not(p a), button, summary, select, input:not([type=checkbox], [type=radio])"
)].filter((element) => element.checkVisibility()).filter((element) => {
    const { width, height } = element.getBoundingClientRect();
    return height < least || width < least;
}).map((element) => element.outerHTML.slice(0, 100))"""


def test_a_finger_hits_everything_on_a_telephone(tab: Tab, alice: User) -> None:
    tab.page.set_viewport_size({"width": 360, "height": 800})
    tab.page.goto(alice.service.url)
    expect(tab.page.get_by_label("Your token")).to_be_visible()
    assert tab.page.evaluate(SMALL, 44) == []
    alice.has({**SESSIONS, "b": {**SESSIONS["b"], "idle_since": 1_700_000_000_000}})
    tab.open(alice, f"&filter=login%3D%3D{alice.login}", admin=True)
    header, head = tab.page.locator("header").bounding_box(), tab.page.locator("thead").last
    assert header and header["height"] < 2 * 46  # two lines
    assert head.evaluate("(head) => head.offsetHeight") < 2 * 46  # one, and what scrolls it
    idle = tab.row("b").locator(".idleSince")
    expect(idle).to_have_text(re.compile(r"^idle for [\d.,]+ [dy]$"))
    expect(idle.locator("time")).to_have_attribute("title", re.compile("2023-11-14T22:13:20"))
    tab.rows.first.get_by_role("button").click()
    tab.open_bench()
    assert tab.page.evaluate(SMALL, 44) == []


def go_to(page: Page, wanted: Locator, key: str = "Tab") -> None:
    """Press ``key`` until ``wanted`` has the focus, which must be seen on all the way."""
    look = """(wanted) => {
        const element = document.activeElement;
        const { outlineStyle, outlineWidth } = getComputedStyle(element);
        const outlined = outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1;
        const seen = element === document.body || outlined;
        return [element === wanted, seen ? '' : element.outerHTML];
    }"""
    for _ in range(60):
        page.keyboard.press(key)
        there, unseen = wanted.evaluate(look)
        assert unseen == ""
        if there:
            return
    raise AssertionError(f"{wanted} cannot be reached")


@pytest.mark.parametrize("width", [360, 1280])
def test_everything_can_be_done_by_keyboard_alone(tab: Tab, alice: User, width: int) -> None:
    page, press, write = tab.page, tab.page.keyboard.press, tab.page.keyboard.type
    page.set_viewport_size({"width": width, "height": 800})
    alice.has(
        {
            f"{number:02}": {"command": f"n{number:02}", "started": number, "clients": number % 2}
            for number in range(60)
        }
    )
    page.goto(alice.service.url)
    write(alice.token())
    press("Enter")
    expect(tab.connection).to_have_text("live")
    expect(tab.rows).to_have_count(50)
    press("/")
    expect(tab.search).to_be_focused()
    write("State: conn")
    press("Enter")
    expect(tab.rows).to_have_count(30)
    go_to(page, page.get_by_role("button", name="Remove filter State: connected"))
    press("Enter")
    expect(tab.rows).to_have_count(50)
    expect(tab.search).to_be_focused()
    go_to(page, page.get_by_label("Next page"))
    press("Enter")
    expect(tab.rows).to_have_count(10)
    go_to(page, page.get_by_label("Previous page"), "Shift+Tab")
    press("Space")
    expect(tab.rows).to_have_count(50)
    go_to(page, page.get_by_label("Rows"))
    press("ArrowUp")
    expect(tab.rows).to_have_count(25)
    press("ArrowUp")
    expect(tab.rows).to_have_count(10)
    go_to(page, page.get_by_role("button", name="Started"))
    press("Enter")
    expect(tab.names.first).to_have_text("n00")
    go_to(page, page.get_by_role("button", name="n00"))
    press("Enter")
    expect(page.locator(".details")).to_be_visible()
    go_to(page, page.locator("#bench > summary"))
    press("Enter")
    go_to(page, page.get_by_label("GET", exact=True))
    press("ArrowDown")
    expect(page.locator("#request")).to_contain_text("POST")
    go_to(page, page.get_by_label("limit"))
    press("Control+A")
    write("3")
    press("Enter")
    expect(tab.rows).to_have_count(3)
    for name in ("Copy as curl", "Pause", "Clear"):
        go_to(page, page.get_by_role("button", name=name, exact=True))
    go_to(page, page.get_by_role("button", name="Forget token"), "Shift+Tab")
    press("Enter")
    expect(page.get_by_label("Your token")).to_be_focused()
