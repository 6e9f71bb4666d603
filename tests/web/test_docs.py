"""The API's documents to read: the page, and what is served beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page

from fastx_list import create_app
from tests.answers import content
from tests.support import Service, fetch


def test_the_documents_hold_nothing_of_this_host(environ: dict[str, str], tmp_path: Path) -> None:
    answers = []
    for environment in (
        environ,
        {"FASTX_LIST_STATE_DIR": str(tmp_path / "other"), "FASTX_LIST_SERVER_ID": "elsewhere"},
    ):
        app = create_app(environment)
        client = app.test_client()
        answers.append(
            [
                client.get(
                    path, base_url=f"http://{environment['FASTX_LIST_SERVER_ID']}.example"
                ).data
                for path in ("/api/openapi.json", "/api/asyncapi.json", "/docs")
            ]
        )
        app.extensions["fastx-list"].store.close()
    assert answers[0] == answers[1]


def test_below_a_path_the_document_and_the_page_lead_there(environ: dict[str, str]) -> None:
    app = create_app({**environ, "FASTX_LIST_TRUSTED_PROXIES": "127.0.0.1"})
    client = app.test_client()
    headers = {"X-Forwarded-Prefix": "/fastx"}
    assert content(client.get("/api/openapi.json"))["servers"] == [{"url": "/"}]
    assert content(client.get("/api/openapi.json", headers=headers))["servers"] == [
        {"url": "/fastx"}
    ]
    page = client.get("/docs", headers=headers).text
    for address in (
        "/fastx/static/docs.css",
        "/fastx/api/openapi.json",
        "/fastx/api/asyncapi.json",
        "/fastx/",
    ):
        assert f'href="{address}"' in page
    app.extensions["fastx-list"].store.close()


def test_the_documents_cost_nothing_before_somebody_asks(environ: dict[str, str]) -> None:
    code = "import sys, fastx_list; fastx_list.create_app(); sys.exit('apispec' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code], env={**environ, "PYTHONPATH": ":".join(sys.path)}, check=True
    )


@pytest.fixture
def page(browser: Browser, served: Service) -> Iterator[Page]:
    """The page at the width of a telephone; whatever it complains about or loads from elsewhere
    fails the test."""
    context = browser.new_context(viewport={"width": 360, "height": 800})
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("request", lambda request: asked.append(urlsplit(request.url).netloc))
    page.goto(f"{served.url}/docs")
    yield page
    context.close()
    assert complaints == []
    assert set(asked) == {urlsplit(served.url).netloc}


def test_the_page_may_load_nothing_but_its_style(client: FlaskClient) -> None:
    answer = client.get("/docs")
    policy = answer.headers["Content-Security-Policy"]
    assert (
        "default-src 'none'" in policy
        and "script" not in policy
        and "connect" not in policy
        and "unsafe" not in policy
    )
    assert "<script" not in answer.text and " style=" not in answer.text


def test_the_page_tells_all_that_the_documents_tell(page: Page, documents: dict[str, Any]) -> None:
    text = page.inner_text("main")
    http, live = documents["openapi"], documents["asyncapi"]
    for path, operations in http["paths"].items():
        for method, operation in operations.items():
            section = page.locator(f"#{operation['operationId']}")
            assert section.get_by_role("heading").inner_text() == f"{method.upper()} {path}"
            for status in operation["responses"]:
                assert section.get_by_role("rowheader", name=status, exact=True).count() == 1
    for schema in http["components"]["schemas"].values():
        for name, member in schema["properties"].items():
            assert name in text and member.get("description", "") in text
    for channel in live["channels"].values():
        for code, meaning in channel["x-close-codes"].items():
            assert code in text and meaning in text
        assert all(name in text for name in channel["bindings"]["ws"]["query"]["properties"])


def test_the_page_can_be_read_on_a_telephone_in_the_dark_and_by_all(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    colour = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(colour)
    assert Axe().run(page).violations_count == 0
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colour) != light
    assert Axe().run(page).violations_count == 0


def test_every_link_on_the_page_leads_somewhere(page: Page, served: Service) -> None:
    for target in page.eval_on_selector_all("a", "links => links.map(link => link.href)"):
        address, _, anchor = target.partition("#")
        assert fetch(address).status == 200
        if anchor:
            assert page.locator(f"[id='{anchor}']").count() == 1
