from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support import Processes, Service, fetch, needs_root, program, release_has, wait_for
from tests.system.elsewhere import Other, Ssh, make_others
from tests.system.feed import Feed
from tests.system.rdp import WINDOW_MANAGER, Xrdp
from tests.system.servers import LOGINS, SECONDS, Account, Desk, end_all, remove, spare_display
from tests.system.sessions import User, Viewer, start_application, start_vnc
from tests.system.wayland import Desktop
from tests.system.world import (
    EXPECTED,
    IN_CAGE,
    IN_TIGHTVNC,
    IN_VNC,
    World,
    in_cage,
    in_tightvnc,
    in_xpra,
    kinds,
    sessions,
)
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
def others(daemons: Processes) -> list[Other]:
    """Two machines that are connected to ours."""
    return make_others(daemons)


@pytest.fixture(scope="module")
def ssh(place: Path, daemons: Processes) -> Ssh:
    return Ssh(place, daemons)


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
    # Of what was there before its first look it does not know when it came
    servers = f"{service.url}/api/admin/server/{service.token('root', admin=True)}"
    wait_for("the agent's first look", lambda: fetch(servers).json, SECONDS)
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


@pytest.fixture(scope="module")
def world(
    place: Path,
    daemons: Processes,
    desk: Desk,
    accounts: list[Account],
    xrdp: Xrdp,
    x2go: X2Go,
    watched: Service,
    request: pytest.FixtureRequest,
) -> Iterator[World]:
    one, two, three = accounts
    with ThreadPoolExecutor(1) as pool:
        slow = [
            (one, "xterm", pool.submit(x2go.start, one, desk, "application", "xterm")),
            (three, "openbox", pool.submit(x2go.start, three, desk, "desktop", "openbox")),
        ]
        clients = [
            (one, WINDOW_MANAGER, xrdp.connect(desk, one, "Xorg")),
            (two, WINDOW_MANAGER, xrdp.connect(desk, two, "Xvnc")),
        ]
        viewer = Viewer(daemons)
        for user in (one, three):
            vnc = start_vnc(daemons, user)
            start_application(daemons, vnc)
            clients.append((user, IN_VNC, viewer.connect(f"127.0.0.1::{vnc.port}")))
        for user, inside, port in (
            (two, IN_CAGE, in_cage(Desktop(place, daemons, two))),
            (three, IN_TIGHTVNC, in_tightvnc(daemons, three)),
        ):
            clients.append((user, inside, viewer.connect(f"127.0.0.1::{port}")))
        display = spare_display()
        plain = three.start(
            daemons, [program("Xvfb", "xvfb"), f":{display}", "-screen", "0", "900x600x24"], "plain"
        )
        wait_for("the plain X server", lambda: Path(f"/tmp/.X11-unix/X{display}").exists())
        if release_has("xpra"):
            clients += in_xpra(request.getfixturevalue("xpra"), desk, two, three)
        clients += [(user, command, client.result()) for user, command, client in slow]
    world = World(accounts, clients, plain)
    for user, expected in zip(accounts, EXPECTED, strict=True):
        try:
            wait_for(
                "the sessions and their clients",
                lambda: kinds(watched, user) == {(*kind, 1) for kind in expected},
                SECONDS,
            )
        except AssertionError:
            pytest.fail(f"of {user.login} these are listed: {sessions(watched, user)}")
    yield world
    for user in accounts:
        end_all(user.ids[0])
