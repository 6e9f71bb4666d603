from __future__ import annotations

import json
import os
import resource
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest

from fastx_list.agent.door import Unanswered
from fastx_list.agent.facts import Facts
from fastx_list.agent.keep import Agent
from fastx_list.agent.look import Looker
from fastx_list.agent.machine import Machine
from fastx_list.agent.merge import session_id
from fastx_list.config import Settings
from fastx_list.store import Store, open_store
from tests.agent.scripted import Scripted, facts, listed
from tests.support import wait_for


def test_a_source_that_fails_costs_the_others_nothing(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    failing, good = Scripted(facts("x")), Scripted(facts("y"))
    agent = Agent(settings, store, {"failing": failing, "good": good})
    agent.scan()
    failing.broken = True
    good.facts = [facts("y"), facts("z")]
    agent.scan()
    assert set(listed(store)) == {session_id("here", identity) for identity in "xyz"}
    agent.scan()
    assert caplog.text.count("the source failing failed") == 1
    failing.broken, failing.facts = False, []
    agent.scan()
    assert set(listed(store)) == {session_id("here", identity) for identity in "yz"}


def raise_it(*_: object) -> None:
    raise RuntimeError("nobody has thought of this")


@pytest.mark.parametrize(
    "where",
    [
        "fastx_list.agent.machine.Machine.look",
        "fastx_list.agent.start.SessionJson.read",
        "fastx_list.agent.look.Look._report_limits",
        "fastx_list.agent.keep.merge",
        "fastx_list.agent.keeper.Load.describe",
    ],
)
def test_whatever_fails_is_said_once_and_nothing_ends(
    settings: Settings,
    store: Store,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    source = Scripted(facts("x"))
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    with monkeypatch.context() as patch:
        patch.setattr(where, raise_it)
        source.facts = [facts("x"), facts("y")]
        for _ in range(3):
            agent.scan()
    assert session_id("here", "x") in listed(store)
    assert caplog.text.count("Traceback") == 1
    agent.scan()
    assert set(listed(store)) == {session_id("here", identity) for identity in "xy"}


def test_a_machine_that_cannot_be_measured_costs_no_lease(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("virtual_memory", "cpu_percent", "getloadavg", "boot_time"):
        monkeypatch.setattr(psutil, name, raise_it)
    agent = Agent(settings, store, {"source": Scripted(facts("x"))})
    agent.scan()
    [server] = store.snapshot().servers
    assert server.text is not None and json.loads(server.text)["freemem"] is None
    assert agent.problem is None


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_descriptors_nothing_is_seen_to_end() -> None:
    machine = Machine()
    machine.look()
    before = dict(machine.processes)
    mine = before[os.getpid()]
    with no_descriptors():
        with pytest.raises(OSError, match="Too many open files"):
            machine.look()
        assert machine.processes == before
        with pytest.raises(Unanswered):
            machine.still_runs(mine)
        with pytest.raises(Unanswered):
            machine.own_sockets(mine, frozenset({1}))
        with pytest.raises(Unanswered):
            assert mine.args
    assert machine.still_runs(mine) and mine.args


def test_who_has_not_seen_anything_yet_says_nothing_to_a_store_that_knows_nothing_of_it(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store may have lost what runs, and readers wait for an agent to say it."""
    may_look, asked = threading.Event(), list[str]()
    source, writer = Scripted(facts()), open_store(settings.store)
    scan, edition = source.scan, writer.edition

    def hang(machine: Machine) -> Iterable[Facts]:
        may_look.wait()
        return scan(machine)

    def note(server_id: str) -> str | None:
        asked.append(server_id)
        return edition(server_id)

    monkeypatch.setattr(source, "scan", hang)
    monkeypatch.setattr(writer, "edition", note)
    agent = Agent(replace(settings, server_expiry=1.0), writer, {"source": source})
    looker = Looker(agent.look)
    thread = threading.Thread(target=agent.run, args=[looker])
    thread.start()
    try:
        wait_for("its turns while it looks", lambda: len(asked) > 3)
        assert not list(store.snapshot().servers)
        may_look.set()
        wait_for("its sessions", lambda: listed(store))
    finally:
        may_look.set()
        looker.stop()
        thread.join()
        writer.close()
