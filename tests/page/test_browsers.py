"""The page in Firefox and in WebKit: what is done most, once in each. All else is shown in
Chromium. Where they are not installed::

    apt-get install firefox-esr webkit2gtk-driver && python -m pytest tests/page/test_browsers.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fastx_list.config import load
from fastx_list.tokens import Tokens
from tests.page.conftest import User
from tests.page.drivers import Driver, firefox, webkit
from tests.support import Processes

Started = Callable[[Path, Processes], AbstractContextManager[Driver]]


@pytest.fixture(params=[firefox, webkit], ids=["Firefox", "WebKit"])
def browser_of_another_kind(
    request: pytest.FixtureRequest, tmp_path: Path, processes: Processes
) -> Iterator[Driver]:
    start: Started = request.param
    with start(tmp_path, processes) as driver:
        yield driver


def test_the_page_works_in_other_browsers(browser_of_another_kind: Driver, alice: User) -> None:
    page = browser_of_another_kind
    xterm = {"command": "xterm", "hostname": "node7", "clients": 1, "cpu": 12}
    alice.has({"a": xterm, "b": {"command": "emacs", "hostname": "node8"}})
    code = Tokens(load(alice.service.environ)).issue_code(alice.login, 3600)
    page.go(f"{alice.service.url}/#code={code}")
    page.sees("#connection", "live")
    page.sees("#rows", "emacs")
    assert code not in page.ask("location.href")
    alice.has({"a": xterm, "b": {"command": "emacs", "clients": 2}})
    page.sees("#rows tr.changed", "connected, 2 clients")
    page.click("#search")
    page.write("Host: node7")
    page.sees("#filters", "Host: node7")
    page.until("one row", "document.querySelectorAll('#rows tr[data-id]').length === 1")
    page.click("#rows td.name button", "xterm")
    page.sees("#rows .details", "Connect")
    page.sees("#rows .details", "CPU 12 %")
    page.click("#rows .details button", "Rename")
    page.until("the name", "document.activeElement.ariaLabel === 'Name'")
    page.write("Thesis")
    page.sees("#rows .name", "Thesis")
    alice.has({"b": {"command": "emacs"}})
    page.sees("#empty", "No session matches the filter.")
    page.click("#tab-past")
    page.sees("#past-table", "Thesis")
    ground = page.ask("getComputedStyle(document.body).backgroundColor")
    assert ground.startswith("rgb(") and ground != "rgb(255, 255, 255)"  # light-dark() is known
