"""A user who opens very many sockets."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from fastx_list.agent import diag
from fastx_list.agent.keep import Agent
from fastx_list.config import Settings
from fastx_list.model.session import Session
from fastx_list.store import Store
from tests.agent.scripted import listed
from tests.hostile.test_who_speaks import VERSION, probes
from tests.hostile.watching import Watching
from tests.support import Processes, wait_for
from tests.system.sessions import User, Vnc, start_vnc

OF_A_CLIENT = VERSION + b"\x01\x01"


def of(store: Store, vnc: Vnc) -> Session | None:
    """Return the session of ``vnc`` as it is listed."""
    found = [each for each in listed(store).values() if each.server_pid == vnc.process.pid]
    return found[0] if found else None


def clients(agent: Agent, store: Store, vnc: Vnc) -> int | None:
    agent.scan()
    session = of(store, vnc)
    assert session is not None
    return session.clients


def test_too_many_sockets_change_no_session_and_are_told_of(
    users: list[User],
    processes: Processes,
    settings: Settings,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hostile, other = User("nobody", users[0].home), users[0]
    monkeypatch.setattr(diag, "MAX_BYTES", 200_000)
    known = start_vnc(processes, other)
    with ExitStack() as theirs, Watching(settings, store) as agent:
        with probes(known.port, OF_A_CLIENT):
            wait_for("the client", lambda: clients(agent, store, known) == 1)
            many = """import os, signal, socket
kept = [socket.socketpair() for _ in range(4500)]
print("ready", flush=True)
signal.pause()"""
            process = hostile.start(processes, ["/usr/bin/python3", "-c", many], "many")
            theirs.callback(process.kill)
            wait_for("the sockets", lambda: "ready" in processes.log("many"))
            assert clients(agent, store, known) == 1
        # The kernel still tells of TCP: only who is at unix sockets nobody knows
        wait_for("its leaving", lambda: clients(agent, store, known) == 0)
        new = start_vnc(processes, other)
        wait_for("a new session", lambda: agent.scan() and of(store, new))
        assert "sockets: there are too many sockets; who is connected stays" in caplog.text
        # An agent that starts meanwhile ends nothing
        with Watching(settings, store) as later:
            for _ in range(3):
                later.scan()
        assert of(store, known) and of(store, new)


def test_too_many_connections_over_tcp_leave_the_clients_as_they_were(
    users: list[User],
    processes: Processes,
    settings: Settings,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vnc = start_vnc(processes, users[0])
    with Watching(settings, store) as agent:
        with probes(vnc.port, OF_A_CLIENT), ExitStack() as many:
            wait_for("the client", lambda: clients(agent, store, vnc) == 1)
            connected = of(store, vnc)
            assert connected is not None
            server = many.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1000))
            for _ in range(800):
                many.enter_context(socket.create_connection(server.getsockname()))
                many.enter_context(server.accept()[0])
            monkeypatch.setattr(diag, "MAX_BYTES", 100_000)
            assert clients(agent, store, vnc) == 1
            told = "sockets: there are too many sockets; who is connected stays as it was"
            assert told in agent.look.take().problems
        assert clients(agent, store, vnc) == 1  # the table has rest
        machine = agent.look.machine
        machine._heard[machine.processes[vnc.process.pid].network].rests.clear()
        wait_for("its leaving", lambda: clients(agent, store, vnc) == 0)
        left = of(store, vnc)
        assert left is not None and left.last_disconnect is not None
        assert left.last_connect == connected.last_connect
