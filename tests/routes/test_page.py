"""The page, in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, expect

from tests.conftest import session
from tests.support import Service

Observe = Callable[..., None]


def test_it_loads_from_nowhere_else(client: FlaskClient) -> None:
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert b"http" not in answer.data.replace(b"http://www.w3.org", b"")
    for name in ("page.js", "page.css", "icon.svg"):
        with client.get(f"/static/{name}") as file:
            assert file.status_code == 200


@pytest.fixture
def served(service: Service) -> Service:
    service.environ |= {"FASTX_LIST_SERVER_ID": "here", "FASTX_LIST_LIVE_PORT": str(service.live_port)}
    service.start_list()
    service.start_live()
    return service


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; whatever it complains about fails the test."""
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if "Content Security Policy" in message.text else None)
    yield page
    context.close()
    assert complaints == []


def open_as(page: Page, served: Service, token: str) -> None:
    page.goto(f"{served.url}/#token={token}")


def names(page: Page) -> Any:
    return expect(page.locator("#rows tr td:first-child"))


def test_it_follows_the_list(page: Page, served: Service, observe: Observe) -> None:
    observe(session("a", started=1, command="xterm", clients=1), session("b", "bob", command="of bob"))
    open_as(page, served, served.token("alice"))
    expect(page.locator("#connection")).to_have_text("live")
    names(page).to_have_text(["xterm"])
    observe(session("a", started=1, command="xterm", clients=0), session("c", started=2, params={"name": "Thesis"}))
    names(page).to_have_text(["xterm", "Thesis"])
    expect(page.locator("#rows tr").first).to_contain_text("never connected")
    observe(session("c", started=2))
    names(page).to_have_text(["Thesis"])
    observe()
    expect(page.locator("#empty")).to_be_visible()


def test_the_token_leaves_the_address_and_can_be_forgotten(page: Page, served: Service, observe: Observe) -> None:
    token = served.token("alice")
    open_as(page, served, token)
    expect(page.locator("#connection")).to_have_text("live")
    assert page.url == f"{served.url}/"
    page.get_by_role("button", name="Forget token").click()
    expect(page.get_by_label("Your token")).to_be_focused()
    assert page.evaluate("JSON.stringify(sessionStorage) + JSON.stringify(localStorage)") == "{}{}"
    page.get_by_label("Your token").fill(token)
    page.keyboard.press("Enter")
    expect(page.locator("#connection")).to_have_text("live")


def test_it_asks_for_a_token_and_says_why_one_is_refused(page: Page, served: Service) -> None:
    page.goto(served.url)
    expect(page.get_by_label("Your token")).to_be_visible()
    secret = (served.state / "secret").read_text().strip()
    page.get_by_label("Your token").fill(jwt.encode({"sub": "alice", "aud": "api", "exp": 1}, secret))
    page.keyboard.press("Enter")
    expect(page.locator("#connection")).to_have_text("token: it has expired; get a new one")
    open_as(page, served, served.token("alice", ttl=3))
    page.reload()
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#connection")).to_have_text("the token has expired", timeout=15_000)


def test_hostile_names_stay_text(page: Page, served: Service, observe: Observe) -> None:
    hostile = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>\u202e"
    observe(session("a", command=hostile), session("b", params={"name": "x" * 8000}))
    open_as(page, served, served.token("alice"))
    names(page).to_have_count(2)
    assert hostile in page.locator("#rows").all_inner_texts()[0]
    assert page.title() == "Sessions – fastx-list"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_is_right_again_after_an_outage(page: Page, served: Service, observe: Observe) -> None:
    observe(session("a", command="ends meanwhile"), session("b", command="stays"))
    open_as(page, served, served.token("alice"))
    names(page).to_have_text(["ends meanwhile", "stays"])
    served.running["live"].terminate()
    expect(page.locator("#connection")).to_contain_text("next attempt in")
    served.running["live"].wait()
    observe(session("b", command="stays"))
    served.start_live()
    expect(page.locator("#connection")).to_have_text("live", timeout=20_000)
    names(page).to_have_text(["stays"])
