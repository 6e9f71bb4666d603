"""What real sessions do is told at once: by what, and not only by a look that comes anyway."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fastx_list.agent import events as module
from fastx_list.agent.events import Events
from fastx_list.agent.keep import Agent
from fastx_list.agent.look import Looker
from fastx_list.agent.sources import load_sources
from fastx_list.agent.traffic import Counts
from fastx_list.agent.xserver import XServers
from fastx_list.config import Settings
from fastx_list.model.session import Session
from fastx_list.store import Store, open_store
from tests.agent.scripted import Scripted, listed
from tests.chaos.vnc import Desktop, spare_display
from tests.support import Processes, wait_for

WAITS, COME = "a new socket that waits", "a client that has come"
LEFT, ENDED = "a client that has left", "the end of a session's server"


class Noting(Events):
    """Notes for what a look was made sooner."""

    def __init__(self) -> None:
        super().__init__(100)
        self.noted: set[str] = set()

    def is_due(self) -> bool:
        is_due = super().is_due()
        self.noted |= {each.what for each in self.causes}
        return is_due


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[Noting]:
    # Other tests have sessions, too, and may be the same user
    for name in ("LOGIN_SECONDS", "ALL_SECONDS"):
        monkeypatch.setattr(module, name, 1000.0)
    events = Noting()
    yield events
    events.close()


@pytest.fixture
def rarely_looking(settings: Settings, store: Store, events: Noting) -> Iterator[Store]:
    """What an agent writes that looks once an hour, unless it is told to."""
    writer = open_store(settings.store)
    sources = load_sources(settings)
    agent = Agent(replace(settings, scan_interval=3600.0, server_expiry=3600), writer, sources)
    looker = Looker(agent.look)
    thread = threading.Thread(target=agent.run, args=[looker, events])
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


def test_start_clients_and_end_are_each_told_by_an_event(
    rarely_looking: Store, events: Noting, processes: Processes
) -> None:
    desktop = Desktop(processes, spare_display(), "320x200")
    await_clients(rarely_looking, desktop, 0)
    assert WAITS in events.noted
    for count in (1, 2):
        events.noted.clear()
        desktop.connect()
        await_clients(rarely_looking, desktop, count)
        assert COME in events.noted
    for count in (1, 0):
        events.noted.clear()
        desktop.disconnect()
        await_clients(rarely_looking, desktop, count)
        assert LEFT in events.noted
    events.noted.clear()
    desktop.close()
    wait_for("its end", lambda: session(rarely_looking, desktop) is None)
    assert ENDED in events.noted


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


def test_what_cannot_be_told_is_said_once_and_the_looks_go_on(
    settings: Settings,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "Ends", lambda most: BrokenEnds())
    monkeypatch.setattr(Counts, "read", lambda self: None)
    agent = Agent(settings, store, {"source": Scripted()})
    events = Events(0)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            events.begin()
            events.follow(agent.look.take())
            events.is_due()
    assert [each.message for each in caplog.records if "at the next look only" in each.message] == [
        "the end of a session may be told at the next look only: Operation not permitted"
    ]


class BrokenEnds:
    problem = "Operation not permitted"

    def follow(self, seen: object) -> None:
        pass

    def changes(self) -> set[object]:
        return set()
