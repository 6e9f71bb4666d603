"""SQLite files that are damaged, and places where no SQLite store can be."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastx_list.model.server import Server
from fastx_list.store import Lease, Store, StoreError, open_store, sqlite_harm
from tests.store.common import NOW, address, by_id, make_session
from tests.support import Service, fetch, needs_root, wait_for


def garble(file: Path) -> None:
    """Write over all pages of ``file`` but the first, and over its log."""
    rng = random.Random(1)
    for each in (file, file.with_name(f"{file.name}-wal")):
        if each.exists():
            with each.open("r+b") as raw:
                raw.seek(4096 if each == file else 0)
                raw.write(rng.randbytes(max(0, each.stat().st_size - raw.tell())))


def overwrite(file: Path) -> None:
    for each in (file, file.with_name(f"{file.name}-wal")):
        each.write_bytes(b"no database" * 1000)


def cut(file: Path) -> None:
    file.with_name(f"{file.name}-wal").unlink(missing_ok=True)
    os.truncate(file, file.stat().st_size // 2 // 4096 * 4096)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets damage last as soon as it was found."""
    monkeypatch.setattr(sqlite_harm, "LASTING_SECONDS", 0.0)


def beat(store: Store) -> None:
    store.heartbeat(Server("s1", "one.example"), Lease("holder", "1", "one.example", 60))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("harm", [garble, overwrite, cut])
def test_a_damaged_file_is_set_aside_by_who_mends_and_by_nobody_else(
    database: Path, harm: Callable[[Path], None]
) -> None:
    first = open_store(address(database))
    first.observe("s1", by_id(*(make_session(n) for n in range(200))))
    with sqlite3.connect(database) as db:
        db.execute("PRAGMA wal_checkpoint")
    db.close()
    first.close()
    harm(database)
    reader, agent = open_store(address(database)), open_store(address(database), mends=True)
    for _ in range(2):
        with pytest.raises(StoreError, match="it is damaged: a running agent sets it aside"):
            reader.snapshot()
    with pytest.raises(StoreError, match="was damaged, is now sessions.db.damaged-"):
        agent.recall("s1")
    assert len(sqlite_harm.aside(database)) == 1
    beat(agent)
    agent.observe("s1", by_id(make_session()), Lease("holder", "1", "one.example", 60))
    assert [record.id for record in reader.snapshot().records] == ["s1-1"]
    reader.close()
    agent.close()
    assert not list(database.parent.glob(".*"))


@pytest.mark.usefixtures("quick")
def test_what_can_still_be_read_of_a_damaged_file_is_in_the_new_one(database: Path) -> None:
    agent = open_store(address(database), mends=True)
    agent.observe("s1", by_id(make_session()))
    agent.set_params("s1-1", "alice", {"name": "kept"})
    agent.revoke({"token": NOW + 10**9})
    agent.close()
    with sqlite3.connect(database) as db:
        [root] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'server'").fetchone()
        [size] = db.execute("PRAGMA page_size").fetchone()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    with database.open("r+b") as raw:
        raw.seek((root - 1) * size)
        raw.write(b"\xff" * size)
    with pytest.raises(StoreError, match="all tokens that were revoked still are"):
        beat(agent)
    beat(agent)
    assert set(agent.snapshot().revoked) == {"token"}
    agent.observe("s1", by_id(make_session()))
    [record] = agent.snapshot().records
    assert record.text is not None and '"kept"' in record.text
    agent.close()


def test_damage_that_is_over_soon_sets_nothing_aside(database: Path) -> None:
    agent = open_store(address(database), mends=True)
    agent.observe("s1", by_id(make_session()))
    agent.close()
    good = database.read_bytes()
    database.write_bytes(b"x" * len(good))
    with pytest.raises(StoreError, match="it is damaged"):
        beat(agent)
    database.write_bytes(good)
    beat(agent)
    assert not sqlite_harm.aside(database) and len(agent.snapshot().records) == 1
    agent.close()


@pytest.mark.usefixtures("quick")
def test_a_disk_that_damages_file_after_file_is_not_filled_with_them(database: Path) -> None:
    agent = open_store(address(database), mends=True)
    for number in range(sqlite_harm.MAX_ASIDE):
        database.with_name(f"{database.name}.damaged-{number}").write_bytes(b"x")
    database.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="damaged, again; mend the disk"):
        beat(agent)
    assert len(sqlite_harm.aside(database)) == sqlite_harm.MAX_ASIDE
    agent.close()


