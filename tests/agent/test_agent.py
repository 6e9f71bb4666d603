from __future__ import annotations

import json
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastx_list.agent.keep import Agent
from fastx_list.agent.machine import Machine
from fastx_list.agent.merge import session_id
from fastx_list.config import Settings
from fastx_list.store import REFILL_SECONDS, Store
from tests.agent.scripted import Scripted, facts, listed, only
from tests.replica.stores import remove_database


def test_an_id_is_the_same_after_a_restart_and_another_on_another_server(
    settings: Settings,
) -> None:
    assert (
        session_id("here", "x")
        == session_id("here", "x")
        != session_id("there", "x")
        != session_id("there", "y")
    )


def test_a_session_is_of_the_kind_of_the_source_that_found_it(
    settings: Settings, store: Store
) -> None:
    sources = {"one": Scripted(facts()), "other": Scripted(facts(identity="2"))}
    agent = Agent(settings, store, sources)
    agent.scan()
    assert sorted(str(each.kind) for each in listed(store).values()) == ["one", "other"]
    sources["one"].facts = []
    sources["other"].facts += [facts()]
    agent.scan()
    assert [each.kind for each in listed(store).values()] == ["other", "other"]


def test_a_session_that_an_older_release_knew_gets_its_kind(
    settings: Settings, store: Store
) -> None:
    source = Scripted(facts())
    Agent(settings, store, {"source": source}).scan()
    [known] = listed(store).values()
    store.observe("here", {known.id: replace(known, kind=None)})
    Agent(settings, store, {"source": source}).scan()
    assert only(store).kind == "source"


def test_clients_that_come_and_go_are_dated(settings: Settings, store: Store, clock: Any) -> None:
    source = Scripted(facts())
    agent = Agent(settings, store, {"source": source})
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
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    clock(9)
    source.facts = [facts(clients=1, connections=frozenset({11}))]
    agent.scan()
    assert only(store).last_connect == only(store).last_disconnect == 9000


def test_a_client_found_on_an_old_session_came_nobody_knows_when(
    settings: Settings, store: Store, clock: Any
) -> None:
    Agent(settings, store, {"source": Scripted(facts(clients=1))}).scan()
    assert only(store).last_connect is None


def test_a_client_found_on_a_session_that_was_not_there_before_came_just_now(
    settings: Settings, store: Store, clock: Any
) -> None:
    source = Scripted()
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    source.facts = [facts(clients=1, started=1_800_000_000_500)]
    clock(1_800_000_001)
    agent.scan()
    assert only(store).last_connect == 1_800_000_001_000


def test_a_restart_forgets_nothing(settings: Settings, store: Store, clock: Any) -> None:
    source = Scripted(facts(app_pid=7, command="first"))
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    clock(1_800_000_005)
    source.facts = [facts(clients=1, app_pid=7, command="first")]
    agent.scan()
    before = only(store)
    store.set_params(before.id, "alice", {"name": "Thesis"})
    # Meanwhile the client has left, the first program too, and the clock was set back, so that the
    # start seems another.
    clock(1_800_000_060)
    Agent(
        settings, store, {"source": Scripted(facts(started=900, app_pid=8, command="second"))}
    ).scan()
    assert only(store) == replace(
        before, clients=0, last_disconnect=1_800_000_060_000, params={"name": "Thesis"}
    )


def test_the_first_program_is_the_one_that_stays_but_a_launcher_may_correct_itself(
    settings: Settings, store: Store, clock: Any
) -> None:
    started = 1_800_000_000_000
    source = Scripted(facts("x", started=started), facts("y", started=started, stated=True))
    agent = Agent(settings, store, {"source": source})

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


def test_a_session_that_another_release_wrote_with_fewer_members_is_known(
    settings: Settings, store: Store
) -> None:
    source = Scripted(facts(clients=1))
    Agent(settings, store, {"source": source}).scan()
    [(name, before)] = listed(store).items()
    with sqlite3.connect(settings.store.removeprefix("sqlite://")) as db:
        text = json.loads(db.execute("SELECT text FROM session").fetchone()[0])
        del text["videoRam"]
        db.execute("UPDATE session SET text = ?", (json.dumps(text),))
    Agent(settings, store, {"source": source}).scan()
    assert listed(store) == {name: before}


@pytest.mark.parametrize("has_process", [True, False])
def test_a_source_that_fails_at_the_first_look_ends_nothing(
    settings: Settings, store: Store, has_process: bool
) -> None:
    now, server_pid = round(time.time() * 1000), os.getpid() if has_process else None
    source = Scripted(facts("x", clients=2, server_pid=server_pid, started=now))
    gone = Scripted(facts("y", server_pid=2**22 + 1), facts("z", server_pid=os.getpid()))
    before = Agent(settings, store, {"source": source, "gone": gone})
    before.scan()
    store.set_params(session_id("here", "x"), "alice", {"name": "kept"})
    source.broken, gone.facts = True, []
    agent = Agent(settings, store, {"source": source, "gone": gone})
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


def test_an_agent_that_has_not_seen_all_is_not_back_in_an_empty_store_while_it_is_waited_for(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Scripted(facts("y"))
    broken.broken = True
    sources = {"source": Scripted(facts("x")), "broken": broken}
    Agent(settings, store, sources).scan()
    assert len(listed(store)) == 1  # who looks but once does not wait
    store.close()
    remove_database(Path(settings.store.removeprefix("sqlite://")))
    agent = Agent(settings, store, sources)
    agent._waits = REFILL_SECONDS  # as who looks again and again
    began = time.monotonic()
    agent.scan()
    monkeypatch.setattr(time, "monotonic", lambda: began + REFILL_SECONDS - 1)
    agent.scan()
    assert list(store.snapshot().servers) == [] and not listed(store)
    monkeypatch.setattr(time, "monotonic", lambda: began + 2 * REFILL_SECONDS)
    agent.scan()
    [server] = store.snapshot().servers
    assert "the source broken failed" in str(server.text) and len(listed(store)) == 1
    broken.broken = False
    agent.scan()
    assert len(listed(store)) == 2


def test_a_source_that_goes_on_failing_ends_nothing_and_is_a_problem(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Scripted(facts("x", server_pid=None))
    Agent(settings, store, {"source": source}).scan()
    source.broken = True
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 3600)
    agent.scan()
    assert listed(store)
    [server] = store.snapshot().servers
    assert "the source source failed; its sessions stay as they were" in str(server.text)
    source.broken, source.facts = False, []
    agent.scan()
    assert not listed(store)


def test_a_source_that_failed_and_then_finds_nothing_ends_what_was_known(
    settings: Settings, store: Store
) -> None:
    source = Scripted(facts("x", server_pid=os.getpid(), started=round(time.time() * 1000)))
    Agent(settings, store, {"source": source}).scan()
    source.broken, source.facts = True, []
    agent = Agent(settings, store, {"source": source})
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
    Agent(
        settings, store, {"source": Scripted(served, facts("of another boot", server_pid=mine.pid))}
    ).scan()
    store.set_params(session_id("here", mine.identity), "alice", {"name": "kept"})
    source = Scripted()
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    assert only(store).params == {"name": "kept"}
    source.facts = [served]
    agent.scan()
    assert only(store).params == {"name": "kept"}
    later = Agent(settings, store, {"source": Scripted()})
    later.scan()
    assert only(store)
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 10)
    later.scan()
    assert not listed(store)
