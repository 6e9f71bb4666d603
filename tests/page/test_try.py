"""Requests and WebSockets that a tester puts together: each is kept with its answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Locator, expect

from tests.page.conftest import Tab, User
from tests.support import program

TWO = {"a": {"command": "xterm", "clients": 0}, "b": {"command": "it's", "clients": 1}}


def tried(tab: Tab) -> Locator:
    """Open the bench; return what is kept, the newest first."""
    tab.open_bench()
    return tab.page.locator("#tries > li")


def test_every_example_is_kept_with_its_answer(tab: Tab, alice: User) -> None:
    alice.has(TWO)
    token = alice.token()
    tab.page.goto(f"{alice.service.url}/#token={token}")
    kept = tried(tab)
    tab.page.get_by_role("button", name="Try every example").click()
    expect(kept.first).to_contain_text(re.compile("POST /api/params/.*400"))
    expect(kept.filter(has_text="401")).to_have_count(2)
    told = kept.all_inner_texts()
    for part in (
        r"sortBy=started&sortReverse=true&start=0&limit=10&filter=clients%3D%3D0%2C1 200",
        r"history/\$TOKEN\?format=csv&limit=10 200",
        r"limit=-1 400",
        r"sortby=started 400",
        r"since=yesterday 400",
        r"events/\$TOKEN\?since=2026-01-01&sortReverse=true&limit=10 200",
        r"events/\$TOKEN\?since=no\+such\+event 400",
        r"DELETE /api/list/\$TOKEN 405",
        r"/api/nothing/\$TOKEN 404",
    ):
        assert [text for text in told if re.search(part, text)], part
    kept.filter(has_text="limit=-1 400").first.locator("summary").click()
    expect(kept.filter(has_text="limit=-1 400").first).to_contain_text("takes a whole number")
    alice.has({"a": TWO["a"]})  # what the page asks by itself is not in the way
    tab.shows("xterm")
    expect(tab.connection).to_have_text("live")
    assert [text.split("\n")[0] for text in kept.all_inner_texts()] == [
        text.split("\n")[0] for text in told
    ]
    shown = tab.page.locator("#try").inner_text()
    assert token not in shown
    signature = token.rpartition(".")[2]
    assert signature not in shown[::-1] and signature[:12] not in shown
    tab.page.get_by_label("Example").select_option("Params call")
    tab.page.get_by_role("button", name="Try it", exact=True).click()
    expect(kept.first).to_contain_text("200 OK")
    tab.shows("Thesis")
    tab.page.get_by_role("button", name="Forget what was tried").click()
    expect(kept).to_have_count(0)


def test_what_is_put_together_is_sent_and_its_copies_do_the_same(
    tab: Tab, alice: User, tmp_path: Path
) -> None:
    hostile = '$(echo no) `echo no` it\'s \\ "x" ü \x9b'
    alice.has({"a": {"command": hostile}, "b": {"command": "xterm"}})
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.open(alice)
    kept, page = tried(tab), tab.page
    page.locator("#try-method").select_option("POST")
    page.get_by_label("The token stands").select_option("in Authorization")
    page.get_by_label("Query, a line each").fill("limit=5")
    page.get_by_label("Headers, a line each").fill("X-Note: it's\nAccept: application/json")
    page.get_by_label("Body as").select_option("JSON")
    page.locator("#try-body").fill(json.dumps({"filter": [f"command=={hostile}"]}))
    with page.expect_request("**/api/list?limit=5") as sent:
        page.get_by_role("button", name="Try it", exact=True).click()
    assert sent.value.headers["x-note"] == "it's"
    assert sent.value.headers["authorization"].startswith("Bearer ey")
    expect(kept.first).to_contain_text("200 OK")
    kept.first.locator("summary").click()
    answer = json.loads(kept.first.locator("pre").last.inner_text())
    assert [each["command"] for each in answer] == [hostile]
    for name, command in {
        "curl": ["sh", program("curl", "curl")],
        "wget": ["sh", program("wget", "wget")],
        "Python": [sys.executable],
        "JavaScript": [program("node", "nodejs")],
        "PHP": [program("php", "php-cli")],
    }.items():
        kept.first.get_by_role("button", name=f"Copy as {name}").click()
        file = tmp_path / name
        file.write_text(str(page.evaluate("navigator.clipboard.readText()")), encoding="utf-8")
        ran = subprocess.run([command[0], file], capture_output=True, check=True, timeout=60)
        assert json.loads(ran.stdout) == answer, name
    page.get_by_label("Address", exact=True).fill("http://192.0.2.1/")
    page.get_by_role("button", name="Try it", exact=True).click()
    expect(page.get_by_text("The token goes to this host alone.")).to_be_visible()
    expect(kept).to_have_count(1)


def test_a_websocket_is_connected_told_and_left(tab: Tab, alice: User) -> None:
    alice.has(TWO)
    tab.open(alice)
    kept, page = tried(tab), tab.page
    for label, value in {
        "snapshot": "1",
        "bookmarks": "1",
        "filter, a line each": "clients==1",
    }.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Connect", exact=True).click()
    messages = kept.first.locator(".messages li")
    expect(messages).to_have_count(2)
    expect(messages.first).to_contain_text('{"revision":')
    expect(messages.last).to_contain_text('"command":"it\'s"')
    revision = re.search('"revision": ?"(.*?)"', messages.first.inner_text())
    page.get_by_role("button", name="Disconnect").click()
    expect(kept.first.locator("summary")).to_contain_text(re.compile(r"closed, 100\d.* 2 messages"))
    assert revision
    page.get_by_label("since", exact=True).fill(revision[1])
    alice.has({**TWO, "c": {"command": "new", "clients": 1}})
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(kept).to_have_count(2)
    expect(kept.first).to_contain_text('"command":"new"')
    expect(kept.first).not_to_contain_text("it's")
    page.get_by_label("Its token").select_option("wrong")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(kept.first.locator("summary")).to_contain_text(re.compile("closed, "))
    expect(tab.connection).to_have_text("live")
