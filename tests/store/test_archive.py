"""What stores keep of what has happened; against each of them."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from fastx_list.config import Settings
from fastx_list.model.event import Event, What
from fastx_list.model.past import MAX_TOLD, Past
from fastx_list.store import Store, open_store, redis_script, sqlite_order, sqlite_past
from fastx_list.store.archive import Span
from tests.store.common import (
    FAR,
    SHORT,
    OpenStore,
    by_id,
    make_lease,
    make_server,
    make_session,
    until_it_ran_out,
    write_anything,
)

ALL = Span(None)


def said(events: Iterator[Event] | Any) -> list[str]:
    return [event.what for event in events]


def new_events(store: Store, after: str | None = None) -> list[str]:
    return said(store.archive.events(after, 1000).events)


def history(store: Store, span: Span = ALL) -> dict[str, Past]:
    ids = store.archive.find(span, 0, 1000, last_first=True)
    records = store.archive.read(ids)
    return {json.loads(record.text)["id"]: record.past for record in records}


def test_each_thing_that_happens_is_an_event_once_and_in_order(store: Store) -> None:
    lease = make_lease()
    one = make_session(clients=0, started=1000)
    store.observe("s1", by_id(one), lease)
    for _ in range(2):  # what is written again has not happened again
        store.observe("s1", by_id(replace(one, clients=2, last_connect=2000)), lease)
    store.set_params("s1-1", "alice", {"name": "Thesis"})
    store.set_params("s1-1", "alice", {"name": "Thesis"})
    left = replace(one, clients=1, last_connect=2000, last_disconnect=3000)
    store.observe("s1", by_id(left), lease)
    store.heartbeat(make_server("s1"), lease)
    store.observe("s1", {}, lease)
    for _ in range(2):
        store.revoke({"jti": FAR})
    store.archive.note(What.TOKEN_ISSUED, "alice", {"token": "jti"})
    events = store.archive.events(None, 1000).events
    assert said(events) == [
        *("serverCame", "sessionBegan", "clientConnected", "clientConnected", "paramsSet"),
        *("clientLeft", "sessionEnded", "tokenRevoked", "tokenIssued"),
    ]
    assert len({event.id for event in events}) == len(events)
    about = [(event.session, event.login, event.server_id) for event in events]
    session = "s1-1", "alice", "s1"
    assert about == [
        *[(None, None, "s1"), *[session] * 6],
        *[(None, None, None), (None, "alice", None)],
    ]
    assert events[4].more == {"names": ["name"]}
    assert events[5].more == {"clients": 1, "addresses": []}
    assert events[6].more["began"] == 1000
    assert events[7].more == {"token": "jti", "expires": FAR}


def test_a_session_that_says_it_has_any_number_of_clients_makes_few_events(store: Store) -> None:
    lease = make_lease()
    for clients in (50_000, 0, 50_000):  # of 2**31, which are allowed, too, nobody would see an end
        now = make_session(clients=clients, last_connect=2000)
        store.observe("s1", by_id(now), lease)
    found = store.archive.events(None, 1000).events
    assert Counter(said(found)) == {
        "serverCame": 1,
        "sessionBegan": 1,
        "clientConnected": 2 * MAX_TOLD,
        "clientLeft": MAX_TOLD,
    }
    assert found[-1].more["clients"] == 50_000


def test_an_event_of_params_says_little_however_long_their_names_are(store: Store) -> None:
    store.observe("s1", by_id(make_session()))
    names = [f"{number:02}" + 98 * "x" for number in range(60)]
    store.set_params("s1-1", "alice", dict.fromkeys(names, ""))
    last = store.archive.events(None, 1000).events[-1]
    assert last.what == "paramsSet"
    assert last.more == {"names": [name[:32] for name in names[:20]]}


def test_who_comes_back_gets_what_followed_and_nothing_twice(store: Store) -> None:
    store.observe("s1", by_id(*map(make_session, range(5))), make_lease())
    seen, place = list[str](), None
    while events := store.archive.events(place, 2).events:
        seen += [event.id for event in events]
        place = events[-1].id
    assert seen == [event.id for event in store.archive.events(None, 1000).events]
    assert place == store.archive.last_event() and not new_events(store, place)
    store.observe("s1", {}, make_lease())
    assert new_events(store, place) == ["sessionEnded"] * 5


@pytest.mark.parametrize(
    "place",
    [
        *("77-0-abc", "5000000000000-0-abc", "abc", "1-abc", "-"),
        *("²-abc", "²-0-abc", f"{10**30}-0-abc", f"{10**30}-abc"),
    ],
)
def test_who_knows_an_event_that_is_not_there_is_told_so(store: Store, place: str) -> None:
    write_anything(store)
    assert store.archive.events(place, 10).has_gap
    assert not store.archive.events(None, 10).has_gap


def test_nothing_has_happened_in_a_new_store(store: Store) -> None:
    assert store.archive.last_event() is None and new_events(store) == []
    assert store.archive.count(ALL) == 0 and history(store) == {}
    assert store.archive.erase("alice") == 0


def test_what_ends_with_its_server_and_comes_back_is_one_session(
    store: Store, opened: OpenStore
) -> None:
    session = make_session(clients=1, started=1000, last_connect=2000)
    store.observe("s1", by_id(session), make_lease(seconds=SHORT))
    until_it_ran_out(store)
    before = store.archive.last_event()
    events = store.archive.events(None, 1000).events
    assert said(events) == [
        *("serverCame", "sessionBegan", "clientConnected", "sessionEnded", "serverLost")
    ]
    assert events[3].more["serverLost"] is True
    [past] = history(store).values()
    assert past.ended is not None
    opened().observe("s1", by_id(session), make_lease())
    events = store.archive.events(before, 1000).events
    assert said(events) == ["serverCame", "sessionBegan"] and events[1].more == {"again": True}
    [past] = history(store).values()
    assert past.ended is None and past.began == 1000


def test_history_has_the_sessions_that_run_and_those_that_have_ended(store: Store) -> None:
    one, two = make_session(1, started=1000, clients=1), make_session(2, login="bob", started=2000)
    store.observe("s1", by_id(one, two))
    store.set_params("s1-1", "alice", {"name": "Thesis"})
    store.observe("s1", by_id(two))
    [ended, running] = reversed(store.archive.read(store.archive.find(ALL, 0, 10, True)))
    assert json.loads(ended.text)["params"] == {"name": "Thesis"}
    assert ended.past.began == 1000 and ended.past.ended and ended.past.since is None
    assert running.past == Past(began=2000, started=2000)
    assert list(history(store, Span("bob"))) == ["s1-2"] and list(history(store, Span("x"))) == []
    assert [store.archive.count(Span(login)) for login in (None, "alice", "x")] == [2, 1, 0]


def test_history_is_in_the_order_of_ends_and_what_runs_comes_last(store: Store) -> None:
    sessions = [make_session(number, started=number * 10) for number in range(5)]
    store.observe("s1", by_id(*sessions))
    for gone in (3, 0):
        sessions = [each for each in sessions if each.id != f"s1-{gone}"]
        store.observe("s1", by_id(*sessions))
    find = store.archive.find
    ids = [f"s1-{number}" for number in (3, 0, 1, 2, 4)]
    if history(store)["s1-3"].ended == history(store)["s1-0"].ended:  # within a millisecond
        ids[:2] = find(ALL, 0, 2, False)
    assert find(ALL, 0, 10, False) == ids
    assert find(ALL, 0, 10, True) == ids[::-1]
    assert find(ALL, 1, 2, True) == [ids[3], ids[2]]


def test_since_and_until_are_about_the_end(store: Store) -> None:
    one, two = make_session(1, started=1), make_session(2, started=2)
    store.observe("s1", by_id(one, two))
    store.observe("s1", by_id(two))
    ended = history(store)["s1-1"].ended
    assert ended is not None
    for since, until, expected in (
        (ended, None, {"s1-1", "s1-2"}),
        (ended + 1, None, {"s1-2"}),
        (None, ended, set()),
        (None, ended + 1, {"s1-1"}),
        (None, 2**53, {"s1-1"}),
        (ended, ended, set()),
    ):
        for login in (None, "alice"):
            span = Span(login, since, until)
            assert set(history(store, span)) == expected
            assert store.archive.count(span) == len(expected)


def test_nothing_has_ended_before_it_began_whatever_the_clock_said(store: Store) -> None:
    store.observe("s1", by_id(make_session(started=2**52)))
    store.observe("s1", {})
    [past] = history(store).values()
    [_, ended] = store.archive.events(None, 10).events
    assert past.began == past.ended == ended.more["began"]


def test_a_session_that_another_login_is_found_for_is_that_ones(store: Store) -> None:
    store.observe("s1", by_id(make_session(login="1000")))
    store.observe("s1", by_id(make_session(login="alice")))
    assert history(store, Span("1000")) == {} and len(history(store, Span("alice"))) == 1


def test_a_login_can_be_erased_but_for_what_runs(store: Store) -> None:
    mine, others = make_session(1), make_session(2, login="bob")
    store.observe("s1", by_id(mine, others))
    store.observe("s1", by_id(others, make_session(3)))
    store.observe("s1", by_id(make_session(3)))
    place = store.archive.last_event()
    assert store.archive.erase("alice") == 1
    assert set(history(store)) == {"s1-2", "s1-3"}
    events = store.archive.events(None, 1000).events
    assert "alice" not in {event.login for event in events} and len(events) == 2
    assert store.archive.erase("alice") == 0 and new_events(store, place) == []
    assert "s1-3" in {record.id for record in store.snapshot().records}


def test_without_history_nothing_is_kept_that_has_ended(store: Store, url: str) -> None:
    store.observe("s1", by_id(*map(make_session, range(3))))
    store.observe("s1", {})
    assert len(history(store)) == 3
    keeping_nothing = open_store(url, keep=0)
    write_anything(keeping_nothing)
    write_anything(keeping_nothing)
    assert history(store) == {} and new_events(store)
    keeping_nothing.close()


def test_no_more_is_kept_than_was_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (redis_script, sqlite_past):
        monkeypatch.setattr(module, "MAX_KEPT", 2)
    monkeypatch.setattr(sqlite_order, "FORGET_AFTER", 1)
    store = open_store(url)
    store.observe("s1", by_id(*map(make_session, range(5))))
    for number in range(4):  # the last of them runs
        store.observe("s1", by_id(*map(make_session, range(number + 1, 5))))
    write_anything(store)
    assert "s1-4" in history(store) and len(history(store)) <= 3
    store.close()


def test_who_has_very_many_sessions_keeps_the_last_and_drives_out_nobody_elses(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (redis_script, sqlite_past):
        monkeypatch.setattr(module, "MAX_KEPT_OF_LOGIN", 2)
    monkeypatch.setattr(sqlite_past, "COUNT_AFTER", 1)
    store = open_store(url)
    hers, runs = make_session(8, login="alice"), make_session(9, login="mallory")
    his = [make_session(number, login="mallory") for number in range(5)]
    store.observe("s1", by_id(hers, runs, *his))
    store.observe("s1", by_id(runs, *his))
    for number in range(5):
        store.observe("s1", by_id(runs, *his[number + 1 :]))
    assert history(store).keys() == {"s1-9", "s1-4", "s1-3", "s1-8"}
    assert store.archive.count(Span("mallory")) == 3
    store.close()


def test_who_makes_very_many_events_drives_out_their_own_alone_and_whoever_follows_is_told(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (redis_script, sqlite_past):
        monkeypatch.setattr(module, "MAX_EVENTS_OF_LOGIN", 20)
        monkeypatch.setattr(module, "MAX_KEPT", 60)
    monkeypatch.setattr(sqlite_past, "COUNT_AFTER", 10)
    store = open_store(url)
    store.observe("s1", by_id(make_session(1, login="alice"), make_session(2, login="mallory")))
    place = store.archive.last_event()
    for number in range(200):
        store.set_params("s1-2", "mallory", {"n": number})
    page = store.archive.events(place, 1000)
    assert page.has_gap and 20 <= len(page.events) < 40
    last = page.events[-1].id
    assert not store.archive.events(last, 10).has_gap
    whose = Counter(event.login for event in store.archive.events(None, 1000).events)
    assert whose["alice"] == 1 and whose["mallory"] < 40
    # Those of others' are dropped by what all have alone
    for number in range(12):
        store.set_params("s1-1", "alice", {"n": number})
    assert Counter(event.login for event in store.archive.events(None, 1000).events)["alice"] == 13
    store.close()


def test_a_past_and_an_event_that_are_none_are_said_in_the_log(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(settings.store)
    store.observe("s1", by_id(make_session(1), make_session(2)))
    with closing(sqlite3.connect(settings.store.removeprefix("sqlite://"))) as db:
        db.execute("UPDATE past SET began = 'x' WHERE id = 's1-1'")
        db.execute("UPDATE event SET at = 'x' WHERE session = 's1-1'")
        db.commit()
    for _ in range(2):
        assert list(history(store)) == ["s1-2"] and new_events(store) == ["sessionBegan"]
    assert caplog.text.count("holds as past of session 's1-1' what is none") == 1
    assert caplog.text.count("holds as event '1-") == 1
    store.close()


@pytest.mark.parametrize("text", ["", "-", "no past at all", "1 - 0 - - - - - no\nalice"])
def test_what_nobody_of_ours_has_written_is_left_out(
    raw: Any, redis_url: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(redis_url)
    store.observe("s1", by_id(make_session(1), make_session(2)))
    raw.client.hset(raw.key("past"), "s1-1", text)
    raw.client.xadd(raw.key("events"), {"x": "y"})
    assert list(history(store)) == ["s1-2"]
    assert new_events(store)[-1] == "sessionBegan"
    for what in ("past of session 's1-1'", "event '"):
        assert caplog.text.count(f"holds as {what}") == 1
    store.observe("s1", {})
    assert new_events(store)[-2:] == ["sessionEnded"] * 2
    store.close()
