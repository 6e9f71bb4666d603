from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from fastx_list.model.server import Server
from fastx_list.store import Lease, Store
from tests.command.conftest import Command
from tests.conftest import session
from tests.support import Service, end, fetch, wait_for

Observe = Callable[..., None]

HEADINGS = [
    "DISPLAY",
    "STATE",
    "STARTED",
    "GEOMETRY",
    "KIND",
    "FROM",
    "IDLE",
    "SINCE",
    "CPU",
    "MEMORY",
]


def test_ls_lists_sorts_and_filters(command: Command, observe: Observe) -> None:
    observe(
        session("a", started=1, command="xterm", clients=0, last_disconnect=1000),
        session(
            "b",
            started=2,
            command="blender\x1b[2J " + "x" * 200,
            clients=2,
            display=4,
            geometry="1x1",
        ),
        session("c", "bob"),
    )
    done = command("ls", "--login", "alice")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["SESSION", *HEADINGS]
    assert len(lines) == 3
    assert "xterm" in lines[1] and "disconnected" in lines[1] and "d ago" in lines[1]
    assert "blender\ufffd[2J " + "x" * 200 + " " in lines[2]
    assert "connected (2 clients)" in lines[2] and "here.example:4" in lines[2]
    found = command(
        "ls", "--login", "alice", "--json", "--sort-by", "command", "--filter", "clients==0,2"
    )
    assert [members["id"] for members in json.loads(found.stdout)] == ["b", "a"]
    found = command("ls", "--login", "alice", "--json", "--reverse")
    assert [members["id"] for members in json.loads(found.stdout)] == ["b", "a"]
    nothing = command("ls", "--login", "alice", "--filter", "clients==7")
    assert nothing.stdout == "" and nothing.stderr == "alice has no session that matches\n"


def test_ls_lists_the_sessions_of_all_logins_with_whose_they_are(
    command: Command, observe: Observe
) -> None:
    observe(
        session("a", started=1, command="xterm"),
        session("b", "bob\x1b[2J", started=2, command="blender"),
    )
    lines = command("ls", "--all").stdout.splitlines()
    assert lines[0].split() == ["SESSION", "LOGIN", *HEADINGS]
    assert lines[1].split()[:2] == ["xterm", "alice"] and lines[2].split()[:2] == [
        "blender",
        "bob\ufffd[2J",
    ]
    found = command("ls", "--all", "--json", "--reverse", "--filter", "command==xterm,blender")
    assert [(members["id"], members["login"]) for members in json.loads(found.stdout)] == [
        ("b", "bob\x1b[2J"),
        ("a", "alice"),
    ]
    nothing = command("ls", "--all", "--filter", "clients==7")
    assert nothing.stdout == "" and nothing.stderr == "nobody has a session that matches\n"


def test_servers_lists_the_machines_and_their_load(command: Command, store: Store) -> None:
    lease = Lease("one", "1", "node1", 60)
    store.observe("s0", {})  # an agent that told nothing of its machine
    assert command("servers").stderr == "no server is there: no agent writes to this store now\n"
    assert command("servers", "--json").stdout == "[]\n"
    store.heartbeat(
        Server(
            "s1",
            "node1.example\x1b[2J",
            pool="gpu",
            cpu=12.4,
            free_memory=3 * 2**30,
            total_memory=8 * 2**30,
            logged_in_users=2,
            sessions=3,
            uptime=7300,
            load=(0.5, 1.25, 2),
        ),
        lease,
    )
    store.heartbeat(Server("s2", "node2"), lease)
    lines = command("servers").stdout.splitlines()
    assert [re.split(r"\s{2,}", line.strip()) for line in lines] == [
        ["SERVER", "HOST", "POOL", "CPU", "MEMORY", "SESSIONS", "LOGINS", "LOAD", "UP"],
        [
            "s1",
            "node1.example\ufffd[2J",
            "gpu",
            "12 %",
            "5.0 GiB of 8.0 GiB",
            "3",
            "2",
            "0.50 1.25 2.00",
            "2 h",
        ],
        ["s2", "node2", "–", "–", "–", "0", "0", "–", "–"],
    ]


