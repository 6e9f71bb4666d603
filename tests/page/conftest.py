"""The page in a real Chromium, on a list and a sidecar that run for all tests here; each test has a
login of its own there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from fastx_list.config import load
from fastx_list.store import Store, open_store
from tests.conftest import session
from tests.support import Processes, Service

CONNECT = "https://portal.example.org/{hostname}/{display}?a=b"
_numbers = count(1)


@dataclass
class User:
    """A login with sessions."""

    login: str
    service: Service
    store: Store

    def has(self, sessions: dict[str, dict[str, Any]] | None = None) -> None:
        """Make these the user's sessions: facts by name. Their ids are the names, behind the
        login."""
        server = f"of-{self.login}"
        made = [
            session(f"{self.login}-{name}", self.login, server_id=server, **facts)
            for name, facts in (sessions or {}).items()
        ]
        self.store.observe(server, {each.id: each for each in made})

    def token(self, **options: Any) -> str:
        return self.service.token(self.login, **options)


class Tab:
    """A tab with the page in it."""

    def __init__(self, page: Page, service: Service) -> None:
        self.page = page
        self.service = service
        # Those for lists, as "GET /api/list/TOKEN?limit=50", and the body of a POST below
        self.requests: list[str] = []
        page.on("request", self._note)

    def _note(self, request: Any) -> None:
        url = urlsplit(request.url)
        if url.path.startswith("/api/") and url.scheme == "http":
            line = (
                f"{request.method}"
                f" {url.path.rpartition('/')[0]}/TOKEN{'?' if url.query else ''}{url.query}"
            )
            self.requests.append(
                line if request.post_data is None else f"{line}\n{request.post_data}"
            )

    def open(self, user: User, query: str = "", **options: Any) -> None:
        """Open the page as ``user``, and wait until it is live.

        Tests that run beside this one plug cables into this machine, and Chromium drops what it is
        loading when its network changes. Then who sits there presses the button.
        """
        self.page.goto(f"{user.service.url}/#token={user.token(**options)}{query}")
        expect(self.page.locator('[data-state="live"]').or_(self.reload)).to_be_visible()
        if self.reload.is_visible():
            self.reload.click()
        expect(self.connection).to_have_text("live")

    @property
    def connection(self) -> Locator:
        return self.page.locator("#connection")

    @property
    def reload(self) -> Locator:
        return self.page.get_by_role("button", name="Reload")

    @property
    def search(self) -> Locator:
        return self.page.get_by_label("Find sessions")

    @property
    def rows(self) -> Locator:
        """The rows of sessions that are listed now."""
        return self.page.locator("#rows tr[data-id]:not(.gone)")

    @property
    def names(self) -> Locator:
        return self.rows.locator(".name")

    def shows(self, *names: str) -> None:
        """Wait until these are the sessions, in this order."""
        expect(self.names).to_have_text(list(names))

    def row(self, name: str) -> Locator:
        """The row of the session that :meth:`User.has` knows by ``name``, listed or just gone."""
        return self.page.locator(f'#rows tr[data-id$="-{name}"]')

    def filter(self, member: str, values: str) -> None:
        self.find(f"{member}=={values}")

    def find(self, text: str) -> None:
        self.search.fill(text)
        self.search.press("Enter")

    def open_bench(self) -> None:
        self.page.get_by_text("Bench", exact=True).click()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A list and a sidecar."""
    directory = tmp_path_factory.mktemp("page")
    processes = Processes(directory)
    service = Service(directory / "state", processes)
    service.environ["FASTX_LIST_LIVE_PORT"] = str(service.live_port)
    service.environ["FASTX_LIST_CONNECT_URL"] = CONNECT
    service.start_list()
    service.start_live()
    yield service
    processes.stop()


@pytest.fixture(scope="session")
def store(running: Service) -> Iterator[Store]:
    store = open_store(load(running.environ).store)
    yield store
    store.close()


@pytest.fixture
def alice(running: Service, store: Store) -> Iterator[User]:
    user = User(f"alice{next(_numbers)}", running, store)
    yield user
    user.has()


@pytest.fixture
def bob(running: Service, store: Store) -> Iterator[User]:
    user = User(f"bob{next(_numbers)}", running, store)
    yield user
    user.has()


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that tests may stop."""
    directory = tmp_path_factory.mktemp("frail")
    processes = Processes(directory)
    service = Service(directory / "state", processes)
    service.environ["FASTX_LIST_LIVE_PORT"] = str(service.live_port)
    yield service
    processes.stop()


@pytest.fixture
def own(frail: Service) -> Iterator[User]:
    """A user of a list and a sidecar that the test may stop."""
    for name, start in {"list": frail.start_list, "live": frail.start_live}.items():
        if name not in frail.running or frail.running[name].poll() is not None:
            start()
    store = open_store(load(frail.environ).store)
    yield User(f"carol{next(_numbers)}", frail, store)
    store.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A fresh page; whatever it complains about fails the test."""
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
    assert complaints == []


@pytest.fixture
def tab(page: Page, running: Service) -> Tab:
    return Tab(page, running)
