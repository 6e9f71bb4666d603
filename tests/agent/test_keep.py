from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fastx_list.agent import merge
from fastx_list.agent.keep import Agent
from fastx_list.agent.look import Looker
from fastx_list.agent.merge import session_id
from fastx_list.config import Settings, load
from fastx_list.model.session import complete
from fastx_list.store import AT_ONCE, Store, StoreError, open_store
from tests.agent.scripted import Scripted, facts, listed, only
from tests.replica.stores import remove_database
from tests.support import wait_for


def test_what_is_seen_is_listed_and_what_is_gone_has_ended(
    settings: Settings, store: Store
) -> None:
    source = Scripted(facts("x"), facts("y", login="bob"))
    agent = Agent(settings, store, {"source": source})
    assert agent.scan() == 2
    assert {(s.id, s.login) for s in listed(store).values()} == {
        (session_id("here", "x"), "alice"),
        (session_id("here", "y"), "bob"),
    }
    source.facts.pop(0)
    assert agent.scan() == 1
    assert only(store).login == "bob"


def test_what_has_not_changed_is_not_written(settings: Settings, store: Store) -> None:
    source = Scripted(facts())
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    revision = store.snapshot().revision
    source.facts = [facts()]
    agent.scan()
    agent.scan()
    assert store.changes(revision) is None


def test_a_store_that_was_emptied_is_filled_again_at_once(settings: Settings, store: Store) -> None:
    agent = Agent(settings, store, {"source": Scripted(facts())})
    agent.scan()
    store.observe("here", {})
    agent.scan()
    assert only(store).login == "alice"


def test_a_server_is_back_with_its_sessions_in_a_store_that_was_made_anew(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent(settings, store, {"source": Scripted(facts())})
    agent.scan()
    heartbeat, were_there = store.heartbeat, []

    def look_and_beat(*arguments: Any) -> str | None:
        were_there.append(bool(listed(store)))
        return heartbeat(*arguments)

    monkeypatch.setattr(store, "heartbeat", look_and_beat)
    remove_database(Path(settings.store.removeprefix("sqlite://")))
    agent.scan()
    assert [server.id for server in store.snapshot().servers] == ["here"]
    assert only(store).login == "alice"
    assert were_there == [True]  # nobody can have seen the server without its sessions


def test_a_server_is_not_back_without_the_sessions_that_a_store_lost_in_the_middle_of_a_turn(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Scripted(facts("x"))
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    observe = store.observe

    def observe_in_vain(*arguments: Any) -> str:
        edition = observe(*arguments)
        remove_database(Path(settings.store.removeprefix("sqlite://")))
        return edition

    source.facts.append(facts("y"))
    with monkeypatch.context() as unlucky:
        unlucky.setattr(store, "observe", observe_in_vain)
        agent.scan()
    assert list(store.snapshot().servers) == [] and agent.problem is None
    agent.scan()
    assert [server.id for server in store.snapshot().servers] == ["here"]
    assert len(listed(store)) == 2


def test_a_lease_is_renewed_between_two_looks_that_are_further_apart(
    settings: Settings, store: Store
) -> None:
    slow = replace(settings, scan_interval=3600.0, server_expiry=1.0)
    writer = open_store(settings.store)
    agent = Agent(slow, writer, {"source": Scripted(facts())})
    looker = Looker(agent.look)
    thread = threading.Thread(target=agent.run, args=[looker])
    thread.start()
    try:
        first = wait_for("the first heartbeat", lambda: list(store.snapshot().servers))
        count = store.snapshot().revision.number
        wait_for(
            "more of them than one lease lasts",
            lambda: store.snapshot().revision.number >= count + 8,
        )
        assert [server.id for server in first] == ["here"] and only(store).login == "alice"
    finally:
        looker.stop()
        thread.join()
        writer.close()


def test_what_happens_while_the_store_is_away_is_not_lost(
    settings: Settings,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: Any,
) -> None:
    source = Scripted(facts())
    agent = Agent(settings, store, {"source": source})
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
    agent = Agent(settings, store, {"source": source})
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
    agent = Agent(settings, store, {"source": Scripted(facts())})
    agent.scan()
    beats = 0
    for _ in range(1, 61):
        revision = store.snapshot().revision
        now += 1
        agent.scan()
        beats += store.changes(revision) is not None
        assert only(store).login == "alice"
    assert beats == 4


def test_its_lease_does_not_run_out_while_very_many_sessions_are_made(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, made, ended = time.monotonic(), count(), 0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def make_slowly(*arguments: Any) -> Any:
        nonlocal now, ended
        now += settings.server_expiry / AT_ONCE / 2
        if next(made) % (AT_ONCE // 4) == 0:
            store.end_leases()  # as others do all the time
            ended += not store.snapshot().servers
        return complete(*arguments)

    source = Scripted(facts("x"))
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    monkeypatch.setattr(merge, "complete", make_slowly)
    source.facts += [
        facts(f"x{number}", login=f"user{number % 100}") for number in range(4 * AT_ONCE)
    ]
    agent.scan()
    assert not ended and len(listed(store)) == 1 + 4 * AT_ONCE


def test_an_agent_that_was_cut_off_brings_its_sessions_back(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    source = Scripted(facts("x"), facts("y"))
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    clock(1_800_000_010)
    source.facts = [facts("x", clients=1), facts("y")]
    agent.scan()
    store.set_params(session_id("here", "x"), "alice", {"name": "Thesis"})
    before = listed(store)

    def run_out() -> None:
        nonlocal now
        for _ in range(9):  # others write all the time
            now += settings.server_expiry / 8
            store.end_leases()

    run_out()
    assert listed(store) == {} and list(store.snapshot().servers) == []
    clock(1_800_000_090)
    agent.scan()
    assert listed(store) == before
    # The same if it was started again meanwhile.
    run_out()
    assert listed(store) == {}
    Agent(settings, store, {"source": source}).scan()
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
    first = Agent(settings, store, {"source": Scripted(facts("x"))})
    other = replace(
        load({**environ, "FASTX_LIST_STATE_DIR": str(tmp_path / "other")}), store=settings.store
    )
    second = Agent(other, store, {"source": Scripted(facts("y"))})
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
    first, second = (
        Agent(settings, store, {"source": Scripted(facts(identity))}) for identity in "xy"
    )
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
    Agent(settings, store, {"source": Scripted(facts("x"))}).scan()
    again = Agent(settings, store, {"source": Scripted(facts("y"))})
    again.scan()
    assert again.problem is None
    assert listed(store).keys() == {session_id("here", "y")}
