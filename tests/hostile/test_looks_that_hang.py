"""One who makes the agent wait, or read without end, is seen less of; nobody else is."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastx_list.agent.process import read_any_stat
from tests.hostile.hanging import memory, silent, start_impostor
from tests.support import Processes, Service, let_others_in, needs_root, wait_for
from tests.system.servers import unmeasured
from tests.system.sessions import User, start_vnc

SECONDS = 20.0  # far less than a lease on a file lasts (45 s), and than anything here would hang


class Agent:
    """An agent, and what it writes."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.process = service.start_agent()

    def listed(self, user: User) -> dict[int, dict[str, Any]]:
        """Return the sessions of ``user`` by the pid of their server."""
        return {each["serverPid"]: each for each in self._service.stored(user.login)}

    def problems(self) -> str:
        """Return what the agent says that it cannot see."""
        servers = json.loads(self._service.run("servers", "--json").stdout)
        return "\n".join(text for server in servers for text in server["problems"])

    def lists(self, user: User, process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
        found = self.listed(user).get(process.pid)
        return found and unmeasured(found)


@pytest.fixture
def users(tmp_path: Path) -> tuple[User, User]:
    """One who is hostile, and another one."""
    needs_root()
    let_others_in(tmp_path)
    return User.make("games", tmp_path), User.make("news", tmp_path)


@pytest.fixture
def agent(service: Service) -> Iterator[Agent]:
    """The agent, which has to end at once when it is told to."""
    service.environ["FASTX_LIST_SCAN_INTERVAL"] = "0.25"
    agent = Agent(service)
    # From here on it knows what SIGTERM means
    wait_for(
        "its first look",
        lambda: json.loads(service.run("servers", "--json", check=False).stdout or "[]"),
    )
    yield agent
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(SECONDS) == 0


def test_a_lease_on_an_authority_file_holds_up_nobody(
    agent: Agent, users: tuple[User, User], processes: Processes
) -> None:
    hostile, other = users
    impostors = []
    for name in ("one", "two"):
        path = str(hostile.home / name)
        impostors.append(start_impostor(processes, hostile, "-auth", path, does="lease"))
    for _ in range(2):  # sessions begin meanwhile, and end
        vnc = start_vnc(processes, other)
        found = wait_for("the session", lambda: agent.lists(other, vnc.process), SECONDS)
        assert found["geometry"] == "1000x700"
        vnc.process.terminate()
        wait_for("its end", lambda: not agent.listed(other), SECONDS)
    wait_for("theirs", lambda: all(agent.lists(hostile, each) for each in impostors), SECONDS)


@pytest.mark.parametrize("relative", [False, True])
def test_a_file_system_that_never_answers_holds_up_nobody_but_its_user(
    service: Service, agent: Agent, users: tuple[User, User], processes: Processes, relative: bool
) -> None:
    hostile, other = users
    (hostile.home / "fuse").mkdir()
    with silent(hostile.home / "fuse", hostile):
        path = "fuse/authority" if relative else str(hostile.home / "fuse" / "authority")
        impostor = start_impostor(processes, hostile, "-auth", path)
        vnc = start_vnc(processes, other)
        found = wait_for("the session", lambda: agent.lists(other, vnc.process), SECONDS)
        assert found["geometry"] == "1000x700"
        # What can be seen of the hostile one's is listed all the same.
        wait_for("the impostor's", lambda: agent.lists(hostile, impostor), SECONDS)
        told = wait_for("the problem", lambda: agent.problems(), SECONDS)
        assert f"login {hostile.login}: no answer: the file " in told and "authority'" in told
        assert processes.log("agent").count(f"login {hostile.login}: no answer") == 1
        # It ends while it waits; what it knew is kept by the next one.
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(SECONDS) == 0
        agent.process = service.start_agent()
        wait_for("both", lambda: agent.lists(other, vnc.process), SECONDS)
        wait_for("both", lambda: agent.lists(hostile, impostor), SECONDS)
    wait_for("its end", lambda: not agent.problems(), SECONDS)


def test_a_session_whose_x2go_options_lie_on_it_is_listed(
    agent: Agent, users: tuple[User, User], processes: Processes
) -> None:
    hostile, other = users
    (hostile.home / "fuse").mkdir()
    with silent(hostile.home / "fuse", hostile):
        server = start_impostor(
            processes,
            hostile,
            *("-name", "X2GO-games-50-1"),
            name="x2goagent",
            DISPLAY=f"nx/nx,options={hostile.home}/fuse/options:50",
        )
        found = wait_for("the suspended one", lambda: agent.lists(hostile, server), SECONDS)
        assert found["clients"] is None
        vnc = start_vnc(processes, other)
        wait_for("the session", lambda: agent.lists(other, vnc.process), SECONDS)


def test_a_look_that_hangs_ends_no_session_and_is_told(
    service: Service, users: tuple[User, User], processes: Processes, tmp_path: Path
) -> None:
    _, user = users
    own = tmp_path / "own"
    own.mkdir()
    service.environ["FASTX_LIST_SESSION_JSON"] = str(own / "session.json")
    service.environ["FASTX_LIST_SERVER_EXPIRY"] = "4"
    agent = Agent(service)
    vnc = start_vnc(processes, user)
    before = wait_for("the session", lambda: agent.lists(user, vnc.process))
    with silent(own):
        told = wait_for("the problem", lambda: _problems(service))
        assert "agent: has not finished a look since " in told and "(session.json)" in told
        # Longer than several leases last by now.
        assert agent.lists(user, vnc.process) == before
        assert processes.log("agent").count("has not finished a look") == 1
    wait_for("its end", lambda: not _problems(service))
    assert "the look that hung is over" in processes.log("agent")
    with silent(own):
        vnc.process.terminate()
        vnc.process.wait()
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_that_cannot_be_ended_gives_way_to_a_new_one(
    service: Service, users: tuple[User, User], processes: Processes, number: signal.Signals
) -> None:
    hostile, other = users
    agent = Agent(service)
    vnc = start_vnc(processes, other)
    wait_for("the session", lambda: agent.lists(other, vnc.process), SECONDS)
    (hostile.home / "fuse").mkdir()
    with silent(hostile.home / "fuse", hostile, listens=True):
        path = str(hostile.home / "fuse" / "authority")
        impostor = start_impostor(processes, hostile, "-auth", path)
        wait_for("the wait", lambda: f"login {hostile.login}: no answer" in agent.problems())
        before = agent.lists(other, vnc.process)
        agent.process.send_signal(number)
        wait_for("its end", lambda: _is_over(agent.process.pid))
        assert agent.process.poll() is None, "it could be ended"
        agent.process = service.start_agent()
        second = start_vnc(processes, other)
        wait_for("a new session", lambda: agent.lists(other, second.process), SECONDS)
        assert agent.lists(other, vnc.process) == before
    assert impostor.poll() is None


def _is_over(pid: int) -> bool:
    stat = read_any_stat(pid)
    return stat is not None and stat.state == "Z"


def _problems(service: Service) -> str:
    """Return what doctor says of the agent that should be mended."""
    lines = service.run("doctor", check=False).stdout.splitlines()
    return "\n".join(line for line in lines if line.startswith(("!  agent: ", "!! agent: ")))


def test_command_lines_of_any_size_cost_nothing(
    agent: Agent, users: tuple[User, User], processes: Processes
) -> None:
    hostile, other = users
    vnc = start_vnc(processes, other)
    wait_for("the session", lambda: agent.lists(other, vnc.process), SECONDS)
    before = memory(agent.process.pid)
    impostors = [start_impostor(processes, hostile, does="huge") for _ in range(2)]
    began = time.monotonic()
    for each in impostors:
        wait_for("the impostor's", lambda: agent.lists(hostile, each), SECONDS)
    second = start_vnc(processes, other)
    wait_for("another session", lambda: agent.lists(other, second.process), SECONDS)
    assert memory(agent.process.pid) < before + 32 * 2**20, time.monotonic() - began
