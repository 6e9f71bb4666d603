from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fastx_list import state
from fastx_list.agent import identity
from fastx_list.config import ConfigError, Settings, load
from tests.support import Service, end, let_others_in, needs_root, wait_for


def become(monkeypatch: pytest.MonkeyPatch, name: str = "fedcba9876543210") -> None:
    """Let this be another machine."""
    for module in (state, identity):
        monkeypatch.setattr(module, "machine", lambda: name)


def test_the_name_is_random_kept_and_closed_to_others(settings: Settings) -> None:
    assert identity.find(settings) is None
    name = identity.read(settings)
    assert identity.read(settings) == identity.find(settings) == name
    assert stat.S_IMODE(identity.path(settings).stat().st_mode) == 0o600
    assert list(settings.state_dir.iterdir()) == [identity.path(settings)]
    assert identity.read(replace(settings, server_id="there")) != name


def test_what_root_makes_belongs_to_the_owner_of_the_directory(settings: Settings) -> None:
    settings.state_dir.mkdir(0o700)
    if os.geteuid() == 0:
        let_others_in(settings.state_dir.parent)
        os.chown(settings.state_dir, 5, 6)
    identity.read(settings)
    owner, file = settings.state_dir.stat(), identity.path(settings).stat()
    assert (file.st_uid, file.st_gid) == (owner.st_uid, owner.st_gid)


def test_a_file_that_holds_no_name_is_named(settings: Settings) -> None:
    settings.state_dir.mkdir()
    for content in (b"", b"mine", b"\xff" * 32):
        identity.path(settings).write_bytes(content)
        assert identity.find(settings) is None
        with pytest.raises(ConfigError, match=str(identity.path(settings))):
            identity.read(settings)


def test_one_agent_runs_on_one_state_directory(settings: Settings) -> None:
    with identity.only_one(settings):
        with pytest.raises(ConfigError, match="an agent runs already as 'here'"):
            with identity.only_one(settings):
                pass
        with pytest.raises(ConfigError, match="an agent runs already as 'here'"):
            with identity.only_one(replace(settings, server_id="there")):
                pass
    with identity.only_one(replace(settings, server_id="there")):
        pass


def test_a_lock_that_was_removed_and_made_anew_by_another_agent_is_not_held_by_two(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def slow_flock(file: int, how: int) -> None:
        flock(file, how)
        if locks:
            locks.pop().unlink()

    monkeypatch.setattr(fcntl, "flock", slow_flock)
    settings.state_dir.mkdir()
    locks = [settings.state_dir / f"lock-{state.machine()}"]
    with identity.only_one(settings):
        assert not locks
        with pytest.raises(ConfigError, match="an agent runs already"):
            with identity.only_one(settings):
                pass


def test_a_file_system_without_locks_is_not_taken_for_an_agent_that_runs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ConfigError, match="No locks available, or set FASTX_LIST_STATE_DIR"):
        with identity.only_one(settings):
            pass


