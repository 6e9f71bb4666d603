"""What comes through nginx: the list, its WebSockets, its page, and that of several sidecars."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import session
from tests.support import end, wait_for
from tests.system.behind_nginx.common import Observe, Token
from tests.system.feed import Feed
from tests.system.nginx_site import Site
from tests.system.traffic import follow

SIDECAR = "server unix:/run/fastx-list/live.sock max_fails=0;"


def test_nginx_takes_the_shipped_files_without_a_warning(site: Site) -> None:
    done = subprocess.run(site.command("-t"), capture_output=True, text=True, check=True)
    assert "[warn]" not in done.stderr, done.stderr


def test_the_list_is_there_over_http_1_and_2_and_below_a_path(
    site: Site, token: Token, observe: Observe
) -> None:
    observe(session("a", command="xterm"))
    mine = token()
    for url in (site.url, site.portal_url):
        for version in ("1.1", "2"):
            question = f"{url}/api/list/{mine}?limit=5&filter=command%3D%3Dxterm"
            body, said = site.curl(
                f"--http{version}", question, "-w", "\n%{http_code} %{http_version}"
            ).rsplit("\n", 1)
            assert said == f"200 {version}" and [each["id"] for each in json.loads(body)] == ["a"]
    assert site.ask("/", port=site.portal_port).body == b"the portal"
    assert site.ask("/fastx", port=site.portal_port).headers["Location"] == "/fastx/"
    answer = site.send(
        b"GET /api/list?x HTTP/1.1\r\nHost: localhost\r\n\r\n", port=site.plain_port, tls=False
    )
    assert answer.status == 308 and answer.headers["Location"] == "https://localhost/api/list?x"


def test_who_makes_certificates_finds_over_plain_http_what_it_asks_for(site: Site) -> None:
    """RFC 8555 section 8.3."""
    asked = site.place / "html/.well-known/acme-challenge"
    asked.mkdir(parents=True)
    (asked / "a-challenge").write_text("its answer", "ascii")
    for name, status, text in (("a-challenge", 200, b"its answer"), ("another", 404, b"")):
        question = f"GET /.well-known/acme-challenge/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answer = site.send(question.encode(), port=site.plain_port, tls=False)
        assert answer.status == status and text in answer.body


def test_the_history_is_there_and_the_metrics_are_not(
    site: Site, token: Token, observe: Observe
) -> None:
    observe(session("a"))
    observe()
    mine = token()
    assert [each["id"] for each in site.ask(f"/api/history/{mine}").json] == ["a"]
    assert {each["session"] for each in site.ask(f"/api/events/{mine}").json} == {"a"}
    for address in ("/metrics", "/metrics/", "//metrics", "/%6detrics"):
        assert site.ask(address).status == 404


def test_params_are_set_and_arrive_over_the_websocket(
    site: Site, token: Token, observe: Observe
) -> None:
    observe(session("a"))
    mine = token()
    body = json.dumps({"id": "a", "params": {"name": "Thesis", "long": "x" * 7000}})
    with follow(site, mine) as connection, follow(site, mine, site.portal_live_url) as below:
        feed, other = Feed(connection), Feed(below)
        feed.one(params={})
        for version in ("1.1", "2"):
            sent = [
                "-H",
                "Content-Type: application/json",
                "-d",
                body,
                f"{site.url}/api/params/{mine}",
            ]
            assert json.loads(site.curl(f"--http{version}", *sent))["params"]["name"] == "Thesis"
        assert feed.one(params={"name": "Thesis", "long": "x" * 7000}) == other.one(
            params={"name": "Thesis", "long": "x" * 7000}
        )
        assert [each.name for each in connection.extensions] == ["permessage-deflate"]
    with follow(
        site, token("root", admin=True), site.live_url.replace("api/list", "api/admin/session")
    ) as connection:
        everybody = Feed(connection)  # whatever else there is on this machine

        def alice_is_there() -> bool:
            everybody.take()
            return "a" in everybody.state

        wait_for("the session of alice", alice_is_there)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(ignore_https_errors=True)  # the certificate is the test's own
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text) if "Content Security Policy" in message.text else None
        ),
    )
    yield page
    context.close()
    assert complaints == []


def test_the_page_is_live_below_a_path(
    site: Site, page: Page, token: Token, observe: Observe
) -> None:
    page.goto(f"{site.portal_url}/#token={token()}")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    observe(session("a", command="xterm"))
    expect(page.locator("#rows")).to_contain_text("xterm")
    assert page.url == f"{site.portal_url}/"


def test_the_page_is_live_and_says_when_the_sidecar_is_away(
    site: Site, page: Page, token: Token, observe: Observe
) -> None:
    page.goto(f"{site.url}/#token={token()}")
    connection, rows = page.locator("#connection"), expect(page.locator("#rows"))
    expect(connection).to_have_attribute("data-state", "live")
    observe(session("a", command="xterm"))
    rows.to_contain_text("xterm")
    end(site.service.running["live"])
    expect(connection).not_to_have_attribute("data-state", "live")
    observe(session("b", command="came while it was away"))
    site.start("live")
    expect(connection).to_have_attribute("data-state", "live", timeout=30_000)
    rows.to_contain_text("came while it was away")
    rows.not_to_contain_text("xterm")
    observe()
    rows.not_to_contain_text("came")


def test_two_sidecars_share_the_work(site: Site, token: Token, observe: Observe) -> None:
    mine = token()
    site.listen("live-2")
    site.start("live", "live-2")
    site.await_up("live-2")
    site.reload(**{SIDECAR: f"{SIDECAR} {SIDECAR.replace('live.sock', 'live-2.sock')}"})
    try:
        with ExitStack() as stack:
            feeds = [Feed(stack.enter_context(follow(site, mine))) for _ in range(6)]
            observe(session("a"))
            for feed in feeds:
                feed.one(id="a")
        end(site.service.running["live"])
        site.close("live")
        several(site, mine)  # the second alone
        site.listen("live")
        site.start("live")
        site.await_up("live")
        end(site.service.running["live-2"])
        site.close("live-2")
        several(site, mine)  # the first alone
    finally:
        site.reload()


def several(site: Site, token: str) -> None:
    for _ in range(6):
        with follow(site, token) as connection:
            Feed(connection).one(id="a")
