"""Sessions in other namespaces, and a ``/proc`` that hides other users."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import Processes, Service, end, let_others_in, needs_root, program, wait_for
from tests.system.sessions import USERS, User, Viewer, free_display, only


@pytest.fixture
def namespaces() -> None:
    """Skip the test where making namespaces is not allowed."""
    needs_root()
    made = subprocess.run(
        [program("unshare", "util-linux"), "--net", "--mount", "true"], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"namespaces may not be made here: {made.stderr.decode().strip()}")


def test_a_session_in_a_network_namespace_of_its_own_is_seen_with_its_clients(
    namespaces: None, service: Service, processes: Processes, tmp_path: Path
) -> None:
    service.start_list()
    service.start_agent()
    token = service.token("root")
    display = free_display()
    ip, server = program("ip", "iproute2"), program("Xtigervnc", "tigervnc-standalone-server")
    inside = f"{ip} link set lo up; exec {server} :{display} -SecurityTypes None -geometry 640x400"
    vnc = processes.start(["unshare", "--net", "sh", "-c", inside], "vnc")

    def session() -> dict[str, Any] | None:
        return only([found for found in service.sessions(token) if found["serverPid"] == vnc.pid])

    assert wait_for("the session", session)["clients"] == 0
    assert wait_for("its size", session)["geometry"] == "640x400"
    # From our namespace nothing of ours listens at that port, and a connection there is nobody's
    # client here.
    viewer = Viewer(processes)
    window = viewer.connect(
        f"127.0.0.1::{5900 + display}", "nsenter", "--net", "--target", str(vnc.pid)
    )
    wait_for("the client", lambda: (found := session()) and found["clients"] == 1)
    end(window)
    wait_for("its leaving", lambda: (found := session()) and found["clients"] == 0)


def test_where_proc_hides_other_users_own_sessions_are_listed_and_the_doctor_says_so(
    namespaces: None, service: Service, processes: Processes, tmp_path: Path
) -> None:
    owner = User.make(USERS[0], tmp_path)
    let_others_in(tmp_path)
    uid, gid = owner.ids
    load = (
        "import encodings.idna, os, sys, fastx_list.agent.keep, fastx_list.command.cli,"
        " fastx_list.command.doctor, fastx_list.store.sqlite; "
    )
    drop = (
        f"os.setgroups([]); os.setgid({gid}); os.setuid({uid});"
        " fastx_list.command.cli.main(sys.argv[1:])"
    )
    environ = {**service.environ, "FASTX_LIST_STATE_DIR": str(owner.home / "state")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        inside = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
        return subprocess.run(
            [
                "unshare",
                "--mount",
                "sh",
                "-c",
                inside,
                "sh",
                sys.executable,
                "-c",
                load + drop,
                *arguments,
            ],
            env=environ,
            text=True,
            capture_output=True,
            timeout=60,
            cwd=owner.home,
        )

    display = free_display()
    owner.start(
        processes,
        [
            program("Xtigervnc", "tigervnc-standalone-server"),
            f":{display}",
            "-SecurityTypes",
            "None",
        ],
        "vnc",
    )
    wait_for("the X server", lambda: os.path.exists(f"/tmp/.X11-unix/X{display}"))
    report = run("doctor")
    assert (
        report.returncode > 0 and "!  /proc hides other users' processes (hidepid)" in report.stdout
    ), report.stderr
    once = run("agent", "--once", "-v")
    assert once.returncode == 0 and once.stdout == "1 session on this machine\n", once.stderr
