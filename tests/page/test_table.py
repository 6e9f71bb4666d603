"""The table: what it says of sessions, and how it says that something has happened."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone

from playwright.sync_api import expect

from tests.page.conftest import Tab, User

HOUR = 3600_000


def now() -> int:
    return int(time.time() * 1000)


def test_it_follows_the_list(tab: Tab, alice: User) -> None:
    alice.has({"a": {"started": 1, "command": "xterm"}})
    tab.open(alice)
    tab.shows("xterm")
    alice.has(
        {
            "a": {"started": 1, "command": "xterm"},
            "b": {"started": 2, "command": "xterm", "params": {"name": "Thesis"}},
        }
    )
    tab.shows("Thesis", "xterm")
    alice.has({"b": {"started": 2, "params": {"name": "Thesis"}}})
    tab.shows("Thesis")
    alice.has()
    expect(tab.page.get_by_text("You have no session now.")).to_be_visible()
    alice.has({"c": {"display": 7}})
    tab.shows("Display :7")
    expect(tab.page.get_by_text("You have no session now.")).to_be_hidden()


def test_it_says_what_people_ask(tab: Tab, alice: User) -> None:
    alice.has(
        {
            "a": {
                "command": "one",
                "started": now() - 3 * HOUR - 5000,
                "clients": 1,
                "window_mode": "desktop",
                "geometry": "800x600",
                "display": 4,
                "client_addresses": ("192.0.2.1", "local"),
                "idle_since": now() - 5 * 60_000 - 5000,
                "cpu": 12,
                "memory": 300 * 1024**2,
            },
            "b": {"command": "three", "started": now() - 2 * HOUR, "clients": 3},
            "c": {
                "command": "left",
                "started": now() - 1 * HOUR,
                "clients": 0,
                "last_connect": 1,
                "last_disconnect": now() - 125_000,
            },
            "d": {"command": "waits", "started": now() - 90_000, "clients": 0},
            "e": {"command": "dark", "started": now() - 1000},
            "f": {"command": "timeless", "clients": 0, "last_connect": 1},
        }
    )
    tab.open(alice, "&sortReverse=false")
    expect(tab.rows.locator(".state")).to_have_text(
        [
            "connected",
            "connected, 3 clients",
            "disconnected 2 min ago",
            "never connected",
            "unknown",
            "disconnected",
        ]
    )
    just = re.compile(r"just now|\d+ s ago")
    expect(tab.rows.locator(".started")).to_have_text(
        ["3 h ago", "2 h ago", "1 h ago", "1 min ago", just, "–"]
    )
    expect(tab.rows.first.locator("td")).to_have_text(
        [
            *("one", "connected", "desktop", "here.example", ":4", "800x600", "3 h ago"),
            *("–", "192.0.2.1 local", "idle for 5 min", "12 %", "300 MiB"),
        ]
    )


def test_a_time_is_exact_for_pointer_keyboard_and_screen_reader(tab: Tab, alice: User) -> None:
    started = now() - 2 * HOUR
    alice.has({"a": {"command": "xterm", "started": started}})
    tab.open(alice)
    iso = (
        datetime.fromtimestamp(started / 1000, timezone.utc)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
    local = tab.page.evaluate(
        "started => new Intl.DateTimeFormat(undefined, {dateStyle: 'medium', timeStyle: 'long'})"
        ".format(started)",
        started,
    )
    assert tab.rows.locator("time").get_attribute("title") == f"{local} ({iso})"
    button = tab.page.get_by_role("button", name="xterm", exact=True)
    button.focus()
    tab.page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    details = tab.page.locator("#rows .details")
    expect(details).to_contain_text(f"started{local} ({iso})")
    expect(details).to_contain_text(re.compile("not known.*serverPid"))
    tab.page.keyboard.press("Enter")
    expect(details).to_have_count(0)


def test_details_follow_too(tab: Tab, alice: User) -> None:
    alice.has({"a": {"command": "xterm", "cpu_percentage": 5}})
    tab.open(alice)
    tab.page.get_by_role("button", name="xterm").click()
    details = tab.page.locator("#rows .details")
    expect(details).to_contain_text("cpuPercentage5")
    alice.has({"a": {"command": "xterm", "cpu_percentage": 50}})
    expect(details).to_contain_text("cpuPercentage50")
    expect(tab.rows).to_have_class(re.compile("changed"))


def test_what_is_new_has_changed_or_has_gone_is_seen(tab: Tab, alice: User) -> None:
    tab.page.clock.install()
    alice.has({"a": {"command": "stays"}, "b": {"command": "goes"}})
    tab.open(alice)
    tab.shows("stays", "goes")
    # What was there before is no news
    expect(tab.page.locator(".fresh, .changed, .gone")).to_have_count(0)
    alice.has({"a": {"command": "stays", "geometry": "800x600"}, "c": {"command": "comes"}})
    expect(tab.row("c")).to_have_class(re.compile("fresh"))
    expect(tab.row("a")).to_have_class(re.compile("changed"))
    expect(tab.row("a").locator(".fresh")).to_have_text(["800x600"])
    gone = tab.row("b")
    expect(gone).to_have_class(re.compile("gone"))
    expect(gone.locator("td").first).to_have_css("text-decoration-line", "line-through")
    tab.page.clock.run_for(5000)
    expect(gone).to_have_count(0)
    expect(tab.page.locator(".fresh, .changed")).to_have_count(0)


def test_a_session_that_comes_back_is_listed_again(tab: Tab, alice: User) -> None:
    tab.page.clock.install()
    alice.has({"a": {"command": "blinks"}, "b": {"command": "stays"}})
    tab.open(alice)
    tab.shows("blinks", "stays")
    alice.has({"b": {"command": "stays"}})
    expect(tab.row("a")).to_have_class(re.compile("gone"))
    alice.has({"a": {"command": "blinks"}, "b": {"command": "stays"}})
    tab.shows("blinks", "stays")
    tab.page.clock.run_for(5000)
    expect(tab.page.locator(".fresh, .gone")).to_have_count(0)
    tab.shows("blinks", "stays")


def test_a_screen_reader_hears_one_sentence_for_many_changes(tab: Tab, alice: User) -> None:
    tab.page.clock.install()
    alice.has({str(number): {"command": f"number {number}", "clients": 0} for number in range(40)})
    tab.open(alice)
    news = tab.page.locator("#news")
    expect(news).to_have_attribute("role", "status")  # which is polite
    expect(news).to_have_text("40 sessions")
    tab.page.evaluate(
        "() => { window.said = []; const news = document.getElementById('news');"
        " new MutationObserver(() => said.push(news.textContent))"
        " .observe(news, {childList: true, characterData: true, subtree: true}); }"
    )
    begun = time.monotonic()
    for clients in range(2, 14):
        alice.has(
            {
                str(number): {"command": f"number {number}", "clients": clients}
                for number in range(40)
            }
        )
        expect(tab.rows.last.locator(".state")).to_have_text(f"connected, {clients} clients")
    assert len(tab.page.evaluate("said")) <= (time.monotonic() - begun) / 2.5 + 1
    alice.has({"0": {"command": "number 0", "clients": 13}, "new": {"command": "new"}})
    tab.shows("number 0", "new")
    tab.page.clock.run_for(2500)
    expect(news).to_contain_text("39 gone")
    said = tab.page.evaluate("said")
    assert "1 new" in ", ".join(said) and "40 changed" in ", ".join(said)
    alice.has({"0": {"command": "number 0", "clients": 14}, "new": {"command": "new"}})
    expect(tab.rows.first.locator(".state")).to_contain_text("14")
    tab.page.clock.run_for(2500)
    expect(news).to_have_text("Changed: number 0")
    alice.has({"new": {"command": "new"}})
    tab.shows("new")
    tab.page.clock.run_for(2500)
    expect(news).to_have_text("Gone: number 0")


def test_hostile_names_stay_text(tab: Tab, alice: User) -> None:
    script = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>"
    alice.has(
        {
            "a": {"started": 1, "command": script},
            "b": {"started": 2, "params": {"name": "\u202egnp.exe", "</dl><b>": "<i>"}},
            "c": {"started": 3, "params": {"name": "two\nlines\0\x1b[31m\x9b"}},
            "d": {"started": 4, "params": {"name": "  "}, "command": "honest"},
            "e": {"started": 5, "params": {"name": {"a": 1}}, "command": "plain"},
            "f": {"started": 2**53, "command": "far"},
        }
    )
    tab.open(alice, "&sortReverse=false")
    tab.shows(script, "⟨U+202E⟩gnp.exe", "two␊lines␀␛[31m\ufffd", "honest", "plain", "far")
    for button in tab.names.get_by_role("button").all():
        button.click()
    expect(tab.page.locator("#rows .details")).to_have_count(6)
    expect(tab.page.locator("#rows .details").nth(1)).to_contain_text("params.</dl><b><i>")
    ours = "figcaption > b"
    assert tab.page.locator(f"#rows :is(img, script, b:not({ours}), i)").count() == 0
    assert tab.page.title() == "Sessions – fastx-list"


def test_what_cannot_be_seen_is_shown_as_what_it_is(tab: Tab, alice: User) -> None:
    shown = {
        "pay\u200bpal": "pay⟨U+200B⟩pal",
        "\u2066x\u2069": "⟨U+2066⟩x⟨U+2069⟩",
        "a\u200db": "a⟨U+200D⟩b",
        "\u3164 \u00ad\ufeff\U000e0041": "⟨U+3164⟩ ⟨U+00AD⟩⟨U+FEFF⟩⟨U+E0041⟩",
        "line\u2028end": "line⟨U+2028⟩end",
        "👩\u200d🔬": "👩\u200d🔬",
        "می\u200cخواهم": "می\u200cخواهم",
    }
    alice.has({str(number): {"params": {"name": name}} for number, name in enumerate(shown)})
    tab.open(alice)
    tab.shows(*shown.values())
    # What turns the direction of writing by itself does so in its own element only: the state
    # still stands right of the name
    row = tab.rows.last
    [name, state] = [row.locator(part).bounding_box() for part in (".name bdi", ".state bdi")]
    assert name and state and name["x"] < state["x"]


def test_a_name_of_10000_characters_is_cut_on_screen_and_whole_on_request(
    tab: Tab, alice: User
) -> None:
    command = "".join(f"{number} " for number in range(2000))[:10_000].strip()
    alice.has({"a": {"command": command}, "b": {"command": "x" * 10_000}})
    for width in (360, 1280):
        tab.page.set_viewport_size({"width": width, "height": 700})
        tab.open(alice)
        expect(tab.rows).to_have_count(2)
        for row in tab.rows.all():
            box = row.bounding_box()
            assert box and box["height"] < 200
            row.get_by_role("button").click()
        expect(tab.page.locator(".details").first.get_by_text(command, exact=True)).to_be_visible()
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        tab.page.reload()


def test_the_focus_stays_with_its_session(tab: Tab, alice: User) -> None:
    tab.page.clock.install()
    others = {"a": {"command": "first", "clients": 1}, "b": {"command": "second", "clients": 2}}
    alice.has({**others, "c": {"command": "third", "clients": 3}})
    tab.open(alice, "&sortBy=clients")
    tab.shows("first", "second", "third")
    tab.page.get_by_role("button", name="third").focus()
    alice.has({**others, "c": {"command": "third", "clients": 0}})
    tab.shows("third", "first", "second")
    expect(tab.page.get_by_role("button", name="third")).to_be_focused()
    alice.has(others)
    tab.shows("first", "second")
    tab.page.clock.run_for(5000)
    # The next best, once the row has gone
    expect(tab.page.get_by_role("button", name="first")).to_be_focused()


def test_a_thousand_rows_are_not_made_anew(tab: Tab, alice: User) -> None:
    tab.page.clock.install()
    rows = {
        f"{number:04}": {"command": f"number {number}", "started": number, "clients": 0}
        for number in range(1000)
    }
    alice.has(rows)
    tab.open(alice, "&limit=1000")
    expect(tab.rows).to_have_count(1000)
    tab.page.evaluate(
        "() => { const body = document.getElementById('rows'); window.kept = new Map(); for (const"
        " row of body.children) kept.set(row.dataset.id, [row, row.cells[0].innerHTML]);"
        " window.work = 0; new MutationObserver((records) => { work += records.length; })"
        " .observe(body, {childList: true, characterData: true, attributes: true, subtree:"
        " true}); }"
    )
    tab.page.clock.run_for(5000)
    assert tab.page.evaluate("work") == 0  # time goes on, and no row says anything else for it
    alice.has(
        {
            name: facts
            for name, facts in {**rows, "0500": {**rows["0500"], "clients": 1}}.items()
            if name != "0501"
        }
    )
    expect(tab.row("0500").locator(".state")).to_have_text("connected")
    expect(tab.rows).to_have_count(999)
    assert 0 < tab.page.evaluate("work") < 20
    assert tab.page.evaluate(
        "[...document.getElementById('rows').children].every((row) => kept.get(row.dataset.id)[0]"
        " === row)"
    )


def test_of_more_than_a_thousand_rows_those_out_of_sight_are_not_laid_out(
    tab: Tab, alice: User
) -> None:
    alice.has({f"{number:04}": {"command": f"n{number}"} for number in range(1001)})
    tab.open(alice, "&limit=2000")
    expect(tab.rows).to_have_count(1001)
    seen = (
        "(index) => document.getElementById('rows').children[index].cells[0].firstChild"
        ".checkVisibility({contentVisibilityAuto: true})"
    )
    assert tab.page.evaluate(seen, 0) is True
    assert tab.page.evaluate(seen, 990) is False
    tab.rows.nth(990).scroll_into_view_if_needed()
    tab.page.wait_for_function(seen, arg=990)


def test_a_long_name_of_a_host_takes_one_line_and_can_be_read_in_full(
    tab: Tab, alice: User
) -> None:
    long = "login-node-17.cluster.department.example.org"
    alice.has({"a": {"hostname": long}, "b": {"hostname": "n7"}})
    tab.open(alice)
    cut, whole = (tab.row(name).locator(".hostname") for name in "ab")
    expect(cut.get_by_title(long)).to_be_visible()
    heights = [cell.evaluate("(cell) => cell.offsetHeight") for cell in (cut, whole)]
    assert heights[0] == heights[1]
    tab.page.set_viewport_size({"width": 360, "height": 800})
    expect(tab.page.locator("#table")).to_have_class(re.compile("cards"))
    assert cut.evaluate("(cell) => cell.firstChild.scrollWidth <= cell.clientWidth")
