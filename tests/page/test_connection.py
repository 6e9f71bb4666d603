"""What the page does while a part of the service is away, and that it is right again afterwards."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from itertools import count

import pytest
from playwright.sync_api import Error, expect

from fastx_list.live.sidecar import AT_ONCE
from tests.page.conftest import Tab, User
from tests.support import end, exchange

TWO = {"a": {"command": "ends meanwhile"}, "b": {"command": "stays"}}


def test_while_the_sidecar_is_away_the_list_goes_on(tab: Tab, own: User) -> None:
    own.has(TWO)
    tab.open(own)
    tab.shows("ends meanwhile", "stays")
    end(own.service.running["live"])
    said = "not live, asking every 5 s"
    expect(tab.connection).to_have_text(re.compile(rf"^{said}; next attempt in \d+ s$"))
    # The seconds are not read out
    expect(tab.page.get_by_role("status").filter(has_text="asking")).to_have_text(said)
    tab.open_bench()
    expect(tab.page.locator("#messages")).to_contain_text(
        "closed, 1001 the server restarts; connect again"
    )
    own.has({"b": TWO["b"], "c": {"command": "comes meanwhile"}})
    expect(tab.row("a")).to_have_class(re.compile("gone"))
    tab.shows("stays", "comes meanwhile")
    expect(tab.page.locator("#request")).to_contain_text("If-None-Match")
    with tab.page.expect_response(lambda response: response.status == 304):
        pass
    own.has({"c": {"command": "comes meanwhile"}})
    button = tab.page.get_by_role("button", name="Try now")
    button.focus()
    own.service.start_live()
    with suppress(Error):  # it may have tried by itself meanwhile
        button.click(timeout=1000)
    expect(tab.connection).to_have_text("live")
    expect(tab.connection).to_be_focused()  # the button that had the focus has gone
    tab.shows("comes meanwhile")
    own.has({"c": {"command": "comes meanwhile", "clients": 1}})
    expect(tab.rows.locator(".state")).to_have_text("connected")


def test_it_comes_back_by_itself_after_an_outage_of_everything(tab: Tab, own: User) -> None:
    own.has(TWO)
    tab.open(own)
    tab.shows("ends meanwhile", "stays")
    end(own.service.running["list"])
    end(own.service.running["live"])
    expect(tab.connection).to_have_text(re.compile(r"^offline; next attempt in \d+ s$"))
    expect(tab.page.locator("#bar")).to_contain_text("the list cannot be reached")
    tab.shows("ends meanwhile", "stays")
    own.has({"b": {"command": "stays", "clients": 2}})
    own.service.start_list()
    own.service.start_live()
    expect(tab.connection).to_have_text("live")
    tab.shows("stays")
    expect(tab.rows.locator(".state")).to_have_text("connected, 2 clients")
    expect(tab.page.get_by_role("button", name="Try now")).to_be_hidden()


def test_attempts_become_rarer_and_not_every_browser_makes_them_at_once(
    tab: Tab, alice: User
) -> None:
    tab.open(alice)
    browsers = tab.page.evaluate(
        "async () => { const { Backoff } = await import(new URL('static/live.js',"
        " document.baseURI)); const waits = () => { const backoff = new Backoff(); return"
        " Array.from({ length: 9 }, () => backoff.next()); }; return Array.from({ length: 30 },"
        " waits); }"
    )
    for attempt, middle in enumerate([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]):
        waits = [browser[attempt] for browser in browsers]
        assert (
            all(middle * 0.75 <= wait <= middle * 1.25 for wait in waits) and len(set(waits)) > 20
        )


def test_a_quiet_connection_is_looked_after_now_and_then(tab: Tab, alice: User) -> None:
    tab.page.clock.install()
    tab.open(alice)
    tab.page.clock.run_for(1000)
    with tab.page.expect_response(lambda response: response.status == 304):
        tab.page.clock.run_for(31_000)


def test_the_network_coming_back_is_reason_enough_to_try(tab: Tab, own: User) -> None:
    tab.page.clock.install()  # first, since all that the page measures is to be of one clock
    own.has(TWO)
    tab.open(own)
    tab.shows("ends meanwhile", "stays")
    end(own.service.running["live"])
    tab.page.context.set_offline(True)
    own.has({"b": TWO["b"]})
    own.service.start_live()
    # Nothing is under way, nor is about to be
    expect(tab.connection).to_have_text(re.compile(r"^offline; next attempt in ([3-9]|\d\d) s$"))
    # From here on no timer runs unless it is told to
    tab.page.clock.pause_at(tab.page.evaluate("Date.now() + 1000"))
    tab.page.context.set_offline(False)
    tab.page.clock.run_for(500)
    expect(tab.connection).to_have_text("live")
    tab.page.clock.run_for(500)
    tab.shows("stays")


def test_a_list_that_cannot_read_its_store_says_how_old_it_is(tab: Tab, own: User) -> None:
    own.has(TWO)
    tab.open(own)
    tab.shows("ends meanwhile", "stays")
    tab.page.get_by_role("columnheader", name="State").get_by_role("button").click()
    database, away = own.service.state / "sessions.db", own.service.state / "away"
    away.mkdir()
    exchange(database, away)
    warning = tab.page.get_by_text(
        re.compile(
            r"^As of \d.*: the store is not up to date, or cannot be read; this is its last known"
        )
    )
    tab.page.get_by_role("columnheader", name="Mode").get_by_role("button").click()
    expect(warning).to_be_visible()
    tab.shows("ends meanwhile", "stays")
    exchange(database, away)
    own.has({"b": TWO["b"]})
    tab.shows("stays")
    expect(warning).to_be_hidden(timeout=15_000)


def test_after_an_outage_the_websocket_is_made_anew(tab: Tab, alice: User) -> None:
    tab.open(alice)
    tab.page.route(re.compile("/api/list/"), lambda route: route.abort())
    alice.has(TWO)
    expect(tab.connection).to_have_text(re.compile("^offline"))
    # The old one looks fine, but a cut cable would leave it so, too
    with tab.page.expect_websocket():
        tab.page.unroute_all()
    tab.shows("ends meanwhile", "stays")


def test_nothing_is_asked_while_nobody_looks(tab: Tab, alice: User) -> None:
    alice.has(TWO)
    tab.open(alice)
    tab.shows("ends meanwhile", "stays")
    tab.open_bench()
    # Until what opening it asks for has been asked
    tab.page.evaluate("() => new Promise((done) => setTimeout(done, 600))")
    hide = (
        "(hidden) => { Object.defineProperty(document, 'hidden', { configurable: true, value:"
        " hidden });"
    )
    tab.page.evaluate(hide + "document.dispatchEvent(new Event('visibilitychange')); }", True)
    asked = len(tab.requests)
    alice.has({"b": TWO["b"]})
    expect(tab.page.locator("#messages")).to_contain_text('"data":null')
    # Twice as long as it would have waited
    tab.page.evaluate("() => new Promise((done) => setTimeout(done, 600))")
    assert len(tab.requests) == asked
    tab.page.evaluate(hide + "document.dispatchEvent(new Event('visibilitychange')); }", False)
    tab.shows("stays")


def test_an_answer_of_something_else_is_no_list(tab: Tab, alice: User) -> None:
    alice.has(TWO)
    tab.open(alice)
    page = {"status": 502, "body": "<h1>Bad gateway</h1>", "content_type": "text/html"}
    tab.page.route(re.compile("/api/list/"), lambda route: route.fulfill(**page))
    alice.has({"b": TWO["b"]})
    expect(tab.connection).to_have_text(re.compile("^offline; next attempt in"))
    expect(tab.page.locator("#bar")).to_contain_text("the answer has status 502")
    tab.open_bench()
    expect(tab.page.locator("#response")).to_have_text("<h1>Bad gateway</h1>")
    tab.page.unroute_all()
    expect(tab.connection).to_have_text("live")
    tab.shows("stays")


def test_many_changes_make_few_requests(tab: Tab, alice: User) -> None:
    with tab.page.expect_websocket() as caught:
        tab.open(alice)
    messages: list[str] = []
    caught.value.on("framereceived", lambda text: messages.append(str(text)))
    begun, asked = time.monotonic(), len(tab.requests)
    for number in count():
        alice.has({"a": {"command": f"change {number}"}})
        tab.page.evaluate("0")  # lets what has come in be noted
        if len(messages) > 50:
            break
    tab.shows(f"change {number}")
    assert len(tab.requests) - asked <= 4 * (time.monotonic() - begun) + 2


def test_answers_in_an_envelope_are_understood(tab: Tab, own: User) -> None:
    end(own.service.running["list"])
    own.service.environ["FASTX_LIST_RESULT_ENVELOPE"] = "true"
    own.service.start_list()
    del own.service.environ["FASTX_LIST_RESULT_ENVELOPE"]
    own.has(TWO)
    tab.open(own)
    tab.shows("ends meanwhile", "stays")
    tab.open_bench()
    tab.page.get_by_label("POST JSON").check()
    expect(tab.page.locator("#response")).to_contain_text('"result": [')
    end(own.service.running["list"])


LONG = """(url) => new Promise((resolve) => {
    const socket = new WebSocket(url), ids = new Set();
    socket.onmessage = (event) => {
        ids.add(JSON.parse(event.data).id);
        if (ids.size === %d) resolve(socket.extensions);
    };
})"""


def test_a_browser_inflates_a_long_snapshot(tab: Tab, alice: User) -> None:
    alice.has({f"s{number}": {"display": number} for number in range(2 * AT_ONCE)})
    tab.open(alice)
    url = f"{alice.service.live_url}?token={alice.token()}"
    extensions = tab.page.evaluate(LONG % (2 * AT_ONCE), url)
    assert extensions == "permessage-deflate; client_no_context_takeover"


@pytest.mark.parametrize("script", ["page.js", "words.js"])
def test_a_page_without_one_of_its_scripts_says_so_and_can_be_loaded_again(
    tab: Tab, alice: User, script: str
) -> None:
    alice.has(TWO)
    tab.page.route(re.compile(f"/static/{script}"), lambda route: route.abort())
    tab.page.goto(f"{alice.service.url}/#token={alice.token()}")
    expect(tab.connection).to_have_text("failed to load")
    tab.page.unroute_all()
    tab.reload.click()
    expect(tab.connection).to_have_text("live")
    tab.shows("ends meanwhile", "stays")
    expect(tab.reload).to_be_hidden()
