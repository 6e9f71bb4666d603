from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fastx_list.agent import start
from fastx_list.agent.facts import Facts
from fastx_list.agent.keep import Agent
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process, read_stat
from fastx_list.agent.start import SessionJson, overrides
from fastx_list.config import Settings
from fastx_list.model.session import Start, decode
from fastx_list.store import Store
from tests.agent.scripted import Scripted, facts, listed


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.json"


def server(**environ: str) -> Process:
    stat = read_stat(os.getpid())
    assert stat is not None
    return Process(1, 0, stat, _environ=environ)


def test_a_file_says_what_a_session_starts_with(path: Path, machine: Machine) -> None:
    settings = SessionJson(path)
    assert settings.read(machine) == Start()
    path.write_text(
        '{"cpuPercentage": 50.5, "videoRam": 8, "sharing": false, "disconnectTimeout": 30}'
    )
    assert settings.read(machine) == Start(
        cpu_percentage=50.5, video_ram=8, sharing=False, disconnect_timeout=30
    )
    path.write_text('{"sharing": null}')
    assert settings.read(machine) == Start()
    path.unlink()
    assert settings.read(machine) == Start()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{\n "sharing": true,\n', "line 3: it is not well-formed JSON"),
        (
            '{\n "sharing": true,\n "videoRam": -1\n}',
            "line 3: videoRam: takes a whole number of kB",
        ),
        ('{"videoRam": 1.5}', "line 1: videoRam: takes a whole number of kB"),
        ('{\n "cpuPercentage": "much"}', "line 2: cpuPercentage: takes a number, 0 or more"),
        ('{\n\n "speed": 1}', "line 3: speed: Unknown field"),
        ("[]", "Invalid input type"),
        ("[" * 50_000, "the last good ones stay in force"),
        (" " * 70_000, "it is over 65536 bytes"),
        ("\udcff", "the last good ones stay in force"),
    ],
)
def test_a_broken_file_is_reported_and_the_last_good_one_stays(
    path: Path, machine: Machine, caplog: pytest.LogCaptureFixture, content: str, words: str
) -> None:
    settings = SessionJson(path)
    path.write_text('{"videoRam": 8}')
    assert settings.read(machine) == Start(video_ram=8)
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert settings.read(machine) == settings.read(machine) == Start(video_ram=8)
    [record] = caplog.records
    assert str(path) in record.getMessage() and words in record.getMessage()
    path.write_text('{"videoRam": 9}')
    assert settings.read(machine) == Start(video_ram=9)


