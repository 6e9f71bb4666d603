"""All kinds of session at once, of three users with clients on every one: whose they are, and what
is left when things are killed.

The tests share the sessions. Those that end them come last.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.sync.client import connect

from fastx_list.agent.facts import Facts
from tests.support import Processes, Service, end, program, release_has, wait_for
from tests.system.feed import Feed
from tests.system.rdp import WINDOW_MANAGER
from tests.system.servers import SECONDS, Account, looking, named, seen_by, unmeasured
from tests.system.sessions import User, Viewer, start_vnc
from tests.system.world import (
    EXPECTED,
    IN_CAGE,
    IN_TIGHTVNC,
    IN_VNC,
    IN_XPRA,
    PLAIN,
    World,
    command,
    sessions,
)


def ids(service: Service, world: World) -> set[str]:
    return {session["id"] for user in world.users for session in sessions(service, user)}


def servers(user: Account) -> list[psutil.Process]:
    """Return the processes that serve the sessions of ``user``, as ps(1) would show them."""
    running = user.processes
    modes = ("start", "start-desktop")
    agents = named(running, "x2goagent")  # and now and then a child that looks like itself
    return (
        named(running, "Xorg", "Xvnc", "Xtigervnc", "Xtightvnc", "cage")
        + [agent for agent in agents if agent.ppid() not in [other.pid for other in agents]]
        + [
            process
            for process in named(running, "xpra")
            if process.cmdline()[2:3] and process.cmdline()[2] in modes
        ]
    )


def test_each_user_has_every_session_of_their_own_once_and_no_other(
    watched: Service, world: World
) -> None:
    everything = []
    for user, expected in zip(world.users, EXPECTED, strict=True):
        mine = sessions(watched, user)
        assert sorted((s["windowMode"], command(s)) for s in mine) == sorted(expected)
        assert sorted(s["serverPid"] for s in mine) == sorted(
            process.pid for process in servers(user)
        )
        assert {s["login"] for s in mine} == {user.login}
        everything += mine
    for member in ("id", "serverPid", "display", "appPid"):
        assert len({s[member] for s in everything}) == len(everything) == sum(map(len, EXPECTED))


def test_each_user_is_told_of_their_own_sessions_and_no_others(
    watched: Service, world: World, daemons: Processes
) -> None:
    first: dict[str, set[str]] = {}
    with ExitStack() as stack:
        feeds = [
            Feed(
                stack.enter_context(
                    connect(f"{watched.live_url}?token={watched.token(user.login)}")
                )
            )
            for user in world.users
        ]
        for user, feed in zip(world.users, feeds, strict=True):
            mine = {session["id"]: session for session in sessions(watched, user)}
            wait_for(f"the sessions of {user.login}", lambda: now(feed) == mine, SECONDS)
            assert len(feed.messages) == len(mine)
            first[user.login] = set(mine)
        one, *others = feeds
        # That the others are told nothing of it can only be seen by what they are told next.
        vnc = start_vnc(daemons, world.users[0])
        wait_for("the new session", lambda: len(now(one)) == len(EXPECTED[0]) + 1, SECONDS)
        end(vnc.process)
        wait_for("its end", lambda: len(now(one)) == len(EXPECTED[0]), SECONDS)
        for user, feed, expected in zip(world.users[1:], others, EXPECTED[1:], strict=True):
            own = start_vnc(daemons, user)
            wait_for("a session of their own", lambda: len(now(feed)) == len(expected) + 1, SECONDS)
            end(own.process)
            wait_for("its end", lambda: len(now(feed)) == len(expected), SECONDS)
            assert {message["data"]["login"] for message in feed.messages if message["data"]} == {
                user.login
            }
            assert {message["id"] for message in feed.messages} == first[user.login] | {
                feed.messages[-1]["id"]
            }


def test_of_each_it_is_known_where_its_client_is_and_what_it_uses_and_whether_anybody_types(
    world: World, tmp_path: Path
) -> None:
    logins = {user.login for user in world.users}
    xdotool = program("xdotool", "xdotool")
    with looking(tmp_path, "xrdp xpra x2go tigervnc other wayland") as look:

        def seen() -> list[Facts]:
            return [each for each in look.take().facts if each.login in logins]

        def is_known(each: Facts) -> bool:
            # A compositor does not tell of it, and TightVNC lacks the extension
            tells = not str(each.command).endswith((IN_CAGE, IN_TIGHTVNC))
            has_idle = each.idle_since is not None or not tells
            return has_idle and each.cpu is not None and (each.memory or 0) > 4 * 1024**2

        def are_known() -> bool:
            known = [is_known(each) for each in seen()]
            return all(known) and len(known) == sum(map(len, EXPECTED))

        wait_for("what is known of all of them", are_known, SECONDS)
        here = {("127.0.0.1",), ("local",)}
        assert {each.client_addresses for each in seen()} == here if release_has("xpra") else here
        left = {each.app_pid for each in seen() if each.idle_since is not None}

        def are_used() -> bool:
            for pid in left:
                assert pid is not None
                application = psutil.Process(pid)
                uid, gid = application.uids().real, application.gids().real
                options: dict[str, Any] = {"user": uid, "group": gid, "extra_groups": []}
                command = [xdotool, "key", "a"]
                subprocess.run(command, env=application.environ(), check=True, **options)
            left.difference_update(each.app_pid for each in seen() if each.idle_since is None)
            return not left

        wait_for("what was typed", are_used, SECONDS)


@pytest.mark.parametrize(
    "sources, seen",
    [
        pytest.param("tigervnc", {IN_VNC: 2}, id="all but tigervnc"),
        pytest.param("xrdp", {WINDOW_MANAGER: 2}, id="all but xrdp"),
        pytest.param(
            "xpra", {"xterm -title seamless": 1, "openbox --sm-disable": 1}, id="all but xpra"
        ),
        pytest.param("x2go", {"xterm": 1, "openbox": 1}, id="all but x2go"),
        pytest.param("xorg", {}, id="all but xorg"),
        pytest.param("xvfb", {PLAIN: 1}, id="all but xvfb"),
        pytest.param("other", {IN_TIGHTVNC: 1}, id="all but other"),
        pytest.param("wayland", {IN_CAGE: 1}, id="all but wayland"),
        pytest.param(
            "xrdp xpra x2go wayland tigervnc other xvfb xephyr xorg spool",
            {
                IN_VNC: 2,
                IN_TIGHTVNC: 1,
                IN_CAGE: 1,
                WINDOW_MANAGER: 2,
                "xterm -title seamless": 1,
                "openbox --sm-disable": 1,
                "xterm": 1,
                "openbox": 1,
                PLAIN: 1,
            },
            id="none",
        ),
    ],
)
def test_a_source_that_is_turned_off_leaves_its_sessions_to_no_other(
    watched: Service, world: World, tmp_path: Path, sources: str, seen: dict[str, int]
) -> None:
    found = seen_by(sources, watched, tmp_path / "other", *world.users)
    counts = {text: [command(s) for s in found].count(text) for text in {command(s) for s in found}}
    assert counts == {
        text: count for text, count in seen.items() if text not in IN_XPRA or release_has("xpra")
    }
    assert [s["serverPid"] for s in found if s["command"] is None] == (
        [world.plain.pid] if "xvfb" in sources else []
    )
    assert [s["geometry"] for s in found if s["command"] is None] == (
        ["900x600"] if "xvfb" in sources else []
    )


def test_an_agent_killed_at_any_moment_leaves_no_ghost_and_no_gap(
    watched: Service, world: World, daemons: Processes
) -> None:
    def steady(user: User) -> list[dict[str, Any]]:
        return list(map(unmeasured, sessions(watched, user)))

    before = {user.login: steady(user) for user in world.users}
    with ExitStack() as stack:
        feeds = [
            Feed(
                stack.enter_context(
                    connect(f"{watched.live_url}?token={watched.token(user.login)}")
                )
            )
            for user in world.users
        ]
        for moment in range(10):
            kill(watched.running["agent"])
            watched.start_agent()
            # The moment of the next kill: while it starts, in its first scan, between two
            time.sleep(moment * 0.08)
            assert {user.login: steady(user) for user in world.users} == before
        for feed in feeds:
            feed.take()
            assert None not in [message["data"] for message in feed.messages]

    one, two, three = world.users
    doomed, watched_one = start_vnc(daemons, one), start_vnc(daemons, two)
    viewer = Viewer(daemons)
    # Of a client that was there before the agent looked for the first time nobody knows when it
    # came.
    wait_for("the session", lambda: of(watched, two, watched_one.process.pid, clients=0), SECONDS)
    window = viewer.connect(f"127.0.0.1::{watched_one.port}")
    wait_for("the client", lambda: of(watched, two, watched_one.process.pid, clients=1), SECONDS)
    wait_for("the other session", lambda: of(watched, one, doomed.process.pid), SECONDS)
    kill(watched.running["agent"])
    kill(doomed.process)
    kill(window)
    born = start_vnc(daemons, three)
    wait_for("the viewer's leaving", lambda: not connections(watched_one.port), SECONDS)
    assert of(watched, one, doomed.process.pid)  # nobody has looked since
    watched.run("agent", "--once")
    wait_for("what the scan saw", lambda: not of(watched, one, doomed.process.pid), SECONDS)
    left = wait_for(
        "the same scan's client",
        lambda: of(watched, two, watched_one.process.pid, clients=0),
        SECONDS,
    )
    assert left["lastConnect"] <= left["lastDisconnect"]
    wait_for("the same scan's new session", lambda: of(watched, three, born.process.pid), SECONDS)
    for vnc in (watched_one, born):
        kill(vnc.process)
    watched.run("agent", "--once")
    watched.start_agent()
    for user in world.users:
        wait_for("the same as before", lambda: steady(user) == before[user.login], SECONDS)


def test_a_killed_client_has_left(watched: Service, world: World) -> None:
    for user, text, client in world.clients:
        [session] = [s for s in sessions(watched, user) if command(s) == text]
        assert session["clients"] == 1
        kill(client)
        left = wait_for(
            f"the leaving of {text}",
            lambda: of(watched, user, session["serverPid"], clients=0),
            SECONDS,
        )
        assert left["id"] == session["id"] and left["lastDisconnect"] >= left["lastConnect"]


def test_a_killed_server_leaves_no_ghost_and_takes_no_other_along(
    watched: Service, world: World
) -> None:
    for user in world.users:
        for server in servers(user):
            others = {
                s["id"]
                for other in world.users
                for s in sessions(watched, other)
                if s["serverPid"] != server.pid
            }
            assert len(others) == len(ids(watched, world)) - 1
            server.kill()
            wait_for(f"the end of {server} alone", lambda: ids(watched, world) == others, SECONDS)
    assert ids(watched, world) == set()


def now(feed: Feed) -> dict[str, Any]:
    feed.take()
    return feed.state


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def of(service: Service, user: User, server: int, **members: Any) -> dict[str, Any] | None:
    """Return the session of ``user`` that the process ``server`` serves, if it is listed with these
    ``members``."""
    found = [s for s in sessions(service, user) if s["serverPid"] == server]
    assert len(found) <= 1, found
    return (
        found[0]
        if found and all(found[0][name] == value for name, value in members.items())
        else None
    )


def connections(port: int) -> list[Any]:
    """Return the connections of this machine from or to TCP ``port`` that are open."""
    return [
        found
        for found in psutil.net_connections("tcp")
        if found.status == psutil.CONN_ESTABLISHED and found.laddr and found.laddr[1] == port
    ]
