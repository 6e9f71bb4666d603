from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gunicorn.workers.ggevent  # noqa: F401  without it no sidecar can be made in this process
import pytest
from coverage import Coverage
from flask.testing import FlaskClient
from xdist.scheduler import LoadScopeScheduling

from fastx_list import create_app
from fastx_list.config import Settings, load
from fastx_list.model.session import Session
from fastx_list.store import Store, open_store
from fastx_list.tokens import Tokens
from tests.support import MEASURED, WAIT_SECONDS, Processes, Service, program

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TESTS = Path(__file__).parent
LOOKING = {"system", "agent", "command", "hostile", "chaos"}
# Those of their files that start lists, sidecars, proxies and stores alone, or agents and commands
# to which it makes no difference what else there is
NOT_LOOKING = {
    *(f"command/test_{name}.py" for name in ("asking", "events", "formats", "history", "terminal")),
    *(f"hostile/test_{name}.py" for name in ("costly_logins", "costly_questions", "late_workers")),
    *(f"hostile/test_{name}.py" for name in ("list_clients", "lying_store", "malformed")),
    *(f"hostile/test_{name}.py" for name in ("sidecar_clients", "site", "state_directory")),
    *(f"system/behind_nginx/test_{name}.py" for name in ("away", "guards", "ways")),
    *(f"system/test_{name}.py" for name in ("mixed_versions", "moving_up", "outages", "proxies")),
    "system/test_unwritten.py",
}
# Tests in these folders start programs, and so does whoever uses these fixtures.
STARTING_FOLDERS = {"system", "chaos", "page", "portal", "command", "hostile"}
STARTING_FIXTURES = {
    *("processes", "service", "served", "installed", "browser"),
    *("workers", "server", "shared_redis"),
}


# The folders whose tests are about the list's and the sidecar's processes. Elsewhere coverage would
# count the same lines again, which doubles the work of such a process.
COUNTED = {"live", "web", "test_server.py"}
MOST_FILES = 20_000
_coverage: dict[str, str] = {}  # how coverage is told to measure another process


class ByPlace(LoadScopeScheduling):
    """Hands out tests one by one, but all in one process that look at the whole machine or start
    what others find on it."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::")[0].removeprefix("tests/")
        if path in NOT_LOOKING:
            return path
        where = path.split("/")[0]
        return "machine" if where in LOOKING else where if where == "page" else nodeid


def pytest_configure() -> None:
    """Let a process have more files open than the 1,024 of a login shell: some tests have more."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(most, MOST_FILES)), most))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByPlace:
    return ByPlace(config, log)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m unit``, do not even import what is none: Playwright alone takes a second."""
    unit = config.option.markexpr == "unit"
    return True if unit and _folder(collection_path) in STARTING_FOLDERS else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as ``unit`` what starts no programs."""
    for item in items:
        if not _starts_programs(item):
            item.add_marker(pytest.mark.unit)


def pytest_collection_finish() -> None:
    """Let coverage, which has begun by now, measure few of the processes that tests start."""
    if measured := os.environ.pop("COVERAGE_PROCESS_CONFIG", None):
        _coverage["COVERAGE_PROCESS_CONFIG"] = measured


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say whether to measure the processes that the test starts, before any fixture starts one."""
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)  # coverage sets it again when it goes on
    MEASURED.clear()
    MEASURED.update(_coverage if _folder(item.path) in COUNTED else {})


def _starts_programs(item: pytest.Item) -> bool:
    return (
        item.get_closest_marker("programs") is not None
        or _folder(item.path) in STARTING_FOLDERS
        or not STARTING_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
    )


def _folder(path: Path) -> str:
    return path.relative_to(TESTS).parts[0] if path != TESTS else ""


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FASTX_LIST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FASTX_LIST_CONFIG", "/dev/null")  # nor from a site that this machine serves


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """Halts coverage where it would take three times as long, also in the processes that are
    started. In a process of xdist's there are two, of which pytest-cov's own ``no_cover`` halts
    one, and then the other one goes on."""
    halted: list[Coverage] = []
    measured = dict(MEASURED)
    MEASURED.clear()
    while (running := Coverage.current()) is not None:
        running.stop()
        halted.append(running)
    yield
    MEASURED.update(measured)
    for each in reversed(halted):
        each.start()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The settings of a product that keeps everything below a directory of this test."""
    return {"FASTX_LIST_STATE_DIR": str(tmp_path / "state"), "FASTX_LIST_SERVER_ID": "here"}


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    return load(environ)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = open_store(settings.store)
    yield store
    store.close()


@pytest.fixture
def token(settings: Settings) -> Callable[..., str]:
    """Issues tokens: ``token("alice")``."""
    tokens = Tokens(settings)

    def issue(login: str, ttl: float = 3600, admin: bool = False) -> str:
        return tokens.issue(login, ttl, admin)

    return issue


@pytest.fixture
def client(environ: dict[str, str]) -> Iterator[FlaskClient]:
    """A client of the list application."""
    app = create_app(environ)
    with app.test_client() as client:
        yield client
    app.extensions["fastx-list"].store.close()


@pytest.fixture
def observe(store: Store) -> Callable[..., None]:
    """Makes these the sessions of server ``here``: ``observe(session("a"), session("b"))``."""

    def observe(*sessions: Session) -> None:
        store.observe("here", {session.id: session for session in sessions})

    return observe


@pytest.fixture
def four_sessions(observe: Callable[..., None]) -> None:
    """Three sessions of alice, ``a``, ``b`` and ``c``, and ``d`` of bob."""
    observe(
        session("a", started=1, geometry="800x600", clients=0, command="xterm"),
        session("b", started=2, geometry="1280x720", clients=2, command="blender"),
        session(
            "c",
            started=3,
            geometry="1024x768",
            clients=0,
            command="matlab",
            params={"name": "Thesis", "tag": "x"},
        ),
        session("d", "bob", started=4, command="secret of bob"),
    )


def session(session_id: str, login: str = "alice", **facts: Any) -> Session:
    """Return a session of server ``here``."""
    return Session(
        **{
            "id": session_id,
            "login": login,
            "server_id": "here",
            "hostname": "here.example",
            **facts,
        }
    )


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    processes.stop()


@pytest.fixture
def service(tmp_path: Path, processes: Processes) -> Service:
    """The product, with nothing of it started yet."""
    return Service(tmp_path / "state", processes)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests; each opens a context of its own in it."""
    from playwright.sync_api import expect, sync_playwright

    chromium = program("chromium", "chromium")
    # As with everything else, nothing depends on how long it takes
    expect.set_options(timeout=WAIT_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
            ],
        )
        yield browser
        browser.close()
