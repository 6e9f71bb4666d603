from __future__ import annotations

import logging
import os
import pwd
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import psutil
import pytest

from fastx_list.agent import process as process_module
from fastx_list.agent import processes as processes_module
from fastx_list.agent import sources
from fastx_list.agent.facts import Facts
from fastx_list.agent.keep import Agent
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.processes import TURNS
from fastx_list.agent.sources import load_sources
from fastx_list.agent.sources.tigervnc import TigerVnc, VncSession
from fastx_list.agent.x11 import socket_path
from fastx_list.agent.xserver import XServers, parse_args
from fastx_list.config import ConfigError, Settings
from fastx_list.store import Store
from tests.support import Processes, Service, program, wait_for
from tests.system.sessions import free_display

USUAL = {"xrdp", "xpra", "x2go", "wayland", "tigervnc", "other", "spool"}
DOCS = Path(__file__).parents[2] / "docs" / "sessions.md"


def listed(settings: Settings) -> set[str]:
    return {
        name
        for name, source in load_sources(settings).items()
        if not isinstance(source, XServers) or source.listed
    }


def test_the_usual_kinds_are_looked_for(settings: Settings) -> None:
    assert listed(settings) == USUAL


def test_a_setting_says_which_kinds_are_wanted(settings: Settings) -> None:
    assert listed(replace(settings, sources=("xrdp", "xvfb"))) == {"xrdp", "xvfb"}
    with pytest.raises(
        ConfigError,
        match="FASTX_LIST_SOURCES takes names out of other spool tigervnc .*, not nonsense",
    ):
        load_sources(replace(settings, sources=("xrdp", "nonsense")))


def test_a_source_that_cannot_be_loaded_costs_the_rest_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = EntryPoint("broken", "no_such_module:Source", sources.GROUP)
    monkeypatch.setattr(sources, "entry_points", lambda group: EntryPoints([broken]))
    assert listed(settings) == USUAL
    assert "the source broken (no_such_module:Source) cannot be loaded" in caplog.text


