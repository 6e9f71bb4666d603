"""Name services that hang, fail, or give a user's id to somebody else."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile.hanging import start_impostor
from tests.support import Processes, Service, let_others_in, needs_root, wait_for
from tests.system.sessions import User, start_vnc

SECONDS = 20.0

# The agent, with name services that know what a file says: "" fails, "hang" hangs until it says
# something else.
AGENT = """
import json, pwd, sys, time
from pathlib import Path

asked = pwd.getpwuid

names = Path(sys.argv[1])

def getpwuid(uid):
    while (name := json.loads(names.read_text()).get(str(uid))) == "hang":
        time.sleep(0.05)
    if name is None:
        return asked(uid)
    if name == "":
        raise KeyError(uid)
    return pwd.struct_passwd((name, "x", uid, uid, "", "/", "/bin/sh"))

pwd.getpwuid = getpwuid
sys.argv = ["fastx-list", "agent"]
from fastx_list.command.cli import main
main()
"""

Says = Callable[[str], None]
Listed = Callable[[], dict[int, str]]


@pytest.fixture
def user(tmp_path: Path) -> User:
    needs_root()
    let_others_in(tmp_path)
    return User.make("games", tmp_path)


@pytest.fixture
def other(user: User, tmp_path: Path) -> User:
    return User.make("news", tmp_path)


@pytest.fixture
def say(user: User, tmp_path: Path) -> Says:
    """Says which login the user is from now on: ``say("alice")``."""

    def say(name: str) -> None:
        draft = tmp_path / "names.new"
        draft.write_text(json.dumps({user.ids[0]: name}))
        draft.rename(tmp_path / "names")

    return say


@pytest.fixture
def listed(service: Service, processes: Processes, tmp_path: Path) -> Iterator[Listed]:
    """The agent; returns the logins of the sessions by their servers' pids."""
    service.environ["FASTX_LIST_SCAN_INTERVAL"] = "0.25"
    (tmp_path / "names").write_text("{}")
    command = [sys.executable, "-c", AGENT, str(tmp_path / "names")]
    agent = processes.start(command, "agent", service.environ)

    def listed() -> dict[int, str]:
        return {session["serverPid"]: session["login"] for session in service.stored()}

    yield listed
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(SECONDS) == 0


def test_a_users_id_that_is_given_to_another_is_anothers(
    listed: Listed, user: User, say: Says, processes: Processes
) -> None:
    say("oldlogin")
    first = start_impostor(processes, user)
    wait_for("the first session", lambda: listed().get(first.pid) == "oldlogin", SECONDS)
    first.terminate()
    wait_for("its end", lambda: first.pid not in listed(), SECONDS)
    say("newlogin")
    second = start_impostor(processes, user)
    wait_for("the second session", lambda: second.pid in listed(), SECONDS)
    assert listed()[second.pid] == "newlogin"


@pytest.mark.parametrize("trouble", ["", "hang"])
def test_a_login_that_nobody_could_say_is_said_as_soon_as_somebody_can(
    listed: Listed, user: User, say: Says, processes: Processes, trouble: str
) -> None:
    say(trouble)
    process = start_impostor(processes, user)
    number = str(user.ids[0])
    wait_for("the session", lambda: listed().get(process.pid) == number, SECONDS)
    say("alice")
    wait_for("its login", lambda: listed().get(process.pid) == "alice", SECONDS)


def test_name_services_that_hang_for_one_hold_up_nobody(
    listed: Listed, user: User, other: User, say: Says, processes: Processes
) -> None:
    say("hang")
    process = start_impostor(processes, user)
    for _ in range(2):
        vnc = start_vnc(processes, other)
        wait_for("the session", lambda: listed().get(vnc.process.pid) == other.login, SECONDS)
        vnc.process.terminate()
        wait_for("its end", lambda: vnc.process.pid not in listed(), SECONDS)
    assert listed()[process.pid] == str(user.ids[0])


def test_a_session_keeps_its_login_while_nobody_says_it(
    listed: Listed, user: User, say: Says, processes: Processes
) -> None:
    say("alice")
    first = start_impostor(processes, user)
    wait_for("the session", lambda: listed().get(first.pid) == "alice", SECONDS)
    say("")
    second = start_impostor(processes, user)  # asks anew
    wait_for("another one", lambda: second.pid in listed(), SECONDS)
    assert listed().get(first.pid) == "alice" and listed()[second.pid] == str(user.ids[0])
