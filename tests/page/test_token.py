"""Whose page it is: where the token comes from, where it never stays, and what it lets be seen."""

from __future__ import annotations

import re

import jwt
from playwright.sync_api import Page, expect

from fastx_list.config import load
from fastx_list.tokens import Tokens
from tests.page.conftest import Tab, User


def stored(page: Page) -> str:
    return str(page.evaluate("JSON.stringify([sessionStorage, localStorage, document.cookie])"))


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your token").fill(text)
    page.keyboard.press("Enter")


def test_the_token_stays_in_neither_address_nor_history(tab: Tab, alice: User) -> None:
    alice.has({"a": {"command": "xterm"}})
    token = alice.token()
    tab.page.goto(f"{alice.service.url}/static/icon.svg")
    tab.page.goto(f"{alice.service.url}/#token={token}&limit=10")
    tab.shows("xterm")
    assert tab.page.url == f"{alice.service.url}/#limit=10"
    history = tab.page.context.new_cdp_session(tab.page).send("Page.getNavigationHistory")
    assert [entry["url"] for entry in history["entries"]][1:] == [
        f"{alice.service.url}/static/icon.svg",
        tab.page.url,
    ]
    tab.page.reload()
    tab.shows("xterm")


def test_a_new_token_in_an_open_tab_is_taken_over(tab: Tab, alice: User, bob: User) -> None:
    alice.has({"a": {"command": "of alice"}})
    bob.has({"b": {"command": "of bob"}})
    tab.open(alice)
    tab.shows("of alice")
    tab.page.evaluate(f"location.hash = '#token={bob.token()}'")
    tab.shows("of bob")
    expect(tab.page.locator("#who")).to_have_text(bob.login)
    assert tab.page.url == f"{alice.service.url}/"
    history = tab.page.context.new_cdp_session(tab.page).send("Page.getNavigationHistory")
    assert not [entry for entry in history["entries"] if "token" in entry["url"]]


def test_the_token_is_forgotten_on_request(tab: Tab, alice: User) -> None:
    alice.has({"a": {"command": "a secret name"}})
    token = alice.token()
    tab.page.goto(f"{alice.service.url}/#token={token}")
    tab.shows("a secret name")
    tab.open_bench()
    expect(tab.page.locator("#response")).to_contain_text("a secret name")
    tab.page.get_by_label("Example").select_option("Params call")
    expect(tab.page.locator("#try-body")).to_have_value(re.compile(alice.login))
    alice.has({"a": {"command": "a secret name", "clients": 1}})
    expect(tab.page.locator("#messages")).to_contain_text("a secret name")
    tab.page.get_by_role("button", name="Forget token").click()
    expect(tab.page.get_by_label("Your token")).to_be_focused()
    expect(tab.page.get_by_role("alert").first).to_have_text("The token is forgotten.")
    assert stored(tab.page) == '[{},{},""]'
    held = tab.page.content() + str(
        tab.page.evaluate(
            "[...document.querySelectorAll('input, textarea')].map(({ value }) => value)"
        )
    )
    assert "secret" not in held and token not in held and alice.login not in held
    asked = len(tab.requests)
    tab.page.reload()
    expect(tab.page.get_by_label("Your token")).to_be_visible()
    assert len(tab.requests) == asked


def test_a_token_is_asked_for(tab: Tab, alice: User) -> None:
    alice.has({"a": {"command": "xterm"}})
    tab.page.goto(alice.service.url)
    expect(tab.page.get_by_label("Your token")).to_be_focused()
    expect(tab.connection).to_have_text("not connected")
    ask(tab.page, f"  {alice.token()} ")
    tab.shows("xterm")
    tab.page.get_by_role("button", name="Forget token").click()
    ask(tab.page, f"{alice.service.url}/#token={alice.token()}")  # the whole link will do
    tab.shows("xterm")
    assert tab.page.url == f"{alice.service.url}/"


def test_a_link_holds_a_code_that_works_once(tab: Tab, alice: User) -> None:
    alice.has({"a": {"command": "xterm"}})
    code = Tokens(load(alice.service.environ)).issue_code(alice.login, 3600)
    tab.page.goto(f"{alice.service.url}/#code={code}&limit=10")
    tab.shows("xterm")
    assert tab.page.url == f"{alice.service.url}/#limit=10"
    assert code not in stored(tab.page)
    tab.page.reload()
    tab.shows("xterm")
    tab.page.get_by_role("button", name="Forget token").click()
    ask(tab.page, f"{alice.service.url}/#code={code}")
    expect(tab.page.get_by_role("alert").first).to_have_text(
        "code: it has been used; get a new link"
    )


