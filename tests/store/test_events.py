"""Which events stores find; against each of them."""

from __future__ import annotations

import time

from fastx_list.model.event import Event, What
from fastx_list.store import Store
from fastx_list.store.archive import EventSpan

HOUR = 3_600_000


def _found(store: Store, span: EventSpan, size: int, after: str | None = None) -> list[str]:
    """Return the ids of the events of ``span``, read in parts of this ``size``."""
    ids: list[str] = []
    while True:
        page = store.archive.events(after, size, span)
        ids += [event.id for event in page.events]
        after = page.place
        if after is None:
            return ids


def _fill(store: Store) -> list[Event]:
    for number in range(30):
        login = "bob" if number % 3 == 0 else "carol" if number % 7 == 0 else "alice"
        store.archive.note(What.TOKEN_ISSUED, login, {"token": str(number)})
        if number % 5 == 0:
            store.revoke({str(number): 2**40})  # which is about nobody
    return list(store.archive.events(None, 1000).events)


def test_a_logins_events_are_found_in_either_direction_and_in_parts(store: Store) -> None:
    every = _fill(store)
    assert len(every) == 36
    for login in (None, "alice", "bob", "carol", "eve"):
        ids = [each.id for each in every if login in (None, each.login)]
        for size in (1, 3, 100):
            assert _found(store, EventSpan(login), size) == ids
            assert _found(store, EventSpan(login, last_first=True), size) == ids[::-1]
        for place, event in list(enumerate(every))[::5]:
            rest = [each.id for each in every[place + 1 :] if login in (None, each.login)]
            assert _found(store, EventSpan(login), 2, event.id) == rest
            assert not store.archive.events(event.id, 2, EventSpan(login)).has_gap
            before = [each.id for each in every[:place] if login in (None, each.login)]
            assert _found(store, EventSpan(login, last_first=True), 2, event.id) == before[::-1]


def test_a_time_leaves_out_what_is_far_from_it(store: Store) -> None:
    every = _fill(store)
    now = round(time.time() * 1000)
    for login in (None, "alice"):
        ids = [each.id for each in every if login in (None, each.login)]
        for last_first, expected in ((False, ids), (True, ids[::-1])):
            for since, until, found in (
                (now - HOUR, now + HOUR, expected),
                (now - HOUR, None, expected),
                (None, now + HOUR, expected),
                (now + HOUR, None, []),
                (None, now - HOUR, []),
                (now - 2 * HOUR, now - HOUR, []),
                (0, 10**15, expected),
            ):
                span = EventSpan(login, since, until, last_first)
                assert _found(store, span, 2) == found, span


def test_what_is_forgotten_of_a_login_leaves_no_hole_for_others(store: Store) -> None:
    every = _fill(store)
    assert store.archive.noted() == len(every)
    store.archive.erase("alice")
    assert store.archive.noted() == len(every)
    assert _found(store, EventSpan("alice"), 3) == []
    assert _found(store, EventSpan("bob"), 3) == [each.id for each in every if each.login == "bob"]
    store.archive.note(What.TOKEN_ISSUED, "alice", {})
    assert len(_found(store, EventSpan("alice"), 3)) == 1


def test_an_empty_store_has_none_in_any_time(store: Store) -> None:
    assert store.archive.noted() == 0
    for span in (EventSpan(), EventSpan("alice", 0, 10**15), EventSpan(None, 1, 2, True)):
        assert store.archive.events(None, 10, span).events == []
