"""Root's commands in a state directory that belongs to an unprivileged user, who has laid traps
there."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fastx_list import state
from fastx_list.tokens import read_secret

OWNER, THIRD = 9, 10  # news and uucp, as whom nobody works
# The file with its name, and that of earlier releases
AGENTS = f"agent-here{state.machine_mark()}", "agent-here"
SECRET = "a secret of root's that is long enough for one"
COMMANDS = {
    "issue": ["token", "issue", "alice"],
    "revoke": ["token", "revoke", "-"],
    "ls": ["ls", "--all"],
    "servers": ["servers"],
    "doctor": ["doctor"],
    "agent": ["agent", "--once"],
}


@pytest.fixture
def theirs(public: Path) -> Path:
    """A state directory as docs/install.md has it made, of a user who is not root."""
    directory = public / "state"
    directory.mkdir(mode=0o700)
    os.chown(directory, OWNER, OWNER)
    return directory


def run(directory: Path, name: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command as root on the state in ``directory``; it ends soon, whatever is there."""
    environ = {
        **os.environ,
        "FASTX_LIST_STATE_DIR": str(directory),
        "FASTX_LIST_SERVER_ID": "here",
        "FASTX_LIST_SOURCES": "spool",
    }
    command = [sys.executable, "-m", "fastx_list", *COMMANDS[name]]
    return subprocess.run(
        command, env=environ, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def become_owner() -> None:
    os.setgroups([])
    os.setgid(OWNER)
    os.setuid(OWNER)


def as_owner(call: Callable[[], object]) -> None:
    """Call as the owner of the state directory, in a process of its own."""
    child = os.fork()
    if not child:
        status = 1
        try:
            become_owner()
            call()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@contextmanager
def owner_goes_on(call: Callable[[Callable[[], object]], object]) -> Iterator[None]:
    """Call as the owner, in a process that goes on beside the block; the block begins when it has
    called what it is given."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            become_owner()
            call(lambda: os.write(theirs, b"!"))
        finally:
            os._exit(1)
    os.close(theirs)
    try:
        assert os.read(ours, 1) == b"!"
        yield
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it has ended too soon"
    finally:
        os.close(ours)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def use_all(directory: Path) -> None:
    """Run each of root's commands once, with a token for those that take one."""
    token = run(directory, "issue").stdout.strip()
    for name in COMMANDS:
        done = run(directory, name, token + "\n")
        assert "Traceback" not in done.stderr, done.stderr


def test_what_roots_commands_make_belongs_to_the_directorys_owner_who_can_use_it(
    theirs: Path,
) -> None:
    token = run(theirs, "issue").stdout.strip()
    for name in ("agent", "ls", "servers"):
        assert run(theirs, name).returncode == 0
    assert run(theirs, "revoke", token + "\n").returncode == 0
    made = {file.name: file.stat() for file in theirs.iterdir()}
    assert {"secret", "sessions.db", AGENTS[0]} <= made.keys()
    for file, status in made.items():
        assert (status.st_uid, status.st_gid) == (OWNER, OWNER), file
        assert stat.S_IMODE(status.st_mode) == 0o600, file


@pytest.mark.parametrize(
    "name", [*(f"sessions.db{end}" for end in ("", "-wal", "-shm", "-journal")), "secret", *AGENTS]
)
def test_a_link_to_nothing_makes_root_make_nothing(theirs: Path, roots: Path, name: str) -> None:
    as_owner(lambda: (theirs / name).symlink_to(roots / "made"))
    use_all(theirs)
    assert os.listdir(roots) == []


@pytest.mark.parametrize("name", ["sessions.db", "secret", *AGENTS])
def test_a_link_to_a_file_of_roots_leaves_it_as_it_is(theirs: Path, roots: Path, name: str) -> None:
    (roots / "file").write_text("0" * 64)
    (roots / "file").chmod(0o600)
    as_owner(lambda: (theirs / name).symlink_to(roots / "file"))
    before = (roots / "file").stat()
    use_all(theirs)
    after = (roots / "file").stat()
    assert (after.st_uid, after.st_mode, after.st_mtime) == (0, before.st_mode, before.st_mtime)
    assert (roots / "file").read_text() == "0" * 64


def test_a_link_to_a_secret_of_roots_signs_no_tokens(theirs: Path, roots: Path) -> None:
    (roots / "secret").write_text(SECRET)
    (roots / "secret").chmod(0o600)
    as_owner(lambda: (theirs / "secret").symlink_to(roots / "secret"))
    done = run(theirs, "issue")
    assert (done.returncode, done.stdout) == (1, "")
    assert "it is a symbolic link" in done.stderr and len(done.stderr.splitlines()) == 1


def test_what_root_alone_may_read_is_no_session_json(theirs: Path, roots: Path) -> None:
    (roots / "hidden").write_text('{"hidden-word": 1}')
    (roots / "hidden").chmod(0o600)
    as_owner(lambda: (theirs / "session.json").symlink_to(roots / "hidden"))
    (theirs / "spool").mkdir()
    (theirs / "spool" / "a.json").write_text('{"login": "alice"}')
    done = run(theirs, "agent")
    assert done.stdout == "1 session on this machine\n"
    assert "it is a symbolic link" in done.stderr and "hidden-word" not in done.stderr


def test_the_demo_writes_no_file_of_roots(theirs: Path, roots: Path) -> None:
    spool = theirs / "spool"
    as_owner(lambda: spool.symlink_to(roots))
    with pytest.raises(OSError):
        state.replace(spool / "simulated-1-1.json", "{}")
    assert os.listdir(roots) == []
    as_owner(spool.unlink)
    as_owner(spool.mkdir)
    state.replace(spool / "simulated-1-1.json", "{}")
    assert (spool / "simulated-1-1.json").stat().st_uid == OWNER


@pytest.mark.parametrize("name", ["sessions.db", "secret", *AGENTS, "session.json", "spool"])
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_fifo_in_a_files_place_is_one_line_and_no_wait(
    theirs: Path, name: str, mode: int
) -> None:
    def lay() -> None:
        os.mkfifo(theirs / name)
        os.chmod(theirs / name, mode)

    as_owner(lay)
    use_all(theirs)


def test_a_file_that_is_leased_is_one_line_and_no_wait(theirs: Path) -> None:
    use_all(theirs)

    def hold(begun: Callable[[], object]) -> None:
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # which asks to give the lease back
        file = os.open(theirs / "secret", os.O_RDWR)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        begun()
        signal.pause()

    with owner_goes_on(hold):
        done = run(theirs, "issue")
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_a_directory_that_others_can_write_to_is_refused(theirs: Path) -> None:
    use_all(theirs)
    before = {file.name: file.read_bytes() for file in theirs.iterdir()}
    for mode in (0o720, 0o702, 0o770, 0o777, 0o1777):
        theirs.chmod(mode)
        for name in COMMANDS:
            done = run(theirs, name)
            assert done.returncode == (2 if name == "doctor" else 1), (name, oct(mode))
            assert f"-w {theirs}" in done.stderr + done.stdout, (name, oct(mode))
            assert "Traceback" not in done.stderr
    assert {file.name: file.read_bytes() for file in theirs.iterdir()} == before
    theirs.chmod(0o700)
    assert run(theirs, "issue").returncode == 0


def test_a_directory_whose_parent_anybody_can_write_to_is_refused(public: Path) -> None:
    directory = public / "open" / "state"
    directory.mkdir(parents=True)
    directory.parent.chmod(0o777)
    done = run(directory, "issue")
    assert done.returncode == 1 and f"chmod o-w {directory.parent}" in done.stderr
    directory.parent.chmod(0o1777)  # in which nobody can rename what is another's
    assert run(directory, "issue").returncode == 0


def test_a_directory_in_the_hands_of_two_users_is_refused(public: Path) -> None:
    directory = public / "third" / "state"
    directory.mkdir(parents=True)
    os.chown(directory.parent, THIRD, THIRD)
    os.chown(directory, OWNER, OWNER)
    done = run(directory, "issue")
    assert done.returncode == 1 and "uids 9 and 10" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and os.listdir(directory) == []


def test_a_directory_of_a_third_user_is_refused_to_others_than_root(public: Path) -> None:
    directory = public / "third"
    directory.mkdir()
    os.chown(directory, THIRD, THIRD)

    def refused() -> None:
        with pytest.raises(state.StateError, match="belongs to another user"):
            state.owner_of(directory)

    as_owner(refused)


def test_a_directory_that_is_made_below_another_users_is_that_users(theirs: Path) -> None:
    read_secret(theirs / "more" / "inner" / "secret")
    for file in (theirs / "more", theirs / "more" / "inner", theirs / "more" / "inner" / "secret"):
        assert file.stat().st_uid == OWNER


def test_a_directory_that_is_exchanged_again_and_again_leads_root_nowhere(
    theirs: Path, roots: Path
) -> None:
    inner, kept, other = theirs / "inner", theirs / "kept", theirs / "other"

    def exchange(begun: Callable[[], object]) -> None:
        inner.mkdir(mode=0o700)
        other.symlink_to(roots)
        begun()
        while True:
            for one, another in ((inner, kept), (other, inner), (inner, other), (kept, inner)):
                with suppress(OSError):  # root may have made one meanwhile
                    one.rename(another)

    with owner_goes_on(exchange):
        for number in range(500):
            with suppress(OSError):
                state.write_new(inner / f"file-{number}", "x")
                state.read_file(inner / f"file-{number}")
    assert os.listdir(roots) == []
    assert any(theirs.rglob("file-*"))
