"""The page that describes the API, in a browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.page.conftest import User
from tests.support import Service, fetch

PATH = os.environ["PATH"]


@pytest.fixture
def documents(running: Service) -> dict[str, Any]:
    return {name: fetch(f"{running.url}/api/{name}.json").json for name in ("openapi", "asyncapi")}


@pytest.fixture
def page(browser: Browser, running: Service) -> Iterator[Page]:
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
    page.goto(f"{running.url}/docs")
    yield page
    context.close()
    assert complaints == []
    assert set(asked) == {urlsplit(running.url).netloc}


def test_the_page_tells_all_that_the_documents_tell(page: Page, documents: dict[str, Any]) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    text = page.inner_text("main")
    http, live = documents["openapi"], documents["asyncapi"]
    for path, operations in http["paths"].items():
        for method, operation in operations.items():
            assert page.locator(f"#{operation['operationId']}").count() == 1
            heading = page.locator("h3", has_text=path.removesuffix("/{token}")).first
            assert method.upper() in heading.inner_text()
            group = page.locator("section", has=page.locator(f"#group-{operation['tags'][0]}"))
            for status in operation["responses"]:
                assert group.get_by_role("rowheader", name=status, exact=True).count() >= 1
    for schema in http["components"]["schemas"].values():
        for name, member in schema["properties"].items():
            assert name in text and member.get("description", "") in text
    for channel in live["channels"].values():
        for code, meaning in channel["x-close-codes"].items():
            assert code in text and meaning in text
        assert all(name in text for name in channel["bindings"]["ws"]["query"]["properties"])


def test_the_page_is_short_until_somebody_wants_to_know_more(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    assert page.evaluate("document.documentElement.scrollHeight") < 8000


def test_each_example_runs_as_it_stands(page: Page, alice: User) -> None:
    alice.has({"thesis": {}})
    environ = {"LIST": alice.service.url, "TOKEN": alice.token(admin=True), "PATH": PATH}
    for example in page.locator("main section pre", has_text="curl").all():
        command = re.sub('(?<="id":")[^"]*', f"{alice.login}-thesis", example.inner_text())
        done = subprocess.run(
            ["sh", "-c", f"{command} -fsS"], env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stderr)
        assert json.loads(done.stdout) is not None


def test_the_page_can_be_read_on_a_telephone_in_the_dark_and_by_all(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    colour = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(colour)
    assert Axe().run(page).violations_count == 0
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colour) != light
    assert Axe().run(page).violations_count == 0


def test_every_link_on_the_page_leads_somewhere(page: Page, running: Service) -> None:
    for target in page.eval_on_selector_all("a", "links => links.map(link => link.href)"):
        address, _, anchor = target.partition("#")
        assert fetch(address).status == 200
        if anchor:
            assert page.locator(f"[id='{anchor}']").count() == 1