def test_a_place_is_of_one_machine_and_one_directory(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for directory in (settings.state_dir, tmp_path / "other"):
        directory.mkdir()
    place = identity.place(settings)
    assert place == identity.place(replace(settings, server_id="there"))
    assert place != identity.place(replace(settings, state_dir=tmp_path / "other"))
    become(monkeypatch)
    assert place != identity.place(settings)


def test_a_copy_of_a_machine_has_another_name_than_what_it_was_made_of(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = identity.read(settings)
    become(monkeypatch)
    assert identity.find(settings) is None
    copied = identity.read(settings)
    assert copied != name and identity.read(settings) == identity.find(settings) == copied


def test_a_copy_that_shares_the_directory_leaves_the_name_of_what_it_was_made_of(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = identity.read(settings)
    with monkeypatch.context() as copy:
        become(copy)
        identity.read(settings)
    assert identity.find(settings) == identity.read(settings) == name


@pytest.mark.parametrize("where", ["", f" {state.machine()}", " any"])
def test_the_name_that_an_older_release_has_kept_is_this_machines(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    settings.state_dir.mkdir()
    (settings.state_dir / "agent-here").write_text("0" * 32 + where)
    assert identity.find(settings) == identity.read(settings) == "0" * 32
    become(monkeypatch)
    assert identity.find(settings) != "0" * 32 != identity.read(settings)


def test_a_machine_that_gets_an_id_keeps_its_name(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as at_first:
        become(at_first, state.ANY_MACHINE)
        name = identity.read(settings)
    assert identity.read(settings) == identity.find(settings) == name


def test_a_host_that_is_renamed_stays_the_server_that_it_was(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del environ["FASTX_LIST_SERVER_ID"]
    monkeypatch.setattr(socket, "gethostname", lambda: "first.example.org")
    with identity.only_one(load(environ)):
        pass
    monkeypatch.setattr(socket, "gethostname", lambda: "second.example.org")
    assert load(environ).server_id == "first.example.org"
    with identity.only_one(load(environ)):
        assert load(environ).server_id == "first.example.org"
    load(environ).server_id_file.unlink()
    assert load(environ).server_id == "second.example.org"


def test_an_id_that_is_set_is_not_kept(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTX_LIST_SERVER_ID", "node7")
    with identity.only_one(load(environ)):
        assert not load(environ).server_id_file.exists()


def test_an_id_that_cannot_be_read_starts_no_agent_under_another_one(
    environ: dict[str, str],
) -> None:
    del environ["FASTX_LIST_SERVER_ID"]
    settings = load(environ)
    settings.state_dir.mkdir()
    settings.server_id_file.write_bytes(b"two words")
    with pytest.raises(ConfigError, match=f"{settings.server_id_file}: 1 to 128 letters"):
        with identity.only_one(load(environ)):
            pass


def test_a_state_directory_on_a_read_only_file_system_is_one_line_that_says_what_to_do(
    service: Service,
) -> None:
    needs_root()
    service.state.mkdir()
    for command in (["agent"], ["agent", "--once"]):
        done = read_only(service.state, [sys.executable, "-m", "fastx_list", *command], service)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
        assert f"{service.state}" in done.stderr and "read-only; make it writable" in done.stderr
    done = read_only(service.state, [sys.executable, "-m", "fastx_list", "doctor"], service)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("!! state directory: ")]
    assert done.returncode == 2 and "make it writable" in line


def read_only(
    directory: Path, command: Sequence[str], service: Service
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` where ``directory`` is on a read-only file system."""
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, str(directory), *command],
        env=service.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_second_agent_says_that_there_is_one_and_a_killed_one_leaves_no_lock(
    service: Service,
) -> None:
    first = service.start_agent()
    wait_for("the first look", lambda: "ok agent: " in service.run("doctor", check=False).stdout)
    done = service.run("agent", "--once", check=False)
    assert (
        done.returncode == 1
        and "an agent runs already" in done.stderr
        and "Traceback" not in done.stderr
    )
    first.kill()
    first.wait()
    assert service.run("agent", "--once").returncode == 0


def test_an_agent_that_has_lost_its_name_is_still_the_one_that_its_server_has(
    service: Service,
) -> None:
    agent = service.start_agent()
    wait_for("the first look", lambda: "ok agent: " in service.run("doctor", check=False).stdout)
    agent.kill()
    agent.wait()
    [name] = service.state.glob("agent-*")
    name.unlink()
    assert service.run("agent", "--once").returncode == 0
    assert "ok agent: " in service.run("doctor", check=False).stdout


def test_a_running_agent_says_the_hosts_new_name_and_a_restarted_one_lists_nothing_twice(
    service: Service,
) -> None:
    needs_root()
    spool = service.state / "spool"
    spool.mkdir(parents=True)
    (spool / "a.json").write_text('{"login": "alice", "started": 1}')
    service.environ["FASTX_LIST_SOURCES"] = "spool"
    rename = ["sh", "-c", 'hostname "$0" && exec "$@"']
    program = [sys.executable, "-m", "fastx_list"]

    def listed() -> set[tuple[str, ...]]:
        return {(each["id"], each["serverId"], each["hostname"]) for each in service.stored()}

    agent = service.processes.start(
        ["unshare", "--uts", *rename, "first.example", *program, "agent"], "agent", service.environ
    )
    wait_for("the store", (service.state / "sessions.db").exists)
    [first] = wait_for("the session", listed)
    assert first[1:] == ("first.example", "first.example")
    renamed = (first[0], "first.example", "second.example")
    inside = ["nsenter", "--uts", "--target", str(agent.pid)]
    subprocess.run([*inside, "hostname", "second.example"], check=True)
    wait_for("the new name", lambda: listed() == {renamed})
    doctor = [*inside, *program, "doctor"]
    said = subprocess.run(doctor, env=service.environ, capture_output=True, text=True).stdout
    assert "ok agent: 'first.example' is kept up to date from second.example" in said
    end(agent)
    restarted = ["unshare", "--uts", *rename, "second.example", *program, "agent", "--once"]
    subprocess.run(restarted, env=service.environ, check=True)
    assert listed() == {renamed}


def test_a_file_where_the_state_directory_should_be_is_called_no_directory(
    settings: Settings,
) -> None:
    settings.state_dir.touch()
    with pytest.raises(ConfigError, match="cannot be locked: Not a directory"):
        with identity.only_one(settings):
            pass
