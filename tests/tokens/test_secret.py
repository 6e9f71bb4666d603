"""The file of the secret."""

from __future__ import annotations

import multiprocessing
import os
import re
import secrets
import stat
import subprocess
import sys
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from fastx_list import state, tokens
from fastx_list.config import ConfigError, load
from fastx_list.errors import AuthError
from fastx_list.tokens import Tokens, read_secret
from tests.support import let_others_in, ordinary_user
from tests.tokens.common import HOUR, SECRET, make_tokens


def write_secret(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "secret"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def config_error(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_secret(path)
    assert str(caught.value).startswith(f"the secret {path} ")
    return str(caught.value)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_secret_is_made_that_only_its_owner_can_read(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "below" / "state" / "secret"
    before = os.umask(umask)
    try:
        secret = read_secret(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert re.fullmatch("[0-9a-f]{64}", secret)  # 256 bits
    assert os.listdir(path.parent) == ["secret"]


def test_who_starts_just_when_another_process_makes_the_directory_has_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, way = tmp_path / "state" / "secret", state._way

    def look_too_soon(directory: Path) -> list[state._Step]:
        found = way(directory)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return found

    monkeypatch.setattr(state, "_way", look_too_soon)
    assert read_secret(path) == path.read_text().strip()


def test_a_secret_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert read_secret(path) == read_secret(path) == path.read_text().strip()


def test_a_secret_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else a power failure might leave an empty file in its place, with which nothing starts.
    path, synced, sync = tmp_path / "secret", [], os.fsync

    def note_and_sync(descriptor: int) -> None:
        synced.append((os.pread(descriptor, 100, 0).decode(), path.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note_and_sync)
    secret = read_secret(path)
    assert (secret + "\n", False) in synced


def test_a_secret_that_another_process_makes_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: write_secret(tmp_path, SECRET))
    assert read_secret(tmp_path / "secret") == SECRET
    assert os.listdir(tmp_path) == ["secret"]


def test_no_two_servers_have_the_same_secret(tmp_path: Path) -> None:
    assert read_secret(tmp_path / "a" / "secret") != read_secret(tmp_path / "b" / "secret")


def test_the_secret_that_root_makes_is_the_directory_owners(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir(0o700)
    if os.geteuid() == 0:
        let_others_in(tmp_path)
        os.chown(directory, 65534, 65534)
    read_secret(directory / "secret")
    made, owner = (directory / "secret").stat(), directory.stat()
    assert (made.st_uid, made.st_gid) == (owner.st_uid, owner.st_gid)


def test_tokens_are_signed_with_the_secret_of_the_state_directory(tmp_path: Path) -> None:
    def tokens() -> Tokens:
        return Tokens(load({"FASTX_LIST_STATE_DIR": str(tmp_path / "state")}))

    assert tokens().verify(tokens().issue("alice", HOUR), ()).login == "alice"
    assert (
        make_tokens(secret=read_secret(tmp_path / "state" / "secret"))
        .verify(tokens().issue("bob", HOUR), ())
        .login
        == "bob"
    )


def test_a_secret_that_is_given_is_not_kept_in_a_file(tmp_path: Path) -> None:
    Tokens(load({"FASTX_LIST_STATE_DIR": str(tmp_path), "FASTX_LIST_SECRET_KEY": SECRET}))
    assert os.listdir(tmp_path) == []


def read_when_all_are_ready(path: str, barrier: Barrier, answers: Queue[str]) -> None:
    barrier.wait(60)
    answers.put(read_secret(Path(path)))


def test_processes_that_start_at_once_get_the_same_secret(tmp_path: Path) -> None:
    # Each process of its own, not a fork: other tests may have left threads behind, with which
    # forking is not safe.
    context, count, path = multiprocessing.get_context("spawn"), 4, tmp_path / "state" / "secret"
    barrier, answers = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=read_when_all_are_ready, args=(str(path), barrier, answers))
        for _ in range(count)
    ]
    for process in processes:
        process.start()
    found = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    answers.close()
    answers.join_thread()
    assert found == {path.read_text().strip()}
    assert os.listdir(path.parent) == ["secret"]


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o666, 0o620, 0o660, 0o777], ids=oct)
def test_a_secret_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_secret(tmp_path, SECRET, mode)
    message = config_error(path)
    assert "open to other users" in message and f"chmod 600 {path}" in message
    assert SECRET not in message
    path.chmod(0o600)
    assert read_secret(path) == SECRET


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640], ids=oct)
def test_a_secret_may_be_readable_for_one_group(tmp_path: Path, mode: int) -> None:
    assert read_secret(write_secret(tmp_path, SECRET, mode)) == SECRET


@pytest.mark.parametrize("text", ["", "\n", "x" * 31, "x" * 31 + "\n", " " * 40])
def test_a_secret_that_is_too_short_is_refused(tmp_path: Path, text: str) -> None:
    assert "under 32 characters" in config_error(write_secret(tmp_path, text))


