from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastx_list.agent.facts import Facts
from fastx_list.agent.keep import Agent, session_id
from fastx_list.agent.machine import Machine
from fastx_list.config import Settings, load
from fastx_list.model.session import Session, decode
from fastx_list.store import Store, StoreError, open_store
from tests.support import wait_for


class Scripted:
    """A source that sees what a test says, at moments that no real session can be made to keep."""

    def __init__(self, *facts: Facts) -> None:
        self.facts: list[Facts] = list(facts)
        self.broken = False

    def scan(self, machine: Machine) -> Iterable[Facts]:
        if self.broken:
            raise RuntimeError("broken")
        return list(self.facts)


def facts(identity: str = "x", **more: Any) -> Facts:
    return Facts(
        identity=identity,
        **{"login": "alice", "clients": 0, "started": 1000, "server_pid": 5, **more},
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what time it is, in seconds: ``clock(100)``."""

    def set_to(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: seconds)

    set_to(1_800_000_000)
    return set_to


def listed(store: Store) -> dict[str, Session]:
    return {
        record.id: decode(record.text)
        for record in store.snapshot().records
        if record.text is not None
    }


def only(store: Store) -> Session:
    [session] = listed(store).values()
    return session


def test_what_is_seen_is_listed_and_what_is_gone_has_ended(
    settings: Settings, store: Store
) -> None:
    source = Scripted(facts("x"), facts("y", login="bob"))
    agent = Agent(settings, store, [source])
    assert agent.scan() == 2
    assert {(s.id, s.login) for s in listed(store).values()} == {
        (session_id("here", "x"), "alice"),
        (session_id("here", "y"), "bob"),
    }
    source.facts.pop(0)
    assert agent.scan() == 1
    assert only(store).login == "bob"


def test_an_id_is_the_same_after_a_restart_and_another_on_another_server(
    settings: Settings,
) -> None:
    assert (
        session_id("here", "x")
        == session_id("here", "x")
        != session_id("there", "x")
        != session_id("there", "y")
    )


def test_clients_that_come_and_go_are_dated(settings: Settings, store: Store, clock: Any) -> None:
    source = Scripted(facts())
    agent = Agent(settings, store, [source])
    agent.scan()
    assert (only(store).last_connect, only(store).last_disconnect) == (None, None)
    for second, clients, expected in (
        (1, 1, (1, None)),
        (2, 1, (1, None)),
        (3, 2, (3, None)),
        (4, 1, (3, 4)),
        (5, 0, (3, 5)),
        (6, 0, (3, 5)),
        (7, 1, (7, 5)),
    ):
        clock(second)
        source.facts = [facts(clients=clients)]
        agent.scan()
        assert (only(store).last_connect, only(store).last_disconnect) == tuple(
            None if value is None else value * 1000 for value in expected
        )


def test_a_client_that_takes_anothers_place_between_two_looks_is_noticed(
    settings: Settings, store: Store, clock: Any
) -> None:
    source = Scripted(facts(clients=1, connections=frozenset({10})))
    agent = Agent(settings, store, [source])
    agent.scan()
    clock(9)
    source.facts = [facts(clients=1, connections=frozenset({11}))]
    agent.scan()
    assert only(store).last_connect == only(store).last_disconnect == 9000


def test_a_client_found_on_an_old_session_came_nobody_knows_when(
    settings: Settings, store: Store, clock: Any
) -> None:
    Agent(settings, store, [Scripted(facts(clients=1))]).scan()
    assert only(store).last_connect is None


def test_a_client_found_on_a_session_that_was_not_there_before_came_just_now(
    settings: Settings, store: Store, clock: Any
) -> None:
    source = Scripted()
    agent = Agent(settings, store, [source])
    agent.scan()
    source.facts = [facts(clients=1, started=1_800_000_000_500)]
    clock(1_800_000_001)
    agent.scan()
    assert only(store).last_connect == 1_800_000_001_000


def test_a_restart_forgets_nothing(settings: Settings, store: Store, clock: Any) -> None:
    source = Scripted(facts(app_pid=7, command="first"))
    agent = Agent(settings, store, [source])
    agent.scan()
    clock(1_800_000_005)
    source.facts = [facts(clients=1, app_pid=7, command="first")]
    agent.scan()
    before = only(store)
    store.set_params(before.id, "alice", {"name": "Thesis"})
    # Meanwhile the client has left, the first program too, and the clock was set back, so that the
    # start seems another.
    clock(1_800_000_060)
    Agent(settings, store, [Scripted(facts(started=900, app_pid=8, command="second"))]).scan()
    assert only(store) == replace(
        before, clients=0, last_disconnect=1_800_000_060_000, params={"name": "Thesis"}
    )


def test_the_first_program_is_the_one_that_stays_but_a_launcher_may_correct_itself(
    settings: Settings, store: Store, clock: Any
) -> None:
    started = 1_800_000_000_000
    source = Scripted(facts("x", started=started), facts("y", started=started, stated=True))
    agent = Agent(settings, store, [source])

    def commands(second: float, command: str) -> list[str | None]:
        clock(1_800_000_000 + second)
        source.facts = [
            facts("x", started=started, app_pid=7, command=command),
            facts("y", started=started, app_pid=7, command=command, stated=True),
        ]
        agent.scan()
        sessions = listed(store)
        return [sessions[session_id("here", identity)].command for identity in "xy"]

    assert commands(1, "setup") == ["setup", "setup"]
    assert commands(5, "desktop") == ["desktop", "desktop"]
    assert commands(60, "other") == ["desktop", "other"]


def test_what_has_not_changed_is_not_written(settings: Settings, store: Store) -> None:
    source = Scripted(facts())
    agent = Agent(settings, store, [source])
    agent.scan()
    revision = store.snapshot().revision
    source.facts = [facts()]
    agent.scan()
    agent.scan()
    assert store.changes(revision) is None


def test_a_store_that_was_emptied_is_filled_again_at_once(settings: Settings, store: Store) -> None:
    agent = Agent(settings, store, [Scripted(facts())])
    agent.scan()
    store.observe("here", {})
    agent.scan()
    assert only(store).login == "alice"


def test_a_server_is_back_with_its_sessions_in_a_store_that_was_made_anew(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent(settings, store, [Scripted(facts())])
    agent.scan()
    heartbeat, were_there = store.heartbeat, []

    def look_and_beat(*arguments: Any) -> str | None:
        were_there.append(bool(listed(store)))
        return heartbeat(*arguments)

    monkeypatch.setattr(store, "heartbeat", look_and_beat)
    for ending in ("", "-wal", "-shm"):
        Path(settings.store.removeprefix("sqlite://") + ending).unlink(missing_ok=True)
    agent.scan()
    assert [server.id for server in store.snapshot().servers] == ["here"]
    assert only(store).login == "alice"
    assert were_there == [True]  # nobody can have seen the server without its sessions


def test_a_lease_is_renewed_between_two_looks_that_are_further_apart(
    settings: Settings, store: Store
) -> None:
    slow = replace(settings, scan_interval=3600.0, server_expiry=1.0)
    writer = open_store(settings.store)
    agent = Agent(slow, writer, [Scripted(facts())])
    stop = threading.Event()
    thread = threading.Thread(target=agent.run, args=[stop.wait])
    thread.start()
    try:
        first = wait_for("the first heartbeat", lambda: list(store.snapshot().servers))
        revision = store.snapshot().revision
        wait_for(
            "more of them than one lease lasts", lambda: store.snapshot().revision >= revision + 8
        )
        assert [server.id for server in first] == ["here"] and only(store).login == "alice"
    finally:
        stop.set()
        thread.join()
        writer.close()


def test_a_session_that_another_release_wrote_with_fewer_members_is_known(
    settings: Settings, store: Store
) -> None:
    source = Scripted(facts(clients=1))
    Agent(settings, store, [source]).scan()
    [(name, before)] = listed(store).items()
    with sqlite3.connect(settings.store.removeprefix("sqlite://")) as db:
        text = json.loads(db.execute("SELECT text FROM session").fetchone()[0])
        del text["videoRam"]
        db.execute("UPDATE session SET text = ?", (json.dumps(text),))
    Agent(settings, store, [source]).scan()
    assert listed(store) == {name: before}


def test_a_source_that_fails_costs_the_others_nothing(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    failing, good = Scripted(facts("x")), Scripted(facts("y"))
    agent = Agent(settings, store, [failing, good])
    agent.scan()
    failing.broken = True
    good.facts = [facts("y"), facts("z")]
    agent.scan()
    assert set(listed(store)) == {session_id("here", identity) for identity in "xyz"}
    agent.scan()
    assert caplog.text.count("the source Scripted failed") == 1
    failing.broken, failing.facts = False, []
    agent.scan()
    assert set(listed(store)) == {session_id("here", identity) for identity in "yz"}


@pytest.mark.parametrize("has_process", [True, False])
def test_a_source_that_fails_at_the_first_look_ends_nothing(
    settings: Settings, store: Store, has_process: bool
) -> None:
    now, server_pid = round(time.time() * 1000), os.getpid() if has_process else None
    source = Scripted(facts("x", clients=2, server_pid=server_pid, started=now))
    gone = Scripted(facts("y", server_pid=2**22 + 1), facts("z", server_pid=os.getpid()))
    before = Agent(settings, store, [source, gone])
    before.scan()
    store.set_params(session_id("here", "x"), "alice", {"name": "kept"})
    source.broken, gone.facts = True, []
    agent = Agent(settings, store, [source, gone])
    agent.scan()
    agent.scan()
    # Of the others even the processes have gone: today's is younger than the session.
    assert set(listed(store)) == {session_id("here", "x")}
    source.broken = False
    agent.scan()
    assert only(store).params == {"name": "kept"}
    source.facts = []
    agent.scan()
    assert not listed(store)


def test_a_source_that_goes_on_failing_keeps_for_a_minute_what_no_process_tells_of(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Scripted(facts("x", server_pid=None))
    Agent(settings, store, [source]).scan()
    source.broken = True
    agent = Agent(settings, store, [source])
    agent.scan()
    began = time.monotonic()
    for seconds, is_listed in ((50, True), (61, False)):
        monkeypatch.setattr(time, "monotonic", lambda: began + seconds)
        agent.scan()
        assert bool(listed(store)) == is_listed


def test_a_source_that_failed_and_then_finds_nothing_ends_what_was_known(
    settings: Settings, store: Store
) -> None:
    source = Scripted(facts("x", server_pid=os.getpid(), started=round(time.time() * 1000)))
    Agent(settings, store, [source]).scan()
    source.broken, source.facts = True, []
    agent = Agent(settings, store, [source])
    agent.scan()
    assert listed(store)
    source.broken = False
    agent.scan()
    assert not listed(store)


def test_a_session_whose_server_runs_is_not_ended_by_one_look_that_misses_it(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    machine.look()
    mine = machine.processes[os.getpid()]
    served = facts(mine.identity, server_pid=mine.pid)
    Agent(settings, store, [Scripted(served, facts("of another boot", server_pid=mine.pid))]).scan()
    store.set_params(session_id("here", mine.identity), "alice", {"name": "kept"})
    source = Scripted()
    agent = Agent(settings, store, [source])
    agent.scan()
    assert only(store).params == {"name": "kept"}
    source.facts = [served]
    agent.scan()
    assert only(store).params == {"name": "kept"}
    later = Agent(settings, store, [Scripted()])
    later.scan()
    assert only(store)
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 10)
    later.scan()
    assert not listed(store)


def test_what_happens_while_the_store_is_away_is_not_lost(
    settings: Settings,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: Any,
) -> None:
    source = Scripted(facts())
    agent = Agent(settings, store, [source])
    agent.scan()

    def fail(*args: object) -> None:
        raise StoreError("disk full")

    with monkeypatch.context() as away:
        away.setattr(type(store), "observe", fail)
        clock(1_800_000_010)
        source.facts = [facts(clients=1)]
        agent.scan()
        source.facts = [facts(clients=0)]
        clock(1_800_000_020)
        agent.scan()
    with caplog.at_level(logging.WARNING):
        agent.scan()
    assert (only(store).last_connect, only(store).last_disconnect) == (
        1_800_000_010_000,
        1_800_000_020_000,
    )
    assert caplog.text.count("disk full") == 1 and "can be written again" in caplog.text


def heard(store: Store) -> dict[str, Any]:
    [server] = store.snapshot().servers
    found: dict[str, Any] = json.loads(server.text or "null")
    return found


def test_it_tells_what_the_machine_is_like(environ: dict[str, str], store: Store) -> None:
    settings = load(
        {
            **environ,
            "FASTX_LIST_SERVER_POOL": "gpu",
            "FASTX_LIST_SERVER_URL": "https://here.example",
        }
    )
    source = Scripted(facts("x"), facts("y", login="bob"), facts("z"))
    agent = Agent(settings, store, [source])
    agent.scan()
    server = heard(store)
    assert {
        name: server[name]
        for name in ("serverId", "id", "serverPool", "url", "hostname", "loggedInUsers", "sessions")
    } == {
        "serverId": "here",
        "id": "here",
        "serverPool": "gpu",
        "url": "https://here.example",
        "hostname": socket.gethostname(),
        "loggedInUsers": 2,
        "sessions": 3,
    }
    assert 0 <= server["cpu"] <= 100 and 0 < server["freemem"] < server["totalmem"]
    assert server["totalmem"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with open("/proc/uptime", encoding="ascii") as file:
        assert abs(server["uptime"] - float(file.read().split()[0])) < 60
    assert len(server["loadavg"]) == 3
    source.facts.pop()  # told at once, not with the next regular heartbeat
    agent.scan()
    assert heard(store)["sessions"] == 2


def test_it_renews_its_lease_several_times_before_that_runs_out(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    agent = Agent(settings, store, [Scripted(facts())])
    agent.scan()
    beats = 0
    for _ in range(1, 61):
        revision = store.snapshot().revision
        now += 1
        agent.scan()
        beats += store.changes(revision) is not None
        assert only(store).login == "alice"
    assert beats == 4


def test_an_agent_that_was_cut_off_brings_its_sessions_back(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    source = Scripted(facts("x"), facts("y"))
    agent = Agent(settings, store, [source])
    agent.scan()
    clock(1_800_000_010)
    source.facts = [facts("x", clients=1), facts("y")]
    agent.scan()
    store.set_params(session_id("here", "x"), "alice", {"name": "Thesis"})
    before = listed(store)
    now += settings.server_expiry + 1
    assert listed(store) == {} and list(store.snapshot().servers) == []
    clock(1_800_000_090)
    agent.scan()
    assert listed(store) == before
    # The same if it was started again meanwhile.
    now += settings.server_expiry + 1
    assert listed(store) == {}
    Agent(settings, store, [source]).scan()
    assert listed(store) == before


def test_of_two_agents_with_one_server_id_one_writes_and_both_say_so(
    settings: Settings,
    environ: dict[str, str],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    first = Agent(settings, store, [Scripted(facts("x"))])
    other = replace(
        load({**environ, "FASTX_LIST_STATE_DIR": str(tmp_path / "other")}), store=settings.store
    )
    second = Agent(other, store, [Scripted(facts("y"))])
    first.scan()
    written = listed(store)
    for _ in range(100):
        now += 1
        second.scan()
        first.scan()
        assert listed(store) == written
    assert [
        record.message
        for record in caplog.records
        if "is in use by another agent" in record.message
    ] == [second.problem + "; will try again" if second.problem else ""]
    assert [
        record.message.partition(",")[0]
        for record in caplog.records
        if "also calls itself" in record.message
    ] == ["another agent"]
    assert first.problem is None and "FASTX_LIST_SERVER_ID" in caplog.text
    # The first one dies; once its lease has run out, the second one has the server to itself.
    for _ in range(round(settings.server_expiry) + 16):
        now += 1
        second.scan()
    assert listed(store).keys() == {session_id("here", "y")} and second.problem is None


def test_of_two_agents_that_were_copied_the_later_one_stays(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    first, second = (Agent(settings, store, [Scripted(facts(identity))]) for identity in "xy")
    first.scan()
    second.scan()
    for _ in range(100):
        now += 1
        first.scan()
        second.scan()
        assert listed(store).keys() == {session_id("here", "y")}
    assert first.problem is not None and second.problem is None


def test_an_agent_that_is_started_again_after_a_kill_writes_at_once(
    settings: Settings, store: Store
) -> None:
    Agent(settings, store, [Scripted(facts("x"))]).scan()
    again = Agent(settings, store, [Scripted(facts("y"))])
    again.scan()
    assert again.problem is None
    assert listed(store).keys() == {session_id("here", "y")}


def test_it_looks_again_and_again_until_it_is_stopped(settings: Settings, store: Store) -> None:
    waits: list[float] = []

    def stopped(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 3

    thread = threading.Thread(
        target=Agent(settings, store, [Scripted(facts())]).run, args=[stopped]
    )
    thread.start()
    thread.join(20)
    assert len(waits) == 3 and all(0 <= wait <= settings.scan_interval for wait in waits)
