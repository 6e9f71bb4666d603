"""The bench: the request as it is sent, its response, and the WebSocket's messages."""

from __future__ import annotations

import json
import re
import subprocess
from urllib.parse import parse_qsl, urlencode

import pytest
from playwright.sync_api import Page, Request, WebSocket, expect
from websockets.sync.client import connect

from tests.page.conftest import Tab, User
from tests.support import fetch, program

TWO = {
    "a": {"command": "xterm", "started": 1, "clients": 0},
    "b": {"command": "it's", "started": 2, "clients": 1},
}
METHODS = ["GET", "POST form", "POST JSON"]


def clipboard(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def shown(page: Page) -> str:
    return page.locator("#request").inner_text()


def text_of(request: Request, token: str) -> str:
    """What the bench is to show of ``request``."""
    sent = [(name, request.headers.get(name.lower())) for name in ("Content-Type", "If-None-Match")]
    lines = [
        f"{request.method} {request.url}",
        *(f"{name}: {value}" for name, value in sent if value),
    ]
    return "\n".join(
        [*lines, *(["", request.post_data] if request.post_data is not None else [])]
    ).replace(token, "$TOKEN")


@pytest.fixture(autouse=True)
def _may_use_the_clipboard(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])


def test_each_method_sends_what_it_shows_and_all_answer_alike(tab: Tab, alice: User) -> None:
    alice.has({**TWO, "c": {"command": "Größe & 100 % + \"'", "started": 3, "clients": 1}})
    token = alice.token()
    filters = ["clients==0,1", "command==xterm,it's,Größe & 100 % + \"'"]
    asked = [("sortBy", "clients"), ("sortReverse", "true"), ("start", "0"), ("limit", "2")]
    asked += [("filter", text) for text in filters]
    tab.page.goto(f"{alice.service.url}/#token={token}&{urlencode(asked)}")
    tab.shows("it's", "Größe & 100 % + \"'")
    tab.open_bench()
    bodies = []
    for label in METHODS:
        with tab.page.expect_response(
            lambda response: "if-none-match" not in response.request.headers
        ) as caught:
            if label == "GET":
                tab.page.get_by_role("button", name="Send").click()
            else:
                tab.page.get_by_label(label, exact=True).check()
        response = caught.value
        expect(tab.page.locator("#status")).to_contain_text("200 OK")
        assert shown(tab.page) == text_of(response.request, token)
        assert response.headers["x-total-count"] == "3"
        bodies.append(response.body())
        tab.shows("it's", "Größe & 100 % + \"'")
    assert bodies[0] == bodies[1] == bodies[2]
    get, form, sent = (request.partition("\n") for request in tab.requests[-3:])
    assert (
        get[0].startswith("GET /api/list/TOKEN?") and parse_qsl(get[0].partition("?")[2]) == asked
    )
    assert form[0] == sent[0] == "POST /api/list/TOKEN"
    assert parse_qsl(form[2]) == asked
    assert json.loads(sent[2]) == {
        "sortBy": "clients",
        "sortReverse": True,
        "start": 0,
        "limit": 2,
        "filter": filters,
    }


@pytest.mark.parametrize("label", METHODS)
def test_a_copied_command_runs_and_gets_the_same(tab: Tab, alice: User, label: str) -> None:
    program("curl", "curl")
    hostile = "$(echo no) `echo no` ! \\ \x9b ü"
    alice.has({**TWO, "c": {"command": hostile, "clients": 0}})
    tab.open(
        alice, "&" + urlencode({"sortBy": "command", "filter": f"command==xterm,it's,{hostile}"})
    )
    expect(tab.rows).to_have_count(3)
    tab.open_bench()
    tab.page.get_by_label(label, exact=True).check()
    expect(tab.page.locator("#request")).to_contain_text(label.partition(" ")[0])
    tab.page.get_by_role("button", name="Copy as curl").click()
    expect(tab.page.get_by_text("Copied, with your token in it.")).to_be_visible()
    command = clipboard(tab.page)
    assert command.startswith("curl ") and command.isprintable()
    answer = subprocess.run(
        ["sh", "-c", f"{command} -sS"], capture_output=True, check=True, timeout=30
    ).stdout
    assert json.loads(answer) == json.loads(tab.page.locator("#response").inner_text())
    assert [session["command"][:4] for session in json.loads(answer)] == ["$(ec", "it's", "xter"]


