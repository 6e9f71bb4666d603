"""The page of a portal of another origin, in a browser."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import jwt
import pytest
from playwright.sync_api import Browser, expect

from fastx_list.store import Store
from tests.portal.programs import NIGHT, OTHERS, Observe, desktop, programs
from tests.support import Service, end


@pytest.fixture
def website(listing: Service, portal_port: int) -> Iterator[list[str]]:
    """A portal of another origin: it serves the page, and at ``/token`` the last token in a list,
    which is returned."""
    page = programs()["live.html"]
    for address, own in (
        ("http://127.0.0.1:8000", listing.url),
        ("ws://127.0.0.1:8001/api/list", listing.live_url),
    ):
        assert page.count(address) == 1
        page = page.replace(address, own)
    tokens: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {"/": page, "/token": tokens[-1] if tokens else None}
            body = known.get(self.path)
            self.send_response(200 if body else 401)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", portal_port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield tokens
        server.shutdown()
        thread.join()


def test_the_browser_follows_until_the_user_logs_out(
    browser: Browser,
    website: list[str],
    portal_port: int,
    listing: Service,
    observe: Observe,
    store: Store,
) -> None:
    observe(
        NIGHT[0],
        desktop("hostile", 7, command="<img src=x onerror=document.title='taken'>"),
        *OTHERS,
    )
    website.append(listing.token("alice"))
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"http://localhost:{portal_port}/")
    shown = expect(page.locator("#list li"))
    shown.to_have_text(
        [
            "<img src=x onerror=document.title='taken'>, 800x600, 0 clients",
            "startxfce4, 800x600, 0 clients",
        ]
    )
    assert page.title() == "My sessions"
    observe(desktop("night1", 1, clients=1), *OTHERS)
    shown.to_have_text(["startxfce4, 800x600, 1 clients"])
    end(listing.running["live"])
    expect(page.locator("#state")).to_have_text("connecting again …")
    observe()
    listing.start_live()
    expect(page.locator("#state")).to_have_text("live", timeout=20_000)
    shown.to_have_count(0)
    revoked = jwt.decode(website[-1], options={"verify_signature": False})
    store.revoke({revoked["jti"]: revoked["exp"]})
    refused = "Not up to date: token: it has been revoked; get a new one"
    expect(page.locator("#state")).to_have_text(refused, timeout=20_000)
    website.clear()
    expect(page.locator("#state")).to_have_text("Please log in again.", timeout=20_000)
    page.close()
    assert complaints == []
