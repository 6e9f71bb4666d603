"""The systemd units of docs/deploy, as far as they can be tried without systemd."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fastx_list.agent.door import MAX_WAITING
from fastx_list.live.server import SPARE_FILES
from tests.support import Processes, Service, needs_root, program, wait_for
from tests.system.sessions import User, start_application, start_vnc
from tests.system.units import SERVICES, UNITS, command_of, confined, unit

AGENT = SERVICES["agent"]
# At the most, as systemd-analyze(1) judges it, in tenths: 0 is a service that may do nothing
EXPOSURE = {
    SERVICES["agent"]: 23,
    SERVICES["list"]: 11,
    SERVICES["live"]: 11,
    "fastx-list-local.service": 12,  # who is to see which user asks is in their user namespace
    "fastx-list-events.service": 11,
}


def test_the_units_are_well_formed_and_only_the_agent_has_rights(tmp_path: Path) -> None:
    analyze = program("systemd-analyze", "systemd")
    for path in UNITS.iterdir():
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".service":
            was, here = unit(path.name, "ExecStart")[0].split()[0], command_of(path.name)[0]
            text = text.replace(os.path.dirname(was), os.path.dirname(here))
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        f"fastx-list{which}"
        for which in (
            *(
                "-agent.service",
                "-events.service",
                "-live.service",
                "-live.socket",
                "-local.service",
                "-local.socket",
            ),
            *(".service", ".socket"),
        )
    ]
    done = subprocess.run(
        [analyze, "verify", "--man=no", *names], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    for service in (name for name in names if name.endswith(".service")):
        rights = "CAP_SYS_PTRACE CAP_DAC_READ_SEARCH" if "agent" in service else ""
        assert unit(service, "CapabilityBoundingSet") == [rights] and unit(service, "User") == [
            "fastx-list"
        ]
        assert unit(service, "AmbientCapabilities") == ([rights] if rights else [])
        for limit in ("MemoryMax", "TasksMax", "LimitNOFILE"):
            assert len(unit(service, limit)) == 1, f"{service} has no {limit}="


@pytest.mark.parametrize(("service", "tenths"), EXPOSURE.items())
def test_a_service_is_exposed_no_more_than_what_it_does_requires(service: str, tenths: int) -> None:
    analyze = program("systemd-analyze", "systemd")
    judge = [analyze, "security", "--offline=true", "--no-pager", f"--threshold={tenths}"]
    done = subprocess.run([*judge, str(UNITS / service)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_units_have_room_for_what_the_processes_may_need() -> None:
    [agent, listed, live] = (
        {limit: int(unit(SERVICES[name], limit)[0]) for limit in ("TasksMax", "LimitNOFILE")}
        for name in ("agent", "list", "live")
    )
    assert agent["TasksMax"] > MAX_WAITING + 4 and agent["LimitNOFILE"] >= 10_000
    assert listed["LimitNOFILE"] >= 10_000 and live["LimitNOFILE"] >= 10_000 + SPARE_FILES


def test_the_agent_sees_all_of_another_user_with_the_rights_of_its_unit(
    place: Path, processes: Processes
) -> None:
    needs_root()
    owner = User.make("games", place)
    vnc = start_vnc(processes, owner)
    os.chmod(owner.home, 0o700)
    os.chmod(vnc.authority, 0o600)
    application = start_application(processes, vnc)
    state = place / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 65534, 65534)
    service = Service(state, processes)
    as_nobody = confined(AGENT, user="nobody")
    command = command_of(AGENT)

    def seen() -> dict[str, Any] | None:
        subprocess.run([*as_nobody, *command, "--once"], env=service.environ, check=True, cwd=place)
        listed = json.loads(service.run("ls", "--json", "--login", owner.login).stdout)
        return next(
            (
                each
                for each in listed
                if each["display"] == vnc.display and each["appPid"] == application.pid
            ),
            None,
        )

    found = wait_for("the session", seen)
    assert (
        found["geometry"] == "1000x700"
        and found["clients"] == 0
        and found["command"].endswith("xterm -title work -e sleep 600")
    )
    doctor = subprocess.run(
        [*as_nobody, command[0], "doctor"],
        env=service.environ,
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert (
        doctor.returncode == 0
        and "ok agent: it sees the sessions of all users in full" in doctor.stdout
    )
