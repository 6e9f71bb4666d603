"""Servers that hang or are gone, users who lie, and an agent without rights."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support import Processes, Service, end, wait_for
from tests.system.sessions import (
    User,
    Viewer,
    free_display,
    only,
    pretend,
    resize,
    start_application,
    start_vnc,
)


def test_a_hung_server_holds_nothing_up(
    running: Service, processes: Processes, users: list[User]
) -> None:
    token = running.token(users[0].login)
    hung = start_vnc(processes, users[0], geometry="700x500")
    hung.process.send_signal(signal.SIGSTOP)
    other = start_vnc(processes, users[0])
    wait_for(
        "both sessions",
        lambda: {s["geometry"] for s in running.sessions(token)} == {"1000x700", "700x500"},
    )
    resize(other, "800x600")
    wait_for(
        "a change of the other",
        lambda: [s for s in running.sessions(token) if s["geometry"] == "800x600"],
    )
    hung.process.kill()
    hung.process.wait()
    wait_for("the end of the hung one", lambda: len(running.sessions(token)) == 1)


def test_an_unreaped_server_is_no_session(
    running: Service, processes: Processes, users: list[User]
) -> None:
    token = running.token(users[0].login)
    vnc = start_vnc(processes, users[0])
    wait_for("the session", lambda: running.sessions(token))
    os.kill(vnc.process.pid, signal.SIGKILL)  # and nobody waits for it: it stays as a zombie
    wait_for("its end", lambda: not running.sessions(token))
    assert Path(f"/proc/{vnc.process.pid}").exists()


def test_hostile_titles_and_environments_are_listed_safely(
    running: Service, processes: Processes, users: list[User]
) -> None:
    token = running.token(users[0].login)
    vnc = start_vnc(processes, users[0])
    title = b"\xff\xfe<script>\x1b[31m\n" + b"x" * 9000
    environ = {
        os.fsencode(name): os.fsencode(value)
        for name, value in users[0].environ(**vnc.environ).items()
    }
    uid, gid = users[0].ids
    processes.add(
        subprocess.Popen(
            [b"/bin/sh", b"-c", b"sleep 600; true", title],
            env={**environ, b"FASTX_LIST_\xff": b"\xff"},
            user=uid,
            group=gid,
            extra_groups=[],
        )
    )
    session = wait_for("the command", lambda: [s for s in running.sessions(token) if s["command"]])[
        0
    ]
    assert session["command"].startswith(
        "/bin/sh -c 'sleep 600; true' '\ufffd\ufffd<script>\x1b[31m\n"
    )
    assert len(session["command"]) <= 4096
    listed = running.run("ls", "--login", users[0].login)
    assert "\x1b" not in listed.stdout and "<script>" in listed.stdout


def test_a_false_command_line_borrows_nothing_from_another_users_session(
    running: Service, processes: Processes, users: list[User]
) -> None:
    victim, thief = users[:2]
    vnc = start_vnc(processes, victim)
    window = Viewer(processes).connect(f"127.0.0.1::{vnc.port}")
    victims = running.token(victim.login)
    wait_for(
        "the victim's client", lambda: [s for s in running.sessions(victims) if s["clients"] == 1]
    )
    resize(vnc, "800x600")
    shell = thief.home / "Xvnc"
    borrowed = ["-rfbport", str(vnc.port), "-auth", str(vnc.authority)]
    # It has a display of its own, but neither the port nor the file is its own
    display = free_display()
    address = f"@/tmp/.X11-unix/X{display}"
    thief.start(processes, pretend(shell, f":{display}", *borrowed, address=address), "fake")
    session = wait_for(
        "the false session", lambda: only(running.sessions(running.token(thief.login)))
    )
    assert (
        session["clients"] == 0 and session["geometry"] == "1024x768" and session["command"] is None
    )
    end(window)


def test_an_agent_without_rights_lists_what_it_sees_and_says_what_it_cannot(
    service: Service, processes: Processes, users: list[User], tmp_path: Path
) -> None:
    watcher, owner = users[:2]
    state = watcher.home / "state"
    mine = Service(state, processes)
    vnc = start_vnc(processes, owner)
    start_application(processes, vnc)
    own = start_vnc(processes, watcher)
    own_application = start_application(processes, own)
    # The interpreter need not be where that user can start it, so the agent gives its rights up
    # once it is loaded.
    uid, gid = watcher.ids
    load = "import os, fastx_list.agent.keep, fastx_list.command.cli, fastx_list.store.sqlite; "
    drop = f"os.setgroups([]); os.setgid({gid}); os.setuid({uid}); "
    agent = processes.start(
        [sys.executable, "-c", load + drop + "fastx_list.command.cli.main(['agent'])"],
        "agent",
        {**mine.environ, "HOME": str(watcher.home)},
        cwd=watcher.home,
    )

    def explained(display: int) -> int:
        lines = processes.log("agent").splitlines()
        return len(
            [
                line
                for line in lines
                if f"session :{display} of" in line and "may not be read" in line
            ]
        )

    wait_for("the store", lambda: (state / "sessions.db").exists())
    others = wait_for("the other's session", lambda: mine.stored(owner.login))
    assert (
        others[0]["command"] is None
        and others[0]["geometry"] == "1000x700"
        and others[0]["clients"] == 0
    )

    def has_clients(clients: int | None) -> bool:
        return [session["clients"] for session in mine.stored(owner.login)] == [clients]

    window = Viewer(processes).connect(f"127.0.0.1::{vnc.port}")
    wait_for("a client that came to the other's port", lambda: has_clients(1))
    end(window)
    wait_for("its leaving", lambda: has_clients(0))
    # It could also be the server that has made this connection, to call a viewer
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        to = f"/dev/tcp/127.0.0.1/{elsewhere.getsockname()[1]}"
        made = owner.start(processes, ["bash", "-c", f"exec 3<>{to}; exec sleep 600"], "made")
        wait_for("what nobody may know", lambda: has_clients(None))
        end(made)
        wait_for("what is known again", lambda: has_clients(0))
    wait_for(
        "our own session's application",
        lambda: [s for s in mine.stored(watcher.login) if s["appPid"] == own_application.pid],
    )
    wait_for("the explanation", lambda: explained(vnc.display))
    end(agent)
    assert explained(vnc.display) == 1 and explained(own.display) == 0
    assert processes.log("agent").count("without root's rights") == 1
