"""However much of something one login has, others pay for none of it."""

from __future__ import annotations

import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastx_list.config import Settings
from fastx_list.store import Store
from tests.hostile.plenty import dummies_of
from tests.hostile.watching import Watching
from tests.support import Processes, Service, let_others_in, needs_root, wait_for
from tests.system.sessions import User

MANY = 1100  # more than most services may have files open
DESCRIPTORS = 256
LISTED = 200


@pytest.fixture
def hostile(tmp_path: Path) -> User:
    needs_root()
    let_others_in(tmp_path)
    return User.make("uucp", tmp_path)


@pytest.fixture
def other(hostile: User, tmp_path: Path) -> User:
    return User.make("news", tmp_path)


@pytest.fixture
def agent(service: Service) -> Iterator[subprocess.Popen[bytes]]:
    """An agent that may have few files open; it lives until the end, and nothing goes wrong in
    it."""
    service.environ["FASTX_LIST_SCAN_INTERVAL"] = "0.25"
    most = (DESCRIPTORS, DESCRIPTORS)
    agent = service.start_agent(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, most))
    yield agent
    assert agent.poll() is None
    assert "Traceback" not in service.processes.log("agent")


@pytest.fixture
def displays(service: Service) -> Callable[[User], set[int]]:
    """Returns the displays of a user's sessions that are listed now."""

    def listed(user: User) -> set[int]:
        return {each["display"] for each in service.stored(user.login)}

    return listed


def count(service: Service, user: User) -> int:
    return len(service.stored(user.login))


@pytest.mark.parametrize("kind", ["shared", "deaf"])
def test_very_many_x_servers_of_one_login_keep_no_other_session_out(
    service: Service,
    agent: subprocess.Popen[bytes],
    displays: Callable[[User], set[int]],
    hostile: User,
    other: User,
    processes: Processes,
    kind: str,
) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(dummies_of(other, processes, "quiet", 1))
        wait_for("the first session", lambda: displays(other) == {*first})
        old = stack.enter_context(dummies_of(hostile, processes, "quiet", 1))
        wait_for("the oldest", lambda: displays(hostile) == {*old})
        with dummies_of(hostile, processes, kind, MANY):
            wait_for("as many as are listed", lambda: count(service, hostile) == LISTED)
            with dummies_of(other, processes, "quiet", 2) as more:
                wait_for("the new sessions", lambda: displays(other) == {*first, *more})
            wait_for("their end", lambda: displays(other) == {*first})
            assert {*old} <= displays(hostile)
            report = service.run("doctor", check=False).stdout
            assert (
                f"!  agent: sessions of {hostile.login}: more than {LISTED}: the oldest" in report
            )
            assert count(service, hostile) == LISTED
        wait_for("their end", lambda: displays(hostile) == {*old}, 60)
    log = processes.log("agent")
    assert log.count(f"sessions of {hostile.login}: more than {LISTED}") == 1


def test_x_servers_that_send_without_end_cost_hardly_more_than_quiet_ones(
    settings: Settings, store: Store, hostile: User, processes: Processes
) -> None:
    costs: dict[str, list[float]] = {"quiet": [], "flood": []}
    for kind, seconds in costs.items():
        with dummies_of(hostile, processes, kind, 50), Watching(settings, store) as agent:
            agent.scan()  # with which all is new
            for _ in range(12):
                began = time.process_time()
                assert agent.scan() >= 50
                seconds.append(time.process_time() - began)
    # Without a bound it was over a hundred times as much.
    assert statistics.mean(costs["flood"]) < 3 * statistics.mean(costs["quiet"]) + 0.02