def test_a_copied_url_is_the_same_question(tab: Tab, alice: User) -> None:
    alice.has(TWO)
    tab.open(alice, "&filter=clients%3D%3D1")
    tab.shows("it's")
    tab.open_bench()
    tab.page.get_by_label("POST JSON").check()
    expect(tab.page.locator("#request")).to_contain_text("application/json")
    tab.page.get_by_role("button", name="Copy URL").first.click()
    expect(tab.page.get_by_text("Copied, with your token in it.")).to_be_visible()
    assert fetch(clipboard(tab.page)).json[0]["command"] == "it's"


def test_a_copied_websocket_address_is_the_one_that_is_followed(tab: Tab, alice: User) -> None:
    with tab.page.expect_websocket() as caught:
        tab.open(alice, "&filter=clients%3D%3D1")
    tab.open_bench()
    tab.page.get_by_role("region", name="WebSocket").get_by_role("button", name="Copy URL").click()
    expect(tab.page.get_by_text("Copied, with your token in it.")).to_be_visible()
    assert clipboard(tab.page) == caught.value.url
    expect(tab.page.locator("#address")).to_have_text(
        re.sub("token=[^&]*", "token=$TOKEN", caught.value.url)
    )
    with connect(clipboard(tab.page)) as connection:
        alice.has(TWO)
        assert json.loads(connection.recv(timeout=20))["data"]["command"] == "it's"


def test_copying_works_where_there_is_no_clipboard_interface(tab: Tab, alice: User) -> None:
    # As on a page without TLS
    tab.page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    tab.open(alice)
    tab.open_bench()
    tab.page.get_by_role("button", name="Copy URL").first.click()
    expect(tab.page.get_by_role("button", name="Copy URL").first).to_be_focused()
    field = tab.search
    field.focus()
    tab.page.keyboard.press("Control+V")
    expect(field).to_have_value(
        re.compile(r"http://127\.0\.0\.1:\d+/api/list/ey.*\?sortReverse=true&limit=50")
    )


def test_the_token_is_on_no_screen(tab: Tab, alice: User) -> None:
    alice.has({"a": {"command": "xterm"}})
    token = alice.token()
    tab.page.goto(f"{alice.service.url}/#token={token}")
    tab.shows("xterm")
    tab.open_bench()
    expect(tab.page.locator("#request")).to_contain_text("/api/list/$TOKEN")
    alice.has({"a": {"command": token}})  # even if somebody is careless with it
    expect(tab.page.locator("#response")).to_contain_text('"command": "$TOKEN"')
    expect(tab.page.locator("#messages")).to_contain_text("$TOKEN")
    tab.page.locator("#messages summary").first.click()
    assert token not in tab.page.locator("#bench").inner_text()


def test_every_parameter_can_be_tried(tab: Tab, alice: User) -> None:
    alice.has(TWO)
    tab.open(alice)
    tab.open_bench()
    bench = tab.page.get_by_role("region", name="Request", exact=True)
    for label, value in {"sortBy": "command", "start": "1", "limit": "5"}.items():
        bench.get_by_label(label, exact=True).fill(value)
    bench.get_by_label("sortReverse").check()
    bench.get_by_role("button", name="Send").click()
    tab.shows("it's")
    assert tab.requests[-1] == "GET /api/list/TOKEN?sortBy=command&sortReverse=true&start=1&limit=5"
    expect(tab.page.get_by_label("Rows")).to_have_value("5")
    for method in METHODS:
        bench.get_by_label(method, exact=True).check()
        bench.get_by_label("limit").fill("-1")
        bench.get_by_role("button", name="Send").click()
        expect(tab.page.locator("#status")).to_contain_text("400")
        expect(tab.page.locator("#response")).to_contain_text('"limit: takes a whole number')
        bench.get_by_label("limit").fill("")
        bench.get_by_role("button", name="Send").click()
        tab.shows("it's")
        expect(tab.page.get_by_label("Rows")).to_have_value("")


def test_what_is_too_long_for_an_address_goes_into_a_body(tab: Tab, alice: User) -> None:
    alice.has({**TWO, "c": {"command": "ü" * 1900, "started": 3}})
    tab.open(alice)
    tab.filter("command", "xterm," + "ü" * 1900)
    expect(tab.page.get_by_role("alert").filter(has_text="The list refused this")).to_be_visible()
    tab.open_bench()
    tab.page.get_by_label("POST JSON").check()
    expect(tab.rows).to_have_count(2)
    alice.has({"c": {"command": "ü" * 1900, "started": 3, "clients": 7}})
    expect(tab.rows).to_have_count(1)
    expect(tab.rows.locator(".state")).to_have_text("connected, 7 clients")
    expect(tab.connection).to_have_text("live")


