from __future__ import annotations

import json
import os
import pwd
import time
from pathlib import Path
from typing import Any

import pytest

from fastx_list.agent.facts import Facts
from fastx_list.agent.files import FileBusy
from fastx_list.agent.limits import Limits
from fastx_list.agent.machine import Machine
from fastx_list.agent.serving import WRITING_SECONDS
from fastx_list.agent.sources import spool as spool_module
from fastx_list.agent.sources.spool import Spool
from tests.support import needs_root, wait_for

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "spool"
    directory.mkdir(mode=0o755)
    return directory


@pytest.fixture
def spool(directory: Path) -> Spool:
    return Spool(directory)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def write(path: Path, content: Any, age: float = 60) -> Path:
    """Write a session file that was finished ``age`` seconds ago."""
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    os.utime(path, (time.time() - age,) * 2)
    return path


def only(spool: Spool, machine: Machine) -> Facts:
    [facts] = spool.scan(machine)
    return facts


def test_a_file_is_a_session_for_as_long_as_it_is_there(
    spool: Spool, directory: Path, machine: Machine
) -> None:
    assert list(spool.scan(machine)) == []
    path = write(
        directory / "a.json",
        {
            "login": ME,
            "serverPid": os.getpid(),
            "geometry": "1280x720",
            "windowMode": "rootless",
            "started": 5,
            "command": "xterm",
            "appPid": 13,
            "clients": 1,
            "params": {"name": "x"},
            "display": 3,
            "cpuPercentage": 50.5,
            "videoRam": 8,
            "sharing": True,
            "disconnectTimeout": 30,
        },
    )
    assert only(spool, machine) == Facts(
        identity=f"spool:{b'a.json'.hex()}:{ME}:5",
        is_vouched=True,
        login=ME,
        server_pid=os.getpid(),
        geometry="1280x720",
        window_mode="rootless",
        started=5,
        command="xterm",
        app_pid=13,
        clients=1,
        params={"name": "x"},
        display=3,
        cpu_percentage=50.5,
        video_ram=8,
        sharing=True,
        disconnect_timeout=30,
        stated=True,
    )
    path.unlink()
    assert list(spool.scan(machine)) == []


def test_a_file_that_has_not_changed_is_not_read_again(
    spool: Spool, directory: Path, machine: Machine
) -> None:
    path = write(directory / "a.json", {"login": ME})
    wait_for("the file to be one of the past", lambda: only(spool, machine) is only(spool, machine))
    write(path, {"login": ME, "clients": 1})
    assert only(spool, machine).clients == 1


def test_replacing_a_file_keeps_the_session_and_another_start_is_another_one(
    spool: Spool, directory: Path, machine: Machine
) -> None:
    write(directory / "a.json", {"login": ME, "started": 5})
    identity = only(spool, machine).identity
    write(directory / "a.new", {"login": ME, "started": 5, "clients": 2}).rename(
        directory / "a.json"
    )
    assert only(spool, machine).identity == identity and only(spool, machine).clients == 2
    write(directory / "a.json", {"login": ME, "started": 6})
    assert only(spool, machine).identity != identity


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not well-formed JSON"),
        (b'{"login": "x"', "not well-formed JSON"),
        (b"\xff\xfe", "not well-formed JSON"),
        (b"[" * 50_000, "not well-formed JSON"),
        (b'{"login": "x", "clients": NaN}', "not well-formed JSON"),
        (b"[]", "Invalid input type"),
        (b"{}", "login: Missing data for required field"),
        ({"login": ME, "geometri": "1x1"}, "geometri: Unknown field"),
        ({"login": ME, "geometry": "big"}, "geometry: takes WIDTHxHEIGHT, such as 1280x720"),
        ({"login": ME, "clients": -1}, "clients: "),
        ({"login": ME, "clients": 1.5}, "clients: "),
        ({"login": ME, "windowMode": "window"}, "windowMode: "),
        ({"login": ""}, "login: "),
        ({"login": 5}, "login: "),
        ({"login": ME, "command": "x" * 5000}, "command: "),
        ({"login": ME, "params": {"a": "x" * 9000}}, "params: takes at most 8192 bytes"),
        (b'{"login": "\\ud800"}', "not well-formed JSON"),
        (b'{"login": "x", "params": {"a": "\\ud800"}}', "params: takes Unicode text"),
        (b" " * 70_000, "it is over 65536 bytes"),
    ],
)
def test_a_malformed_file_is_reported_once_and_the_rest_is_listed(
    spool: Spool,
    directory: Path,
    machine: Machine,
    caplog: pytest.LogCaptureFixture,
    content: Any,
    word: str,
) -> None:
    write(directory / "bad.json", content)
    write(directory / "good.json", {"login": ME})
    for _ in range(3):
        assert only(spool, machine).login == ME
    [record] = caplog.records
    assert (
        f"session file {directory / 'bad.json'}: skipped: " in record.getMessage()
        and word in record.getMessage()
    )
    assert "\n" not in record.getMessage() and len(record.getMessage()) < 600
    write(directory / "bad.json", {"login": ME, "clients": 7})
    assert len(list(spool.scan(machine))) == 2


