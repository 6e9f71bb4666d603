from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support import Processes, Service, needs_root
from tests.system.rdp import Xrdp
from tests.system.servers import LOGINS, Account, Desk, end_all, remove
from tests.system.sessions import User
from tests.system.test_life import Feed
from tests.system.x2go import X2Go
from tests.system.xpra import Xpra


@pytest.fixture(scope="session")
def accounts() -> Iterator[list[Account]]:
    """Three users who can log in; they are there for one test run at a time."""
    needs_root()
    with open(Path(tempfile.gettempdir()) / "fastx-list-tests.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield [Account.create(login) for login in LOGINS]
        finally:
            for login in LOGINS:
                remove(login)


@pytest.fixture
def users(accounts: list[Account]) -> Iterator[list[Account]]:
    """The three users for one test, at whose end nothing of theirs runs."""
    yield accounts
    for account in accounts:
        end_all(account.ids[0])


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory for what a module's servers need; unlike pytest's own, their users can read
    it."""
    with tempfile.TemporaryDirectory(prefix="fastx-list-") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.fixture(scope="module")
def daemons(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Processes that serve all tests of a module."""
    processes = Processes(tmp_path_factory.mktemp("logs"))
    yield processes
    processes.stop()


@pytest.fixture(scope="module")
def desk(daemons: Processes) -> Desk:
    return Desk(daemons)


@pytest.fixture(scope="module")
def xrdp(place: Path, daemons: Processes, accounts: list[Account]) -> Xrdp:
    return Xrdp(place, daemons)


@pytest.fixture(scope="module")
def xpra(place: Path, daemons: Processes, accounts: list[Account]) -> Xpra:
    return Xpra(place, daemons)


@pytest.fixture(scope="module")
def x2go(place: Path, daemons: Processes, accounts: list[Account]) -> X2Go:
    return X2Go(place, daemons)


@pytest.fixture(scope="module")
def watched(daemons: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The product: one agent, list and sidecar for all tests of a module."""
    service = Service(
        tmp_path_factory.mktemp("watched") / "state", daemons, {"FASTX_LIST_SCAN_INTERVAL": "0.25"}
    )
    service.start_list()
    service.start_live()
    service.start_agent()
    yield service
    assert "Traceback" not in "".join(daemons.log(name) for name in ("agent", "list", "live"))


@pytest.fixture
def follow(watched: Service) -> Iterator[Callable[[User], Feed]]:
    """Opens a WebSocket on the sessions of a user."""
    with ExitStack() as stack:

        def open_feed(user: User) -> Feed:
            return Feed(
                stack.enter_context(
                    connect(f"{watched.live_url}?token={watched.token(user.login)}")
                )
            )

        yield open_feed