def test_another_packages_source_is_asked_before_those_that_take_any_server(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = EntryPoint("theirs", f"{__name__}:Named", sources.GROUP)
    monkeypatch.setattr(sources, "entry_points", lambda group: EntryPoints([theirs]))
    loaded = load_sources(settings)
    ours = ["xrdp", "xpra", "x2go", "wayland"]
    take_any = ["tigervnc", "other", "xvfb", "xephyr", "xorg"]
    assert list(loaded) == [*ours, "theirs", *take_any, "spool"]
    assert isinstance(loaded["theirs"], Named)
    assert "theirs" not in load_sources(replace(settings, sources=("xrdp",)))


def test_another_packages_source_cannot_take_the_name_of_one_of_ours(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = [EntryPoint(name, f"{__name__}:Named", sources.GROUP) for name in ("xrdp", "spool")]
    monkeypatch.setattr(sources, "entry_points", lambda group: EntryPoints(theirs))
    assert not any(isinstance(source, Named) for source in load_sources(settings).values())
    assert "the name xrdp is taken" in caplog.text and "the name spool is taken" in caplog.text


@pytest.mark.parametrize(
    "wrong", [{"clients": "many"}, {"params": {"x": object()}}, {"started": float("inf")}]
)
def test_what_no_session_can_be_is_skipped_and_said(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture, wrong: dict[str, Any]
) -> None:
    class Wrong:
        def scan(self, machine: Machine) -> Iterator[Facts]:
            yield Facts(identity="good", login="alice")
            yield Facts(identity="wrong", login="alice", **wrong)

    agent = Agent(settings, store, {"wrong": Wrong()})
    agent.scan()
    assert len(store.snapshot().records) == 1 and "session 'wrong': skipped" in caplog.text


def test_what_a_server_has_just_forked_is_no_session(processes: Processes, tmp_path: Path) -> None:
    shutil.copy(os.path.realpath("/bin/sh"), tmp_path / "Xtigervnc")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + socket_path(98))
        listener.listen()
        server = processes.start(
            [
                str(tmp_path / "Xtigervnc"),
                "-c",
                "(while kill -0 $$; do sleep 1; done) & wait",
                "Xtigervnc",
                ":98",
            ],
            "forking",
            pass_fds=[listener.fileno()],
        )
    machine, source = Machine(), TigerVnc()
    wait_for(
        "the copy",
        lambda: [
            each for each in psutil.Process(server.pid).children() if each.name() == "Xtigervnc"
        ],
    )
    for _ in range(3):
        machine.look()
        # Or three: the copy forks, too.
        assert (
            len(
                [
                    process
                    for process in machine.named(["Xtigervnc"])
                    if process.args[-1:] == [":98"]
                ]
            )
            >= 2
        )
        found = [facts.server_pid for facts in source.scan(machine) if facts.display == 98]
        assert found == [server.pid]
    source.close(machine)


def test_a_server_whose_parent_takes_no_note_of_its_end_has_ended_for_good(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "YOUNG_SECONDS", 0.0)
    monkeypatch.setattr(processes_module, "TURN_SECONDS", 0.0)
    shutil.copy(os.path.realpath("/bin/sleep"), tmp_path / "Xtigervnc")
    server = processes.start([str(tmp_path / "Xtigervnc"), "600"], "server")
    machine, source = Machine(), Named()
    machine.look()
    assert server.pid in [facts.server_pid for facts in source.scan(machine)]
    os.kill(server.pid, signal.SIGKILL)
    wait_for("its end", lambda: psutil.Process(server.pid).status() == psutil.STATUS_ZOMBIE)
    for _ in range(2 * TURNS):
        machine.look()
        assert server.pid not in [facts.server_pid for facts in source.scan(machine)]
    source.close(machine)


class Named(TigerVnc):
    """Takes whatever has the name of a server."""

    def session(self, process: Process, machine: Machine) -> VncSession:
        return Anything(process, 98, {}, machine)


class Anything(VncSession):
    is_x_server = False


def test_the_example_in_the_documentation_works(
    service: Service, processes: Processes, tmp_path: Path
) -> None:
    """With an X server of the name it looks for, and installed as its entry point says."""
    server = program("Xtigervnc", "tigervnc-standalone-server")
    blocks = dict(
        re.findall(r"```(python|ini)\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    )
    assert len(blocks["python"].splitlines()) <= 30
    packages = tmp_path / "packages"
    installed = packages / "my_package-1.0.dist-info"
    installed.mkdir(parents=True)
    (packages / "my_package.py").write_text(blocks["python"])
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    name = re.search(r"(\w+) = (my_package:\w+)", blocks["ini"])
    assert name is not None and "fastx_list.sources =" in blocks["ini"]
    (installed / "entry_points.txt").write_text(f"[fastx_list.sources]\n{name[1]} = {name[2]}\n")
    shutil.copy(server, tmp_path / "Xmine")
    display = free_display()
    options = [f":{display}", "-rfbport", str(6900 + display), "-SecurityTypes", "None"]
    mine = processes.start([str(tmp_path / "Xmine"), *options], "mine")
    service.environ["PYTHONPATH"] = os.pathsep.join(
        [str(packages), os.environ.get("PYTHONPATH", "")]
    )
    processes.start([sys.executable, "-m", "fastx_list", "agent"], "agent", service.environ)
    wait_for("the store", lambda: (service.state / "sessions.db").exists())
    login = pwd.getpwuid(os.geteuid()).pw_name

    def session() -> dict[str, Any] | None:
        found = service.stored(login)
        return next((members for members in found if members["serverPid"] == mine.pid), None)

    found = wait_for("its session", session)
    assert (found["display"], found["clients"], found["windowMode"]) == (display, 0, "desktop")


@pytest.mark.parametrize(
    ("line", "display", "options"),
    [
        (
            "Xvnc :1 -geometry 800x600 -localhost -rfbport 5999",
            1,
            {"geometry": "800x600", "localhost": "", "rfbport": "5999"},
        ),
        ("Xvnc -Geometry=800x600 --rfbport=0 :12", 12, {"geometry": "800x600", "rfbport": "0"}),
        ("Xvfb :3 -screen 0 1280x720x24 -noreset", 3, {"screen": "1280x720x24", "noreset": ""}),
        ("Xephyr -screen 800x600 :4", 4, {"screen": "800x600"}),
        ("Xvnc -desktop :9 :5 -auth", 5, {"desktop": ":9", "auth": ""}),
        ("Xvnc -displayfd 3", None, {"displayfd": "3"}),
        ("", None, {}),
        ("Xvnc :123456 :x", None, {}),
    ],
)
def test_a_command_line_is_read_as_the_server_reads_it(
    line: str, display: int | None, options: dict[str, str]
) -> None:
    assert parse_args(line.split()) == (display, options)


def test_failures_of_one_session_leave_the_others_of_its_kind(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(XServers):
        programs = (Path("/proc/self/comm").read_text().strip(),)

        def recognises(self, process: Any, machine: Machine) -> bool:
            return bool(process.pid == os.getpid())

        def session(self, process: Any, machine: Machine) -> None:
            raise RuntimeError("hostile")

    machine = Machine()
    machine.look()
    with caplog.at_level(logging.WARNING):
        assert list(Broken().scan(machine)) == []
    assert f"process {os.getpid()} of" in caplog.text and "RuntimeError: hostile" in caplog.text
