"""What real sessions do is told at once: by what, and not only by a look that comes anyway."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from fastx_list.agent import occasions as module
from fastx_list.agent import process as process_module
from fastx_list.agent.keep import Agent
from fastx_list.agent.look import Looker
from fastx_list.agent.machine import Machine
from fastx_list.agent.occasions import Occasions
from fastx_list.agent.process import pid_in
from fastx_list.agent.sources import load_sources
from fastx_list.agent.xserver import XServers
from fastx_list.config import Settings
from fastx_list.model.session import Session
from fastx_list.store import Store, open_store
from tests.agent.scripted import Scripted, facts, listed
from tests.chaos.vnc import Desktop, spare_display
from tests.support import Processes, program, wait_for

WAITS, COME = "a new socket that waits", "a client that has come"
ATTEMPTS = 5
LEFT, ENDED = "a client that has left", "the end of a session's server"


class Noting(Occasions):
    """Notes for what a look was made sooner."""

    def __init__(self) -> None:
        super().__init__(100)
        self.noted: set[str] = set()

    def is_due(self) -> bool:
        is_due = super().is_due()
        self.noted |= {each.what for each in self.causes}
        return is_due


@pytest.fixture
def occasions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Noting]:
    # Other tests have sessions, too, and may be the same user
    for name in ("LOGIN_SECONDS", "ALL_SECONDS"):
        monkeypatch.setattr(module, name, 1000.0)
    occasions = Noting()
    yield occasions
    occasions.close()


@pytest.fixture
def rarely_looking(settings: Settings, store: Store, occasions: Noting) -> Iterator[Store]:
    """What an agent writes that rarely looks, unless it is told to."""
    writer = open_store(settings.store)
    sources = load_sources(settings)
    # Other tests may have sessions of the same user, which are older
    settings = replace(settings, max_sessions_per_login=2000)
    agent = Agent(replace(settings, scan_interval=10.0, server_expiry=3600), writer, sources)
    looker = Looker(agent.look)
    thread = threading.Thread(target=agent.run, args=[looker, occasions])
    thread.start()
    wait_for("the first look", lambda: list(store.snapshot().servers))
    yield store
    looker.stop()
    thread.join()
    looker._thread.join()
    for source in sources.values():
        if isinstance(source, XServers):
            source.close(agent.look.machine)
    writer.close()


def session(store: Store, desktop: Desktop) -> Session | None:
    found = [each for each in listed(store).values() if each.server_pid == desktop.process.pid]
    return found[0] if found else None


def await_clients(store: Store, desktop: Desktop, count: int) -> Session:
    def has() -> Session | None:
        found = session(store, desktop)
        return found if found is not None and found.clients == count else None

    return wait_for(f"{count} clients", has)


def until_noted(occasions: Noting, wanted: set[str], happen: Callable[[], None]) -> None:
    """Let it ``happen`` until that was a reason to look. A look that comes anyway, or is made for
    something else, may be quicker."""
    occasions.noted.clear()
    for _ in range(ATTEMPTS):
        happen()
        if occasions.noted >= wanted:
            return
    raise AssertionError(f"{ATTEMPTS} times: no {wanted - occasions.noted}, but {occasions.noted}")


def test_clients_that_come_and_leave_are_told_at_once(
    rarely_looking: Store, occasions: Noting, processes: Processes
) -> None:
    desktop = Desktop(processes, spare_display(), "320x200")
    await_clients(rarely_looking, desktop, 0)

    def come_and_leave() -> None:
        for count in (1, 2):
            desktop.connect()
            await_clients(rarely_looking, desktop, count)
        for count in (1, 0):
            desktop.disconnect()
            await_clients(rarely_looking, desktop, count)

    until_noted(occasions, {COME, LEFT}, come_and_leave)
    desktop.close()


def test_a_start_and_an_end_are_told_at_once(
    rarely_looking: Store, occasions: Noting, processes: Processes
) -> None:
    def live() -> None:
        desktop = Desktop(processes, spare_display(), "320x200")
        await_clients(rarely_looking, desktop, 0)
        desktop.close()
        wait_for("its end", lambda: session(rarely_looking, desktop) is None)

    until_noted(occasions, {WAITS, ENDED}, live)


def test_an_old_process_that_becomes_a_server_by_exec_is_told_at_once(
    rarely_looking: Store, processes: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "go")
    monkeypatch.setattr(process_module, "YOUNG_SECONDS", 0.2)
    server = program("Xtigervnc", "tigervnc-standalone-server")
    command = (
        f"read line <{tmp_path}/go; exec {server} :{spare_display()} -rfbport 0 -SecurityTypes None"
    )
    shell = processes.start(["sh", "-c", command], "shell")
    started = psutil.Process(shell.pid).create_time()
    wait_for("it to be old", lambda: time.time() - started > 1)
    # The session of another process is told in a look that has seen the shell
    desktop = Desktop(processes, spare_display(), "320x200")
    await_clients(rarely_looking, desktop, 0)
    (tmp_path / "go").write_text("\n")
    # It is the process's turn in minutes only, as looks are so rare here
    wait_for(
        "its session",
        lambda: any(each.server_pid == shell.pid for each in listed(rarely_looking).values()),
    )
    desktop.close()


def test_a_viewer_that_was_there_for_a_moment_is_none_when_it_has_gone(
    rarely_looking: Store, processes: Processes
) -> None:
    desktop = Desktop(processes, spare_display(), "320x200")
    await_clients(rarely_looking, desktop, 0)
    for _ in range(5):
        desktop.connect()
        desktop.disconnect()
    desktop.connect()
    await_clients(rarely_looking, desktop, 1)
    desktop.disconnect()
    told = await_clients(rarely_looking, desktop, 0)
    assert told.last_connect is not None and told.last_disconnect is not None
    assert told.last_connect <= told.last_disconnect
    desktop.close()


def test_who_begins_to_wait_for_viewers_while_a_look_is_taken_is_missed_by_none(
    rarely_looking: Store, processes: Processes
) -> None:
    desktops = [Desktop(processes, spare_display(), "320x200") for _ in range(6)]
    for desktop in desktops:
        desktop.connect()
    for desktop in desktops:
        await_clients(rarely_looking, desktop, 1)
        desktop.close()
    for desktop in desktops:
        wait_for("its end", lambda: session(rarely_looking, desktop) is None)


def test_a_client_that_has_left_is_seen_also_where_the_signs_of_a_table_are_the_same() -> None:
    machine = Machine()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(server.getsockname()) as client:
            client.send(b"x")
            accepted, _ = server.accept()
            machine.look()
            assert len(machine.own_network.tcp_clients(port) or ()) == 1
        # Who serves it has not left the connection yet, so that it still is one of those in use
        machine.doubt_tables()
        machine.look()
        assert machine.own_network.tcp_clients(port) == frozenset()
        accepted.close()


def test_a_look_knows_which_servers_certainly_run(settings: Settings, store: Store) -> None:
    with subprocess.Popen(["sleep", "600"]) as server:
        agent = Agent(settings, store, {"source": Scripted(facts(server_pid=server.pid))})
        looker, occasions, machine = Looker(agent.look), Occasions(10), agent.look.machine
        thread = threading.Thread(target=agent.run, args=[looker, occasions])
        thread.start()
        try:
            wait_for("it", lambda: {pid_in(each) for each in machine.running} == {server.pid})
            server.kill()
            wait_for("its end", lambda: not machine.running)
        finally:
            server.kill()
            looker.stop()
            thread.join()
            occasions.close()


def test_what_cannot_be_told_is_said_once_and_the_looks_go_on(
    settings: Settings,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "Ends", lambda most: BrokenEnds())
    agent = Agent(settings, store, {"source": Scripted()})
    occasions = Occasions(0)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            occasions.begin()
            occasions.follow(agent.look.take())
            occasions.is_due()
    assert [each.message for each in caplog.records if "at the next look only" in each.message] == [
        "the end of a session may be told at the next look only: Operation not permitted"
    ]


def test_whatever_fails_there_is_said_once_and_the_looks_go_on(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Agent(settings, store, {"source": Scripted(facts())})
    looker, occasions = Looker(agent.look), Occasions(0)
    occasions.close()  # so nothing of it works
    thread = threading.Thread(target=agent.run, args=[looker, occasions])
    thread.start()
    wait_for("it to be said", lambda: caplog.records)
    first = wait_for("a look", lambda: agent.look.machine.last_look)
    wait_for("another one", lambda: agent.look.machine.last_look != first)
    looker.stop()
    thread.join()
    said = [each.message for each in caplog.records if each.levelno >= logging.ERROR]
    assert said == ["what happens cannot be followed; will try again"]


class BrokenEnds:
    descriptor, problem = None, "Operation not permitted"

    def follow(self, seen: object) -> set[object]:
        return set()

    def changes(self) -> set[object]:
        return set()

    def running(self) -> set[str]:
        return set()