def test_what_people_paste_is_taken(tab: Tab, alice: User) -> None:
    alice.has({"a": {"command": "xterm"}})
    token = alice.token()
    tab.page.goto(alice.service.url)
    for text in (
        f"Bearer {token}",
        f"Authorization: Bearer {token}",
        f"TOKEN='{token}'",
        f'"{token}"',
        f"curl https://list.example.org/api/list/{token}?limit=5",
        f"wss://list.example.org/api/list?token={token}&snapshot=0",
    ):
        ask(tab.page, text)
        tab.shows("xterm")
        tab.page.get_by_role("button", name="Forget token").click()
        expect(tab.page.get_by_label("Your token")).to_be_focused()
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    # As a terminal breaks it
    tab.page.evaluate(
        "(text) => navigator.clipboard.writeText(text)", f"TOKEN={token[:50]}\n  {token[50:]}\n"
    )
    tab.page.keyboard.press("Control+V")
    tab.page.keyboard.press("Enter")
    tab.shows("xterm")


def test_a_bad_token_is_said_to_be_one(tab: Tab, alice: User) -> None:
    tab.page.goto(alice.service.url)
    secret = (alice.service.state / "secret").read_text().strip()
    refused = {
        jwt.encode(
            {"sub": "alice", "aud": "api", "exp": 1}, secret
        ): "token: it has expired; get a new one",
        alice.token()[:-8] + "AAAAAAAA": "token: its signature is not of this server's key",
        "a.b.c": "token: it is not a well-formed JSON Web Token",
        "../x?y": "This is no token, which has three parts with dots between them.",
    }
    for token, reason in refused.items():
        ask(tab.page, token)
        expect(tab.page.get_by_role("alert").first).to_have_text(reason)
        expect(tab.page.get_by_label("Your token")).to_have_value("")
        assert stored(tab.page) == '[{},{},""]'


def test_a_token_that_is_revoked_says_so(tab: Tab, alice: User) -> None:
    token = alice.token()
    tab.page.goto(f"{alice.service.url}/#token={token}")
    expect(tab.connection).to_have_text("live")
    claims = jwt.decode(token, options={"verify_signature": False})
    alice.store.revoke({claims["jti"]: claims["exp"]})
    expect(tab.page.get_by_role("alert").first).to_have_text(re.compile("revoked"))


def test_an_administrator_sees_all_logins_and_a_user_their_own_only(
    tab: Tab, alice: User, bob: User
) -> None:
    alice.has({"a": {"command": "of alice", "started": 1}})
    bob.has({"b": {"command": "of bob", "started": 2}})
    tab.open(alice)
    tab.shows("of alice")
    expect(tab.page.get_by_role("columnheader", name="Login", exact=True)).to_have_count(0)
    expect(tab.page.locator("#who")).to_have_text(alice.login)
    bob.has({"b": {"command": "of bob", "started": 2, "clients": 1}})
    alice.has({"a": {"command": "of alice", "started": 1, "clients": 1}})
    expect(tab.rows.locator(".state")).to_have_text("connected")
    assert bob.login not in tab.page.content()
    tab.open(alice, "&sortReverse=false", admin=True)
    tab.shows("of alice", "of bob")
    expect(tab.rows.locator(".login")).to_have_text([alice.login, bob.login])
    expect(tab.page.locator("#who")).to_have_text(f"{alice.login}, administrator")
    expect(tab.page.get_by_role("table", name="Sessions of all logins")).to_be_visible()
    assert tab.requests[-1].startswith("GET /api/admin/session/TOKEN")
    bob.has({"b": {"command": "of bob", "started": 2, "clients": 2}})
    expect(tab.rows.last.locator(".state")).to_have_text("connected, 2 clients")
    tab.page.get_by_role("columnheader", name="Login", exact=True).get_by_role("button").click()
    tab.filter("login", bob.login)
    tab.shows("of bob")
    assert (
        tab.requests[-1]
        == f"GET /api/admin/session/TOKEN?sortBy=login&limit=50&filter=login%3D%3D{bob.login}"
    )
    bob.has()
    expect(tab.page.get_by_text("No session matches the filter.")).to_be_visible()
    alice.has()
    tab.page.get_by_role("button", name="Clear the filter").click()
    expect(tab.page.get_by_text("Nobody has a session now.")).to_be_visible()
    tab.open(bob)
    expect(tab.page.get_by_text("You have no session now.")).to_be_visible()


def test_a_claim_that_the_server_does_not_believe_gets_the_own_list(
    tab: Tab, alice: User, bob: User
) -> None:
    alice.has({"a": {"command": "of alice"}})
    bob.has({"b": {"command": "of bob"}})
    # Any but `true` is no administrator's for the server; the page is made to ask by answering as
    # for one who is none.
    tab.page.route(
        re.compile("/api/admin/session/"),
        lambda route: route.fulfill(status=403, json={"error": {"message": "no"}}),
    )
    tab.open(alice, admin=True)
    tab.shows("of alice")
    expect(tab.page.locator("#who")).to_have_text(alice.login)
    expect(tab.page.get_by_role("columnheader", name="Login", exact=True)).to_have_count(0)