def test_the_description_of_the_api_is_at_hand(tab: Tab, alice: User) -> None:
    tab.open(alice)
    tab.open_bench()
    tab.page.get_by_role("link", name="described").click()
    expect(tab.page.get_by_role("heading", name="The API of fastx-list")).to_be_visible()
    tab.page.go_back()
    expect(tab.connection).to_have_text("live")


def test_the_response_is_whole(tab: Tab, alice: User) -> None:
    alice.has(TWO)
    with tab.page.expect_response(re.compile("/api/list/")) as caught:
        tab.open(alice)
    tab.open_bench()
    response = caught.value
    size = f"{len(response.body()):,} bytes"
    # The second if it has asked again
    said = rf"^(200 OK · [\d,]+ ms · {size}|304 NOT MODIFIED · [\d,]+ ms · 0 bytes)$"
    expect(tab.page.locator("#status")).to_have_text(re.compile(said))
    headers = tab.page.locator("#headers").inner_text()
    assert f"ETag: {response.headers['etag']}" in headers and "X-Total-Count: 2" in headers
    assert json.loads(tab.page.locator("#response").inner_text()) == response.json()
    # Without a condition, so that there is a body to see
    tab.page.get_by_role("button", name="Send").click()
    expect(tab.page.locator("#status")).to_contain_text("200 OK")
    expect(tab.page.locator("#request")).not_to_contain_text("If-None-Match")


def test_a_long_response_is_cut_and_says_so(tab: Tab, alice: User) -> None:
    alice.has({str(number): {"command": "x" * 1000, "started": number} for number in range(300)})
    tab.open(alice, "&limit=1000")
    expect(tab.rows).to_have_count(300)
    tab.open_bench()
    expect(
        tab.page.get_by_text(re.compile(r"The first 100,000 of [\d,]+ characters are shown\."))
    ).to_be_visible()
    tab.page.wait_for_function(
        "() => document.getElementById('response').textContent.length === 100_000"
    )
    tab.filter("started", "7")
    expect(tab.rows).to_have_count(1)
    expect(tab.page.get_by_text("characters are shown")).to_be_hidden()


def test_messages_are_shown_as_they_come(tab: Tab, alice: User) -> None:
    received: list[str] = []

    def listen(socket: WebSocket) -> None:
        socket.on("framereceived", lambda text: received.append(str(text)))

    tab.page.on("websocket", listen)
    tab.open(alice)
    tab.open_bench()
    messages = tab.page.get_by_role("list", name="Messages, newest first").get_by_role("listitem")
    expect(messages).to_have_text([re.compile("open")])
    alice.has(TWO)
    expect(messages).to_have_count(3)
    alice.has({"a": TWO["a"]})
    expect(messages.first).to_contain_text(f'{{"id":"{alice.login}-b","data":null}}')
    expect(tab.page.locator("#count")).to_have_text("3 messages")
    messages.nth(1).locator("summary").click()
    assert json.loads(messages.nth(1).locator("pre").inner_text()) in [
        json.loads(text) for text in received
    ]


def test_messages_pause_go_on_and_are_cleared(tab: Tab, alice: User) -> None:
    tab.open(alice)
    tab.open_bench()
    messages = tab.page.locator("#messages li")
    expect(messages).to_have_count(1)
    pause = tab.page.get_by_role("button", name="Pause")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")
    alice.has(TWO)
    tab.shows("it's", "xterm")
    expect(messages).to_have_count(1)
    pause.click()
    expect(messages).to_have_count(3)
    tab.page.get_by_role("button", name="Clear", exact=True).click()
    expect(messages).to_have_count(0)
    expect(tab.page.locator("#count")).to_have_text("0 messages")
    alice.has()
    expect(messages).to_have_count(2)


def test_only_the_newest_messages_are_kept(tab: Tab, alice: User) -> None:
    tab.open(alice)
    alice.has({f"{number:03}": {"command": "x"} for number in range(300)})
    expect(tab.rows).to_have_count(50)
    tab.open_bench()
    expect(tab.page.locator("#messages li")).to_have_count(200)
    expect(tab.page.locator("#count")).to_have_text("300 messages")
    alice.has({f"{number:03}": {"command": "x"} for number in range(299)})
    expect(tab.page.locator("#messages li").first).to_contain_text(
        f'"{alice.login}-299","data":null'
    )
    expect(tab.page.locator("#messages li")).to_have_count(200)
