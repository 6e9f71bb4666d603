from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tests.support import Service, end, fetch, free_port, wait_for


def test_up_serves_a_first_look_and_leaves_nothing_behind(service: Service, tmp_path: Path) -> None:
    bind, live_bind = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    service.environ["FASTX_LIST_EVENTS"] = str(tmp_path / "events.log")
    up = service.processes.start(
        [
            sys.executable,
            "-m",
            "fastx_list",
            "up",
            "--demo",
            "--admin",
            "--bind",
            bind,
            "--live-bind",
            live_bind,
        ],
        "up",
        service.environ,
    )
    wait_for("the greeting", lambda: "Ctrl-C stops" in service.processes.log("up"))
    said = service.processes.log("up")
    token = re.findall(r"TOKEN=(\S+)", said)[0]
    assert f"http://{bind}/#code=" in said and f"ws://{live_bind}/api/list?token=" in said
    names = [
        members["params"].get("name", "")
        for members in fetch(f"http://{bind}/api/list/{token}").json
    ]
    assert len([name for name in names if name.startswith("Demo: ")]) == 5
    page = fetch(f"http://{bind}/")
    assert (
        page.status == 200
        and f'data-live-port="{live_bind.rpartition(":")[2]}"'.encode() in page.body
    )

    def machines() -> set[str]:
        found = fetch(f"http://{bind}/api/admin/server/{token}").json
        return {each["serverId"] for each in found if each["sessions"] and each["cpu"]}

    wait_for("the machines", lambda: {f"simulated-node{n}" for n in (7, 8, 9)} <= machines())
    everybody = fetch(f"http://{bind}/api/admin/session/{token}").json
    assert {"alice", "bob", "carol", "dave"} <= {each["login"] for each in everybody}
    assert {"xrdp", "tigervnc", "xpra", "x2go"} <= {each["kind"] for each in everybody}
    ended = f"http://{bind}/api/admin/history/{token}?until=2999-01-01"
    wait_for("a past", lambda: len(fetch(ended).json) >= 6)
    events = tmp_path / "events.log"
    wait_for("events", lambda: events.exists() and "sessionEnded" in events.read_text())
    children = [int(pid) for pid in _children(up.pid)]
    assert len(children) == 4
    os.kill(_named(children, "fastx_list agent"), 9)
    wait_for("the agent's return", lambda: "the agent has stopped" in service.processes.log("up"))
    wait_for("four processes", lambda: len(_children(up.pid)) == 4)
    up.send_signal(2)
    assert up.wait(30) == 0
    assert list((service.state / "spool").iterdir()) == []
    assert "simulated" not in service.run("ls", "--all", "-o", "name").stdout
    assert "Traceback" not in service.processes.log("up")


def _children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return file.read().split()


def _named(pids: list[int], words: str) -> int:
    for pid in pids:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            if words in file.read().replace("\0", " "):
                return pid
    raise AssertionError(f"no process is called {words}")


def test_up_says_that_a_port_is_taken(service: Service) -> None:
    service.start_list()
    done = service.run("up", "--bind", f"127.0.0.1:{service.list_port}", check=False)
    assert (
        done.returncode == 1
        and "Address already in use" in done.stderr
        and "choose another with --bind" in done.stderr
    )


def test_up_without_a_session_says_how_to_get_one(service: Service) -> None:
    """As a user who has none: whoever runs the tests may have some."""
    up = service.processes.start(
        [
            sys.executable,
            "-c",
            (
                "import fastx_list.agent.process as p; p.login_of = lambda uid: 'nobody-at-all'\n"
                "from fastx_list.command.cli import main; main()"
            ),
            "up",
            "--bind",
            f"127.0.0.1:{free_port()}",
            "--live-bind",
            f"127.0.0.1:{free_port()}",
        ],
        "up",
        service.environ,
    )
    wait_for("what to do", lambda: "fastx-list up --demo" in service.processes.log("up"))
    assert "nobody-at-all has no session on this machine now" in service.processes.log("up")
    end(up)


def test_up_goes_on_beside_a_damaged_store_which_its_agent_mends(service: Service) -> None:
    service.state.mkdir(mode=0o700)
    (service.state / "sessions.db").write_bytes(b"no database at all\n" * 1000)
    binds = ["--bind", f"127.0.0.1:{free_port()}", "--live-bind", f"127.0.0.1:{free_port()}"]
    command = [sys.executable, "-m", "fastx_list", "up", *binds]
    up = service.processes.start(command, "up", service.environ)
    wait_for("what is wrong", lambda: "what runs is not known now" in service.processes.log("up"))
    wait_for("a new store", lambda: list(service.state.glob("sessions.db.damaged-*")))
    assert up.poll() is None
    assert "Traceback" not in service.processes.log("up")
    end(up)
