from __future__ import annotations

import errno
import json
import os
import re
import sqlite3
from collections.abc import Iterable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from fastx_list.agent import identity, sources
from fastx_list.agent.facts import Facts
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.sources.xrdp import Xrdp
from fastx_list.agent.xserver import XServers
from fastx_list.command import doctor_serving
from fastx_list.command.findings import Level
from fastx_list.config import Settings, load
from fastx_list.model.server import Server
from fastx_list.store import Lease, ServerTaken, Store
from tests.command.conftest import GAMES, Said
from tests.support import Service, needs_root


def test_on_a_fresh_machine_the_agent_is_missing_and_nothing_is_made(
    said: Said, tmp_path: Path
) -> None:
    findings = said()
    assert findings[Level.failure].startswith("agent: none has run yet") and (
        "systemctl start fastx-list-agent" in findings[Level.failure]
    )
    assert findings[Level.warning] == "" and "will be made on first use" in findings[Level.note]
    assert not (tmp_path / "state").exists()


def test_what_is_open_to_others_is_to_be_mended(said: Said, environ: dict[str, str]) -> None:
    state = Path(environ["FASTX_LIST_STATE_DIR"])
    (state / "spool").mkdir(parents=True)
    (state / "spool").chmod(0o777)
    (state / "secret").write_text("x" * 64)
    (state / "secret").chmod(0o644)
    with sqlite3.connect(state / "sessions.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    (state / "sessions.db").chmod(0o644)
    findings = said()
    wrong = findings[Level.warning] + findings[Level.failure]
    assert (
        "chmod +t" in wrong
        and "chmod 600" in wrong
        and "chmod o=" in wrong
        and "made by a newer fastx-list" in wrong
    )
    (state / "spool").chmod(0o1777)
    (state / "secret").chmod(0o600)
    (state / "sessions.db").unlink()
    assert said()[Level.warning] == "" and "closed to other users" in said()[Level.ok]


class Desktops:
    """A source as another package has it."""

    def scan(self, machine: Machine) -> Iterable[Facts]:
        return [Facts(identity=name, login="alice") for name in ("one", "two")]


class Servers(XServers):
    """One that looks for a program, which is this very process's."""

    programs = (Path("/proc/self/comm").read_text().strip(),)

    def recognises(self, process: Process, machine: Machine) -> bool:
        return False


class Failing:
    def scan(self, machine: Machine) -> Iterable[Facts]:
        raise RuntimeError("no licence")


def test_every_kind_of_session_is_named_as_the_settings_name_it(
    said: Said, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [
        EntryPoint(name, f"{__name__}:{kind}", sources.GROUP)
        for name, kind in (("nomachine", "Desktops"), ("xmine", "Servers"), ("bad", "Failing"))
    ]
    monkeypatch.setattr(sources, "entry_points", lambda group: EntryPoints(points))
    findings = said()
    assert "nomachine: 2 sessions" in findings[Level.ok].splitlines()
    [xmine] = [line for line in findings[Level.note].splitlines() if line.startswith("xmine: ")]
    assert re.fullmatch(
        rf"xmine: 0 sessions; [1-9][0-9]* process(es)? of {re.escape(Servers.programs[0])}", xmine
    )
    assert "bad: it fails, and its sessions are not seen: RuntimeError('no licence')" in (
        findings[Level.warning].splitlines()
    )
    for name in ("xrdp", "xpra", "x2go", "tigervnc", "spool"):
        assert re.search(
            rf"^{name}: [0-9]+ sessions?", findings[Level.note] + "\n" + findings[Level.ok], re.M
        )


def test_a_kind_that_runs_but_is_not_asked_for_can_be_added(
    said: Said, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Xrdp, "own_programs", Servers.programs)
    environ["FASTX_LIST_SOURCES"] = "spool"
    [line] = [line for line in said()[Level.note].splitlines() if line.startswith("xrdp: ")]
    assert line.endswith("not listed; FASTX_LIST_SOURCES can add it")
    monkeypatch.setattr(Xrdp, "own_programs", ("no-such-program",))
    assert "xrdp: " not in said()[Level.note]


def test_it_says_who_keeps_the_list_up_to_date_and_whether_two_agents_have_one_name(
    said: Said, settings: Settings, store: Store
) -> None:
    store.snapshot()
    assert "none is running as 'here'" in said()[Level.failure]
    server, lease = (
        Server("here", "first.example"),
        Lease(identity.read(settings), "1", "first.example", 3600),
    )
    store.heartbeat(server, lease)
    findings = said()
    assert "'here' is kept up to date from first.example" in findings[Level.ok]
    assert findings[Level.failure] == ""
    with pytest.raises(ServerTaken):
        store.heartbeat(server, Lease("other", "2", "second.example", 3600))
    assert (
        "second.example, also calls itself 'here'" in said()[Level.failure]
        and "FASTX_LIST_SERVER_ID" in said()[Level.failure]
    )
    identity.path(settings).write_text("0" * 32)
    assert "in use by another agent, on first.example" in said()[Level.failure]


@pytest.mark.parametrize("text", [None, ""])
def test_an_agent_whose_name_is_lost_is_called_no_other_one(
    said: Said, settings: Settings, store: Store, text: str | None
) -> None:
    lease = Lease(identity.read(settings), "1", "first.example", 3600)
    store.heartbeat(Server("here", "first.example"), lease)
    file = identity.path(settings)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    (settings.state_dir / "agent-here").write_text("1" * 32 + " another")  # of an earlier release
    failure = said()[Level.failure]
    assert "in use by another agent" not in failure
    assert f"is not known, as {file} " in failure and "systemctl restart" in failure


def test_a_file_without_the_servers_id_keeps_the_agent_from_starting(
    said: Said, environ: dict[str, str]
) -> None:
    del environ["FASTX_LIST_SERVER_ID"]
    file = load(environ).server_id_file
    file.parent.mkdir(mode=0o700)
    file.touch(mode=0o600)
    assert (
        f"agent: it does not start, as its server id is not known: {file}"
        in (said()[Level.failure])
    )
    file.unlink()
    assert "does not start" not in said()[Level.failure]


def test_the_exit_status_is_for_monitoring(service: Service) -> None:
    def status() -> int:
        done = service.run("doctor", check=False)
        assert "Traceback" not in done.stderr
        found = json.loads(service.run("doctor", "--json", check=False).stdout)
        marks = {"ok": "ok", "note": "--", "warning": "! ", "failure": "!!"}
        assert {marks[each["level"]] for each in found} == {
            line[:2] for line in done.stdout.splitlines()
        }
        return done.returncode

    assert status() == 2  # there is no agent
    service.run("agent", "--once")
    assert status() == 0
    service.environ["FASTX_LIST_SECRET"] = "x"
    assert status() == 1
    (service.state / "secret").write_text("short")
    assert status() == 2
    service.environ["FASTX_LIST_SOURCES"] = "nonsense"
    said = service.run("doctor", check=False).stdout
    assert "!! settings: FASTX_LIST_SOURCES takes names" in said
    service.environ["FASTX_LIST_SCAN_INTERVAL"] = "soon"
    said = service.run("doctor", check=False).stdout
    assert "!! settings: FASTX_LIST_SCAN_INTERVAL takes" in said and status() == 2


def _as_games(said: Said) -> dict[Level, str]:
    os.seteuid(GAMES)
    try:
        return said()
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE])
def test_what_cannot_be_looked_at_is_named_beside_all_else(
    said: Said, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: int
) -> None:
    """As on a disk that fails, or behind a mount whose server has forgotten it."""
    bad = tmp_path / "bad"
    environ["FASTX_LIST_SPOOL"] = str(bad / "spool")
    environ["FASTX_LIST_STORE"] = f"sqlite:///{bad}/sessions.db"
    monkeypatch.setattr(doctor_serving, "SOCKETS", bad)
    real = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        if isinstance(path, (str, Path)) and str(path).startswith(str(bad)):
            raise OSError(error, os.strerror(error), str(path))
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    findings = said()
    unseen = f"cannot be looked at: {os.strerror(error)}"
    assert f"spool: {bad}/spool {unseen}" in findings[Level.warning]
    assert f"store: {bad}/sessions.db {unseen}" in findings[Level.failure]
    assert f"list: {bad}/list.sock {unseen}" in findings[Level.note]
    assert "not there" not in "".join(findings.values())


