"""``fastx-list backup`` and ``restore`` while everything runs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.command.conftest import Command
from tests.store.common import NOBODY, remove
from tests.support import Service, fetch, needs_root, wait_for


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def _start(service: Service) -> tuple[str, str]:
    """Start agent and list with a session that has params; return a token and one revoked."""
    spool = service.state / "spool"
    spool.mkdir(parents=True, mode=0o700)
    (spool / "a.json").write_text('{"login": "alice", "started": 1}')
    service.environ["FASTX_LIST_SOURCES"] = "spool"
    service.start_agent()
    service.start_list()
    token, revoked = service.token("alice"), service.token("alice")
    [session] = wait_for("the session", lambda: service.sessions(token))
    assert _set_params(service, token, session["id"], '{"name": "kept"}') == 200
    service.run("token", "revoke", revoked)
    return token, revoked


def _set_params(service: Service, token: str, name: str, params: str) -> int:
    body = f'{{"id": "{name}", "params": {params}}}'.encode()
    headers = {"Content-Type": "application/json"}
    return fetch(f"{service.url}/api/params/{token}", "POST", body, headers).status


def test_after_the_database_was_lost_a_restore_brings_back_params_and_revocations(
    command: Command, service: Service, file: Path
) -> None:
    token, revoked = _start(service)
    done = command("backup", str(file))
    assert done.returncode == 0 and "1 session, 1 revoked token" in done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in file.read_text() and revoked not in file.read_text()
    remove(service.state / "sessions.db")
    wait_for(
        "the session, without its params",
        lambda: [each["params"] for each in service.sessions(token)] == [{}],
    )
    done = command("restore", str(file))
    assert done.returncode == 0, done.stderr
    wait_for("its params", lambda: service.sessions(token)[0]["params"] == {"name": "kept"})
    assert fetch(f"{service.url}/api/list/{revoked}").status == 401


def test_no_file_is_written_over_without_being_told(
    command: Command, service: Service, file: Path
) -> None:
    command("agent", "--once")
    file.write_text("mine")
    done = command("backup", str(file))
    assert done.returncode == 1 and "--force" in done.stderr and "Traceback" not in done.stderr
    assert file.read_text() == "mine"
    assert command("backup", "--force", str(file)).returncode == 0
    assert "fastx-list backup" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir() if "backup" in each.name] == ["backup"]


@pytest.mark.parametrize("text", ["", "no backup", "\udcff"])
def test_what_is_no_backup_is_told_in_one_line(command: Command, file: Path, text: str) -> None:
    file.write_bytes(text.encode(errors="surrogateescape"))
    done = command("restore", str(file))
    assert done.returncode == 1 and str(file) in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_a_store_that_is_not_there_makes_no_backup(command: Command, file: Path) -> None:
    done = command("backup", str(file))
    assert done.returncode == 1 and "there is no store" in done.stderr and not file.exists()


def test_root_makes_and_reads_a_backup_in_a_directory_of_the_services_user(
    command: Command, service: Service, public_dir: Path
) -> None:
    needs_root()
    state = public_dir / "state"
    state.mkdir(mode=0o700)
    for each in (state, public_dir):
        os.chown(each, NOBODY, NOBODY)
    service.environ["FASTX_LIST_STATE_DIR"] = str(state)
    command("agent", "--once")
    file = public_dir / "backup"
    assert command("backup", str(file)).returncode == 0
    assert (file.stat().st_uid, stat.S_IMODE(file.stat().st_mode)) == (NOBODY, 0o600)
    assert command("restore", str(file)).returncode == 0


def test_a_device_or_a_link_never_becomes_a_backup(command: Command, tmp_path: Path) -> None:
    command("agent", "--once")
    (tmp_path / "target").touch()
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(tmp_path / "target")
    for place in (fifo, link):
        before = place.lstat()
        for more in ((), ("--force",)):
            done = command("backup", *more, str(place))
            assert done.returncode == 1, done.stderr
            assert "is no regular file" in done.stderr and "--force" not in done.stderr
            assert place.lstat().st_ino == before.st_ino


def test_what_is_no_file_is_not_to_be_removed(command: Command) -> None:
    done = command("restore", "/dev/null")
    assert done.returncode == 1 and "no regular file" in done.stderr
    assert "remove" not in done.stderr