@pytest.mark.usefixtures("quick")
def test_a_full_disk_leaves_the_damaged_file_where_it_is(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(28, os.strerror(28))

    database.write_bytes(b"no database" * 1000)
    monkeypatch.setattr(Path, "rename", refuse)
    agent = open_store(address(database), mends=True)
    with pytest.raises(StoreError, match="No space left"):
        beat(agent)
    assert [each.name for each in database.parent.iterdir()] == [database.name]
    agent.close()


def test_the_log_of_a_file_that_was_removed_is_not_that_of_the_next_one(database: Path) -> None:
    store = open_store(address(database))
    store.observe("s1", by_id(make_session()))
    other = sqlite3.connect(database)  # so that closing leaves the log
    other.execute("SELECT * FROM session").fetchall()
    store.close()
    database.unlink()
    store.observe("s1", by_id(make_session(2)))
    assert [record.id for record in store.snapshot().records] == ["s1-2"]
    other.close()
    store.close()
    with sqlite3.connect(database) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_a_network_file_system_is_refused_by_each_command_in_one_line(
    database: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status = os.stat(tmp_path)
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(sqlite_harm, "MOUNTS", mounts)
    for kind, is_refused in (("nfs4", True), ("ext4", False), ("fuse.sshfs", True)):
        mounts.write_text(f"31 1 {device} / /home rw,noatime shared:1 - {kind} server:/home rw\n")
        if is_refused:
            with pytest.raises(StoreError, match=rf"\({kind}\).*set FASTX_LIST_STORE to a file on"):
                open_store(address(database / "not" / "there" / "yet"))
        else:
            open_store(address(database))
    mounts.unlink()
    open_store(address(database))


def test_a_database_on_a_read_only_file_system_is_one_line_that_says_what_to_do(
    service: Service,
) -> None:
    needs_root()
    service.run("agent", "--once")
    sqlite3.connect(service.state / "sessions.db").execute(
        "PRAGMA wal_checkpoint(TRUNCATE)"
    ).close()
    for suffix in ("-wal", "-shm"):
        (service.state / f"sessions.db{suffix}").unlink(missing_ok=True)
    program = [sys.executable, "-m", "fastx_list"]
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    store = {**service.environ, "FASTX_LIST_STORE": address(service.state / "sessions.db")}
    elsewhere = {**store, "FASTX_LIST_STATE_DIR": str(service.state.parent / "elsewhere")}
    for environ, command in (
        (store, "ls"),
        (elsewhere, "ls"),
        (elsewhere, "agent --once"),
        (elsewhere, "doctor"),
    ):
        done = subprocess.run(
            [
                "unshare",
                "--mount",
                "sh",
                "-c",
                mount,
                str(service.state),
                *program,
                *command.split(),
            ],
            env=environ,
            capture_output=True,
            text=True,
        )
        said = (done.stderr + done.stdout).splitlines()
        lines = [line for line in said if "is read-only" in line]
        assert done.returncode == (2 if command == "doctor" else 1) and lines, said
        assert all("make it writable, or set FASTX_LIST_STORE" in line for line in lines)
        assert "Traceback" not in done.stderr


def test_a_database_that_is_damaged_while_all_runs_heals_and_revoked_tokens_stay_so(
    service: Service,
) -> None:
    spool = service.state / "spool"
    spool.mkdir(parents=True)
    (spool / "a.json").write_text('{"login": "alice", "started": 1}')
    # One worker: another might not have read of the revocation before it is lost
    service.environ |= {"FASTX_LIST_SOURCES": "spool", "WEB_CONCURRENCY": "1"}
    service.start_agent()
    service.start_list()
    token, revoked = service.token("alice"), service.token("alice")
    wait_for("the session", lambda: len(service.sessions(token)) == 1)
    service.run("token", "revoke", revoked)
    wait_for("its end", lambda: fetch(f"{service.url}/api/list/{revoked}").status == 401)
    overwrite(service.state / "sessions.db")
    wait_for("a new one", lambda: sqlite_harm.aside(service.state / "sessions.db"))
    wait_for(
        "good answers", lambda: "Warning" not in fetch(f"{service.url}/api/list/{token}").headers
    )
    assert len(service.sessions(token)) == 1
    assert fetch(f"{service.url}/api/list/{revoked}").status == 401
    assert "is now sessions.db.damaged-" in service.processes.log("agent")
    done = service.run("doctor", check=False)
    assert done.returncode == 1 and "was damaged and set aside" in done.stdout


def test_an_error_of_a_disk_without_room_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says no more than that when it can make no files beside the database."""
    error, file = sqlite3.OperationalError("disk I/O error"), tmp_path / "sessions.db"
    assert sqlite_harm.explain(error, file) == "disk I/O error"
    fields = list(os.statvfs(tmp_path))
    fields[4] = 0  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
    assert f"make room on the file system of {tmp_path}" in sqlite_harm.explain(error, file)


@pytest.mark.parametrize("bound", ["size=2m", "nr_inodes=9"])
def test_a_process_that_starts_on_a_full_disk_says_so(tmp_path: Path, bound: str) -> None:
    needs_root()
    disk = tmp_path / "disk"
    disk.mkdir()
    code = (
        "import os, sys\n"
        "from fastx_list.store import StoreError, open_store\n"
        "if os.fork() == 0:\n"
        "    store = open_store(sys.argv[1])\n"
        "    store.revoke({})\n"
        "    store.snapshot()\n"
        "    store.close()\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "try:\n"
        "    for number in range(1000):\n"
        "        with open(sys.argv[2] + str(number), 'wb') as file:\n"
        "            file.write(bytes(4096))\n"
        "except OSError:\n"
        "    pass\n"
        "try:\n"
        "    open_store(sys.argv[1], create=False).snapshot()\n"
        "except StoreError as error:\n"
        "    print(error)\n"
    )
    mount = f'mount -t tmpfs -o {bound},mode=700 tmpfs {disk} && exec "$@"'
    run = [sys.executable, "-c", code, address(disk / "sessions.db"), str(disk / "rest")]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, "sh", *run],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"make room on the file system of {disk}" in done.stdout