def test_what_lies_in_a_closed_directory_is_named_beside_all_else(
    said: Said, environ: dict[str, str], public_dir: Path
) -> None:
    needs_root()
    (public_dir / "state").mkdir()
    os.chown(public_dir / "state", GAMES, GAMES)
    (public_dir / "closed").mkdir(mode=0o700)
    environ["FASTX_LIST_STATE_DIR"] = str(public_dir / "state")
    environ["FASTX_LIST_SPOOL"] = str(public_dir / "closed" / "spool")
    environ["FASTX_LIST_STORE"] = f"sqlite:///{public_dir}/closed/sessions.db"
    findings = _as_games(said)
    closed = public_dir / "closed"
    assert f"spool: {closed}/spool may not be looked into by games" in findings[Level.warning]
    assert (
        f"store: {closed}/sessions.db cannot be looked at: Permission denied"
        in (findings[Level.failure])
    )


def test_a_file_where_a_directory_should_be_is_called_one(
    said: Said, environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    environ["FASTX_LIST_SPOOL"] = str(file)
    assert f"spool: {file} is no directory" in said()[Level.warning]
    environ["FASTX_LIST_STATE_DIR"] = str(file)
    assert f"state directory: {file} is no directory" in said()[Level.failure]


def test_as_another_user_it_says_what_would_help(said: Said) -> None:
    needs_root()
    findings = _as_games(said)
    assert "this report is games's" in findings[Level.note]
    assert "may not be looked into by games" in findings[Level.failure]


def test_a_variable_that_is_no_setting_is_to_be_mended(said: Said, environ: dict[str, str]) -> None:
    environ["FASTX_LIST_SECRET"] = "x"
    assert "did you mean FASTX_LIST_SECRET_KEY?" in said()[Level.warning]
