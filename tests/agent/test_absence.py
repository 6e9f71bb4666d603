"""What a listing leaves out, and what cannot be read now, has not gone."""

from __future__ import annotations

import errno
import json
import os
import pwd
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fastx_list.agent import files as files_module
from fastx_list.agent import pids
from fastx_list.agent.keep import Agent
from fastx_list.agent.machine import Machine
from fastx_list.agent.merge import session_id
from fastx_list.agent.process import Process, read_stat
from fastx_list.agent.sources import spool as spool_module
from fastx_list.agent.sources.spool import Spool
from fastx_list.agent.sources.x2go import X2Go
from fastx_list.config import Settings
from fastx_list.store import Store
from tests.agent.scripted import listed
from tests.support import needs_root, ordinary_user

FILES = 2000
# Writes files anew and renames them over the old ones until its input ends
LAUNCHER = """
import os, random, select, sys
directory, number = sys.argv[1], int(sys.argv[2])
while not select.select([sys.stdin], [], [], 0.001)[0]:
    for _ in range(5):
        path = f"{directory}/{random.randrange(number)}"
        with open(f"{path}.new", "w") as file:
            file.write('{"login": "alice"}')
        os.rename(f"{path}.new", f"{path}.json")
"""
A = session_id("here", f"spool:{b'a.json'.hex()}:alice:None")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that everybody can look into, on a tmpfs where there is one."""
    name = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    os.chmod(name, 0o755)
    yield Path(name)
    shutil.rmtree(name)


@contextmanager
def renaming(directory: Path) -> Iterator[None]:
    """Let a launcher rename files in ``directory``, some thousands a second."""
    command = [sys.executable, "-c", LAUNCHER, str(directory), str(FILES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as launcher:
        yield
        launcher.communicate()


@pytest.mark.programs
def test_files_that_are_renamed_while_they_are_listed_have_not_gone(
    settings: Settings, store: Store, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "READ_SECONDS", 60.0)  # however slow this machine is
    for number in range(FILES):
        (directory / f"{number}.json").write_text('{"login": "alice"}')
    agent = Agent(settings, store, {"spool": Spool(directory)})
    assert agent.scan() == FILES
    sessions = listed(store).keys()
    with renaming(directory):
        for _ in range(3):
            assert agent.scan() == FILES and listed(store).keys() == sessions
        for _ in range(3):
            again = Agent(settings, store, {"spool": Spool(directory)})
            assert again.scan() == FILES and listed(store).keys() == sessions


@contextmanager
def descriptors(number: int) -> Iterator[None]:
    """Let this process open only so many files more."""
    free = [os.dup(0) for _ in range(number)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for each in free:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free, default=-1) + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def too_few_descriptors(path: Path) -> Iterator[None]:
    with descriptors(2):  # for the directory and for its listing, or for the file's path
        yield


@contextmanager
def forbidden(path: Path) -> Iterator[None]:
    path.chmod(0)
    with ordinary_user():
        yield
    path.chmod(0o644)


def failing(number: int) -> Callable[[Path], Any]:
    """Return what lets reading fail in a way that no file system does on demand."""

    @contextmanager
    def failing(path: Path) -> Iterator[None]:
        def fail(*_: object) -> bytes:
            raise OSError(number, os.strerror(number))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files_module, "read_up_to", fail)
            yield

    return failing


HARMS = {
    "EMFILE": too_few_descriptors,
    "EACCES": forbidden,
    **{
        name: failing(getattr(errno, name))
        for name in ("EIO", "ESTALE", "EWOULDBLOCK", "EINTR", "ENOENT", "EPERM", "ETIMEDOUT")
    },
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_file_that_cannot_be_read_says_what_it_said_and_is_asked_again(
    directory: Path, harm: str
) -> None:
    if harm == "EACCES":
        needs_root()
    machine, spool = Machine(), Spool(directory)
    path = directory / "a.json"
    path.write_text('{"login": "alice", "clients": 1}')
    [before] = spool.scan(machine)
    path.write_text('{"login": "alice", "clients": 2}')
    with HARMS[harm](path):
        for _ in range(3):
            assert list(spool.scan(machine)) == [before]
            assert not machine.unread
    [now] = spool.scan(machine)
    assert now.clients == 2
    path.unlink()
    assert list(spool.scan(machine)) == []


@pytest.mark.parametrize("harm", HARMS)
def test_an_agent_that_begins_while_a_file_cannot_be_read_does_not_end_its_session(
    settings: Settings, store: Store, directory: Path, harm: str
) -> None:
    if harm == "EACCES":
        needs_root()
    path = directory / "a.json"
    path.write_text('{"login": "alice"}')
    (directory / "b.json").write_text('{"login": "bob"}')
    Agent(settings, store, {"spool": Spool(directory)}).scan()
    store.set_params(A, "alice", {"name": "kept"})
    agent = Agent(settings, store, {"spool": Spool(directory)})
    agent._began -= 3600
    for _ in range(2):
        with HARMS[harm](path):
            seen = agent.look.take()
        agent._take(seen)
        assert listed(store)[A].params == {"name": "kept"}
    agent.scan()
    assert listed(store)[A].params == {"name": "kept"}
    path.unlink()
    agent.scan()
    assert A not in listed(store)


def test_a_file_that_goes_before_it_could_be_read_ends_what_was_known_of_it(
    settings: Settings, store: Store, directory: Path
) -> None:
    path = directory / "a.json"
    path.write_text('{"login": "alice"}')
    Agent(settings, store, {"spool": Spool(directory)}).scan()
    agent = Agent(settings, store, {"spool": Spool(directory)})
    agent._began -= 3600
    with too_few_descriptors(path):
        seen = agent.look.take()
    agent._take(seen)
    assert listed(store)
    [server] = store.snapshot().servers
    assert "files: some cannot be read now" in str(server.text)
    path.unlink()
    agent.scan()
    assert not listed(store)
    [server] = store.snapshot().servers
    assert json.loads(str(server.text))["problems"] == []


def test_where_everybody_can_write_an_unreadable_file_keeps_its_owners_sessions_only(
    directory: Path,
) -> None:
    needs_root()
    directory.chmod(0o1777)
    machine, path = Machine(), directory / "a.json"
    path.write_text('{"login": "games"}')
    os.chown(path, pwd.getpwnam("games").pw_uid, -1)
    with failing(errno.EIO)(path):
        assert list(Spool(directory).scan(machine)) == []
    assert machine.unread == {"games"}


@contextmanager
def in_the_way(directory: Path) -> Iterator[None]:
    directory.rename(directory.with_name(f"{directory.name}-away"))
    directory.write_text("in the way")
    yield
    directory.unlink()
    directory.with_name(f"{directory.name}-away").rename(directory)


@contextmanager
def no_descriptors(directory: Path) -> Iterator[None]:
    with descriptors(0):
        yield


@pytest.mark.parametrize("harm", [in_the_way, forbidden, no_descriptors])
def test_an_agent_that_begins_while_the_spool_cannot_be_read_ends_nothing_and_says_so(
    settings: Settings, store: Store, directory: Path, harm: Callable[[Path], Any]
) -> None:
    if harm is forbidden:
        needs_root()
    members: dict[str, Any] = {"login": "alice"}
    (directory / "a.json").write_text(json.dumps(members))
    (directory / "b.json").write_text(json.dumps({**members, "serverPid": os.getpid()}))
    Agent(settings, store, {"spool": Spool(directory)}).scan()
    store.set_params(A, "alice", {"name": "kept"})
    before = listed(store)
    assert len(before) == 2
    agent = Agent(settings, store, {"spool": Spool(directory)})
    agent._began -= 3600
    for _ in range(2):
        with harm(directory):
            seen = agent.look.take()
        directory.chmod(0o755)
        agent._take(seen)
        assert listed(store) == before
    [server] = store.snapshot().servers
    assert "stay as they were" in json.loads(str(server.text))["problems"][0]
    agent.scan()
    assert listed(store) == before
    [server] = store.snapshot().servers
    assert json.loads(str(server.text))["problems"] == []


def test_a_process_that_one_listing_leaves_out_has_not_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine()
    machine.look()
    listdir = os.listdir
    monkeypatch.setattr(pids, "count", lambda: None)
    monkeypatch.setattr(
        os, "listdir", lambda path: [name for name in listdir(path) if name != str(os.getpid())]
    )
    machine.look()
    assert os.getpid() in machine.processes


def test_x2gos_options_that_are_written_twice_at_a_time_are_read_twice(directory: Path) -> None:
    options, stat = directory / "options", read_stat(os.getpid())
    assert stat is not None
    environ = {"DISPLAY": f"nx/nx,options={options}:50"}
    process = Process(os.getpid(), os.geteuid(), stat, _environ=environ, _args=["x2goagent", ":50"])
    machine = Machine()
    session = X2Go().session(process, machine)
    assert session is not None
    options.write_text("nx/nx,listen=1111:50")
    session.connections(machine.sockets(process))
    before = options.stat()
    for text, port in (("nx/nx,link=lan,liste", 1111), ("nx/nx,listen=2222:50", 2222)):
        options.write_text(text)
        os.utime(options, ns=(before.st_atime_ns, before.st_mtime_ns))
        session.connections(machine.sockets(process))
        assert session._port == port