def test_a_secret_of_32_characters_is_taken_without_the_line_end(tmp_path: Path) -> None:
    assert read_secret(write_secret(tmp_path, "x" * 32 + "\n")) == "x" * 32


def test_a_secret_may_hold_any_letters_whatever_the_locale(tmp_path: Path) -> None:
    path = write_secret(tmp_path, "ö" * 32)
    program = f"from fastx_list.tokens import *; print(ascii(read_secret(Path({str(path)!r}))))"
    environ = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True)
    assert (done.stdout.decode().strip(), done.stderr) == (ascii("ö" * 32), b"")


def test_a_secret_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(secrets.token_bytes(64) + b"\xff")
    path.chmod(0o600)
    assert "cannot be used" in config_error(path)


def test_a_secret_in_a_directory_that_may_not_be_entered_is_refused(tmp_path: Path) -> None:
    write_secret(tmp_path, SECRET)
    tmp_path.chmod(0)
    try:
        with ordinary_user():
            message = config_error(tmp_path / "secret")
    finally:
        tmp_path.chmod(0o700)
    assert "Permission denied" in message
    assert (
        "run as the user that owns it, or set FASTX_LIST_STATE_DIR or FASTX_LIST_SECRET_KEY"
        in message
    )


def test_a_secret_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with ordinary_user():
            message = config_error(tmp_path / "state" / "secret")
    finally:
        tmp_path.chmod(0o700)
    assert "cannot be used: Permission denied" in message


def test_a_state_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no directory")
    assert "cannot be used" in config_error(tmp_path / "state" / "secret")


def test_a_secret_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    assert "cannot be used: Is a directory" in config_error(tmp_path / "secret")


def test_a_secret_that_is_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").symlink_to(tmp_path / "nothing")
    assert "cannot be used" in config_error(tmp_path / "secret")
    assert os.listdir(tmp_path) == ["secret"]


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets each look at a token be one at the file of the secret, too."""
    monkeypatch.setattr(tokens, "LOOK_SECONDS", 0.0)


def replace_secret(path: Path, text: str, mode: int = 0o600) -> None:
    write_secret(path.parent, text, mode).rename(path.with_name("new"))
    path.with_name("new").rename(path)


@pytest.mark.usefixtures("watchful")
def test_a_secret_that_is_replaced_ends_the_tokens_of_the_former_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load({"FASTX_LIST_STATE_DIR": str(tmp_path)})
    running = Tokens(settings)
    old = running.issue("alice", HOUR)
    assert running.verify(old, ()).login == "alice" and running.knows(old)
    replace_secret(settings.secret_file, "s" * 64)
    with pytest.raises(AuthError, match="its signature is not of this server's key"):
        running.verify(old, ())
    assert running.verify(Tokens(settings).issue("bob", HOUR), ()).login == "bob"
    assert running.replaced == 1
    [record] = caplog.records
    assert "was replaced" in record.getMessage() and "s" * 64 not in caplog.text


@pytest.mark.usefixtures("watchful")
def test_a_secret_that_is_gone_stays_in_force_until_there_is_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load({"FASTX_LIST_STATE_DIR": str(tmp_path)})
    running = Tokens(settings)
    old, kept = running.issue("alice", HOUR), settings.secret_file.read_text()
    settings.secret_file.unlink()
    for _ in range(2):
        assert running.verify(old, ()).login == "alice"
    replace_secret(settings.secret_file, kept)
    assert running.verify(old, ()).login == "alice" and running.replaced == 0
    assert [
        record.getMessage().count("is gone; the former one stays") for record in caplog.records
    ] == [1]
    settings.secret_file.unlink()
    new = Tokens(settings).issue("bob", HOUR)  # makes another
    assert running.verify(new, ()).login == "bob"
    with pytest.raises(AuthError):
        running.verify(old, ())


@pytest.mark.usefixtures("watchful")
@pytest.mark.parametrize(("text", "mode"), [("short", 0o600), ("x" * 64, 0o644), ("", 0o600)])
def test_a_new_secret_that_cannot_be_used_is_reported_and_the_former_one_stays_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, mode: int
) -> None:
    settings = load({"FASTX_LIST_STATE_DIR": str(tmp_path)})
    running = Tokens(settings)
    old = running.issue("alice", HOUR)
    replace_secret(settings.secret_file, text, mode)
    for _ in range(2):
        assert running.verify(old, ()).login == "alice"
    [record] = caplog.records
    assert "until then the former one stays in force" in record.getMessage()


def test_the_file_of_the_secret_is_not_looked_at_for_each_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Tokens(load({"FASTX_LIST_STATE_DIR": str(tmp_path)}))
    token = running.issue("alice", HOUR)
    looks: list[Path] = []
    monkeypatch.setattr(tokens, "_version", looks.append)
    monkeypatch.setattr(time, "monotonic", lambda: running._next_look - 0.001)
    for _ in range(100):
        running.verify(token, ())
    assert not looks