def test_servers_prints_what_the_api_would_answer(command: Command, service: Service) -> None:
    command("agent", "--once")
    service.start_list()
    answer = fetch(f"{service.url}/api/admin/server/{service.token('root', admin=True)}")
    assert [members["serverId"] for members in answer.json] == ["here"]
    assert command("servers", "--json").stdout.rstrip("\n").encode() == answer.body


def test_watch_of_all_logins_follows_every_session_and_no_server(
    command: Command, service: Service, observe: Observe, store: Store
) -> None:
    observe(session("a"), session("b", "bob"))
    command("--version")
    watching = service.processes.start(
        [sys.executable, "-m", "fastx_list", "watch", "--all"], "watch", service.environ
    )

    def messages() -> list[tuple[str, bool]]:
        lines = [json.loads(line) for line in service.processes.log("watch").splitlines()]
        return [(message["id"], message["data"] is None) for message in lines]

    wait_for("the first messages", lambda: sorted(messages()) == [("a", False), ("b", False)])
    store.heartbeat(Server("here", "host"), Lease("one", "1", "host", 60))
    observe(session("a"), session("c", "carol"))
    wait_for("the changes", lambda: sorted(messages()[2:]) == [("b", True), ("c", False)])
    end(watching)


def test_watch_piped_on_prints_the_published_messages(
    command: Command, service: Service, observe: Observe, store: Store
) -> None:
    observe(session("a"), session("b", "bob"))
    command("--version")
    watching = service.processes.start(
        [
            sys.executable,
            "-m",
            "fastx_list",
            "watch",
            "--login",
            "alice",
            "--filter",
            "clients==,1",
        ],
        "watch",
        service.environ,
    )

    def messages() -> list[dict[str, object]]:
        return [json.loads(line) for line in service.processes.log("watch").splitlines()]

    wait_for("the first message", messages)
    observe(session("a", clients=1), session("b", "bob", clients=1))
    wait_for("the change", lambda: len(messages()) == 2)
    observe(session("a", clients=5), session("b", "alice", clients=1))
    wait_for("an end, and what has become hers", lambda: len(messages()) == 4)
    observe(session("b", "bob", clients=1))
    wait_for("the end of what has become another's", lambda: len(messages()) == 5)
    assert [(message["id"], message["data"] is None) for message in messages()] == [
        *[("a", False), ("a", False), ("a", True)],
        *[("b", False), ("b", True)],
    ]
    watching.send_signal(signal.SIGINT)
    assert watching.wait(20) == 0
    assert "Traceback" not in service.processes.log("watch")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_ends_with_either_signal_also_in_the_background_of_a_script(
    command: Command, service: Service, observe: Observe, number: signal.Signals
) -> None:
    observe(session("a"))
    command("--version")
    watching = service.processes.start(
        [sys.executable, "-m", "fastx_list", "watch", "--all"],
        "watch",
        service.environ,
        # What a shell without job control does for "command &": POSIX, 2.11 Signals
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    wait_for("the first message", lambda: service.processes.log("watch"))
    watching.send_signal(number)
    assert watching.wait(20) == 0
    assert "Traceback" not in service.processes.log("watch")


def test_watch_in_a_terminal_is_a_live_table(
    command: Command, service: Service, observe: Observe
) -> None:
    observe(session("a", command="first-program"))
    command("--version")
    outer, inner = pty.openpty()
    watching = service.processes.add(
        subprocess.Popen(
            [sys.executable, "-m", "fastx_list", "watch", "--login", "alice"],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**service.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"},
        )
    )
    os.close(inner)
    shown = b""

    def shows(text: bytes) -> bool:
        nonlocal shown
        while select.select([outer], [], [], 0.05)[0]:
            shown += os.read(outer, 65536)
        return text in shown

    wait_for("the table", lambda: shows(b"first-program"))
    observe(session("b", command="second-program"))
    wait_for("the change", lambda: shows(b"second-program"))
    end(watching)
    os.close(outer)