def test_a_file_that_is_being_written_keeps_what_it_said_before(
    spool: Spool, directory: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(directory / "a.json", {"login": ME, "clients": 1})
    assert only(spool, machine).clients == 1
    write(path, b'{"login": "', age=0)
    assert only(spool, machine).clients == 1 and not caplog.records


@pytest.mark.parametrize("age", [0, -1, -600, 600])
def test_an_unfinished_file_is_one_whatever_the_clock_says_that_dates_it(
    spool: Spool,
    directory: Path,
    machine: Machine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    age: float,
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    path = write(directory / "a.json", {"login": ME, "clients": 1}, age)
    assert only(spool, machine).clients == 1
    for content in (b'{"log', b'{"login": "'):  # more of it gives it more time
        write(path, content, age)
        for _ in range(2):
            assert only(spool, machine).clients == 1 and not caplog.records
            now += WRITING_SECONDS / 2
    assert list(spool.scan(machine)) == [] and len(caplog.records) == 1
    write(path, {"login": ME, "clients": 2}, age)
    assert only(spool, machine).clients == 2
    write(path, b'{"login": "', age)
    assert only(spool, machine).clients == 2, "it is written once more"


def test_an_unfinished_file_that_cannot_be_read_for_a_while_gets_no_more_time(
    spool: Spool,
    directory: Path,
    machine: Machine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FileBusy("cannot be read now")

    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    path = write(directory / "a.json", {"login": ME, "clients": 1})
    assert only(spool, machine).clients == 1
    write(path, b'{"login": "', age=0)
    assert only(spool, machine).clients == 1
    with monkeypatch.context() as patch:
        patch.setattr(spool_module, "read_regular", fail)
        assert only(spool, machine).clients == 1
    now += WRITING_SECONDS
    assert list(spool.scan(machine)) == []


def test_only_json_files_count(
    spool: Spool, directory: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.new", ".hidden.json", "json", "a.json.bak"):
        write(directory / name, b"anything")
    assert list(spool.scan(machine)) == [] and not caplog.records


def test_what_is_no_regular_file_is_reported_and_never_waited_for(
    spool: Spool, directory: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(directory / "pipe.json")
    (directory / "directory.json").mkdir()
    (directory / "link.json").symlink_to(write(directory / "elsewhere", {"login": ME}))
    (directory / "loop.json").symlink_to("loop.json")
    assert list(spool.scan(machine)) == []
    assert len(caplog.records) == 4 and all(
        "no regular file" in record.getMessage() for record in caplog.records
    )


def test_a_name_that_is_no_text_is_listed_safely(
    spool: Spool, directory: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = os.fsencode(directory) + b"/\xff\n.json", os.fsencode(directory) + b"/\xfe.json"
    for name, content in ((bad, b"{"), (good, json.dumps({"login": ME}).encode())):
        Path(os.fsdecode(name)).write_bytes(content)
        os.utime(name, (1, 1))
    assert only(spool, machine).login == ME
    assert [record.getMessage().encode() for record in caplog.records]


@pytest.mark.parametrize("mode", [0o1777, 0o775])
def test_where_others_can_write_a_file_speaks_for_its_owner_only(
    spool: Spool, directory: Path, machine: Machine, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    needs_root()
    directory.chmod(mode)
    games, news = pwd.getpwnam("games").pw_uid, pwd.getpwnam("news").pw_uid
    files = (
        ("own", "games", games),
        ("roots", "games", 0),
        ("stolen", "games", news),
        ("unknown", "no-such", news),
    )
    for name, login, owner in files:
        os.chown(write(directory / f"{name}.json", {"login": login, "command": name}), owner, -1)
    assert {facts.command for facts in spool.scan(machine)} == {"own", "roots"}
    assert len(caplog.records) == 2 and all(
        "its owner is neither root nor" in record.getMessage() for record in caplog.records
    )
    os.chown(directory / "own.json", news, -1)
    assert {facts.command for facts in spool.scan(machine)} == {"roots"}


def test_a_name_that_another_user_has_taken_says_nothing_of_its_first_owner_any_more(
    spool: Spool, directory: Path, machine: Machine
) -> None:
    needs_root()
    directory.chmod(0o1777)
    games, news = pwd.getpwnam("games").pw_uid, pwd.getpwnam("news").pw_uid
    path = write(directory / "a.json", {"login": "games"})
    os.chown(path, games, -1)
    assert only(spool, machine).login == "games"
    for owner, listed in ((0, True), (games, True), (news, False)):
        path.unlink()
        os.chown(write(path, b'{"login"', age=0), owner, -1)
        assert bool(list(spool.scan(machine))) is listed, owner


def test_a_file_of_a_user_without_a_login_leaves_no_doubt_of_others(
    spool: Spool, directory: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_root()
    monkeypatch.setattr(spool_module, "payer", lambda uid: "subordinate users of games")
    directory.chmod(0o1777)
    path = write(directory / "a.json", {"login": "games"})
    os.chown(path, 165_999, -1)
    assert list(spool.scan(machine)) == [] and machine.unread == set()


def test_processes_that_cannot_be_kept_are_reported_once(
    spool: Spool, directory: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        spool._serving.problem = "it cannot be written"
        write(directory / f"{number}.json", {"login": ME})
        list(spool.scan(machine))
    assert caplog.text.count("it cannot be written") == 1


def test_where_only_root_can_write_the_owner_does_not_matter(
    spool: Spool, directory: Path, machine: Machine
) -> None:
    needs_root()
    os.chown(write(directory / "a.json", {"login": "games"}), pwd.getpwnam("news").pw_uid, -1)
    assert only(spool, machine).login == "games"
    (directory / "a.json").chmod(0o666)
    assert list(spool.scan(machine)) == []


def test_a_directory_that_cannot_be_read_ends_no_session(
    spool: Spool, directory: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    write(directory / "a.json", {"login": ME})
    first = only(spool, machine)
    directory.rename(directory.with_name("away"))
    directory.write_text("in the way")
    assert only(spool, machine) is first
    assert "stay as they were" in caplog.text
    directory.unlink()
    assert list(spool.scan(machine)) == []


def test_where_everybody_can_write_a_user_has_so_many_files_and_no_more(
    spool: Spool, directory: Path
) -> None:
    needs_root()
    directory.chmod(0o1777)
    machine = Machine(Limits(sessions=3))
    games, news = (pwd.getpwnam(login).pw_uid for login in ("games", "news"))

    def write_for(login: str, owner: int, *names: str) -> None:
        for name in names:
            path = write(directory / f"{name}.json", {"login": login, "command": name})
            os.chown(path, owner, -1)

    def commands() -> set[str | None]:
        machine.limits.begin(is_first=False)
        return {facts.command for facts in spool.scan(machine)}

    write_for("games", games, "g1", "g2")
    assert commands() == {"g1", "g2"} and not machine.limits.over
    write_for("games", games, *(f"late{number}" for number in range(20)))
    write_for("news", news, "n1")
    write_for("games", 0, *(f"root{number}" for number in range(5)))
    found = commands()
    assert found > {"g1", "g2", "n1", *(f"root{number}" for number in range(5))}
    assert len(found) == 9 and machine.limits.over == {games}
    assert commands() == found and machine.limits.over == {games}
    (directory / "g1.json").unlink()
    commands()
    assert len(commands()) == 9