def test_a_file_that_could_never_be_read_says_nothing_yet(
    path: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SessionJson(path)
    path.mkdir()
    assert settings.read(machine) is settings.read(machine) is None
    [record] = caplog.records
    said = f"session settings {path}: Is a directory; sessions get them once they can be read"
    assert record.getMessage() == said and list(machine.problems.values()) == [said]
    path.rmdir()
    path.write_text('{"videoRam"')
    assert settings.read(machine) is settings.read(machine) is None
    assert "line 1: it is not well-formed JSON" in str(machine.problems)
    path.unlink()
    machine.problems.clear()
    assert settings.read(machine) == Start() and machine.problems == {}


def test_a_file_that_is_back_as_it_was_is_no_problem_any_more(
    path: Path, machine: Machine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SessionJson(path)
    path.write_text('{"videoRam": 8}')
    assert settings.read(machine) == Start(video_ram=8)
    for _ in range(2):
        machine.problems.clear()
        with monkeypatch.context() as patch:
            patch.setattr(start, "read_file", fail)
            assert settings.read(machine) == Start(video_ram=8)
        assert "Input/output error; the last good ones stay in force" in str(machine.problems)
        machine.problems.clear()
        assert settings.read(machine) == Start(video_ram=8) and machine.problems == {}
    assert len(caplog.records) == 2, "it is said each time"


def test_a_file_that_has_one_name_again_is_taken(path: Path, machine: Machine) -> None:
    settings = SessionJson(path)
    path.write_text('{"videoRam": 8}')
    os.link(path, path.with_name("other"))
    assert settings.read(machine) is None and "several names" in str(machine.problems)
    path.with_name("other").unlink()
    assert settings.read(machine) == Start(video_ram=8)


def fail(path: Path) -> tuple[bytes, os.stat_result]:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_sessions_that_begin_while_it_cannot_be_read_get_what_it_says_then(
    settings: Settings, store: Store
) -> None:
    settings.state_dir.mkdir()
    settings.session_json.mkdir()
    before = facts("before", clients=1)
    source = Scripted(before)
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    source.facts = [before, facts("says", video_ram=5), facts("gone")]
    agent.scan()
    source.facts = [before, facts("says")]
    agent.scan()
    assert {each.video_ram for each in listed(store).values()} == {None, 5}
    settings.session_json.rmdir()
    settings.session_json.write_text(json.dumps({"videoRam": 22, "sharing": True}))
    for _ in range(2):
        agent.scan()
        started = {(each.video_ram, each.sharing) for each in listed(store).values()}
        assert started == {(22, True), (5, True)}
        settings.session_json.write_text(json.dumps({"videoRam": 23}))


def test_a_launcher_overrides_and_names(machine: Machine) -> None:
    said, params = overrides(
        server(
            FASTX_LIST_SESSION_NAME="Thesis",
            FASTX_LIST_SESSION_CPU_PERCENTAGE="12.5",
            FASTX_LIST_SESSION_VIDEO_RAM="64",
            FASTX_LIST_SESSION_SHARING="true",
            FASTX_LIST_SESSION_DISCONNECT_TIMEOUT="0",
        ),
        machine,
        "session",
    )
    assert params == {"name": "Thesis"}
    assert said == Start(cpu_percentage=12.5, video_ram=64, sharing=True, disconnect_timeout=0)
    assert overrides(server(FASTX_LIST_SESSION_NAME=""), machine, "session") == (Start(), {})


@pytest.mark.parametrize("value", ["007", "-1", "1e9", "lots", "1.5", "{}", "9" * 400, "\ufffd"])
def test_what_a_launcher_gets_wrong_is_said_and_ignored(
    machine: Machine, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    said, params = overrides(
        server(FASTX_LIST_SESSION_VIDEO_RAM=value, FASTX_LIST_SESSION_NAME="n" * 999),
        machine,
        "session",
    )
    assert (said, params) == (Start(), {"name": "n" * 256})
    assert (
        "session, FASTX_LIST_SESSION_VIDEO_RAM: ignored: takes a whole number of kB" in caplog.text
    )


def test_a_later_edit_touches_new_sessions_only(settings: Settings, store: Store) -> None:
    class Seen:
        def __init__(self) -> None:
            self.facts: list[Facts] = []

        def scan(self, machine: Machine) -> Iterable[Facts]:
            return self.facts

    def members(**more: Any) -> dict[str, Any]:
        records = [
            decode(record.text) for record in store.snapshot().records if record.text is not None
        ]
        return {session.login: session.video_ram for session in records}

    source = Seen()
    settings.state_dir.mkdir(exist_ok=True)
    settings.session_json.write_text(json.dumps({"videoRam": 1}))
    agent = Agent(settings, store, {"source": source})
    source.facts = [
        Facts(identity="a", login="alice"),
        Facts(identity="b", login="bob", video_ram=5),
    ]
    agent.scan()
    settings.session_json.write_text(json.dumps({"videoRam": 22}))
    source.facts = [
        Facts(identity="a", login="alice", clients=1),
        Facts(identity="b", login="bob", video_ram=5),
        Facts(identity="c", login="carol"),
    ]
    agent.scan()
    assert members() == {"alice": 1, "bob": 5, "carol": 22}
    Agent(settings, store, {"source": source}).scan()
    assert members() == {"alice": 1, "bob": 5, "carol": 22}
