from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fastx_list.model.event import Event, encode_event
from fastx_list.model.past import CourseSchema, Past, Visits, begin, connected, encode_past, go_on
from fastx_list.model.session import encode
from tests.model.sessions import FULL, MINIMAL

SESSION = replace(MINIMAL, started=1000, clients=0)
NOW = 5000


def lived(*states: tuple[int, int | None, int | None, int | None]) -> tuple[Past, list[Visits]]:
    """Return the past of a session, and its visits, that was seen so: when, with how many clients,
    and when the last one came and left."""
    past, visits = begin(SESSION, 1000)
    happened = [visits]
    for now, clients, came, left in states:
        session = replace(SESSION, clients=clients, last_connect=came, last_disconnect=left)
        past, visits = go_on(past, session, now)
        happened.append(visits)
    return past, happened


def test_a_session_begins_when_it_was_started_or_else_first_seen() -> None:
    assert begin(SESSION, NOW)[0].began == 1000
    assert begin(MINIMAL, NOW)[0].began == NOW


def test_clients_of_a_session_that_was_found_late_have_come_nobody_knows_when() -> None:
    there = replace(SESSION, clients=2)
    assert begin(there, NOW) == (replace(begin(SESSION, NOW)[0], clients=2, since=NOW), Visits())
    assert begin(replace(there, last_connect=NOW), NOW)[1] == Visits(came=2)


def test_the_time_counts_in_which_clients_were_connected() -> None:
    past, visits = lived((2000, 1, 2000, None), (3000, 2, 3000, None), (7000, 0, 3000, 7000))
    assert past.connected == 5000 and past.since is None
    assert visits[1:] == [Visits(1, 0), Visits(1, 0), Visits(0, 2)]
    past, _ = lived((2000, 1, 2000, None))
    assert connected(past, 9000) == 7000


def test_one_that_takes_anothers_place_has_come_and_the_other_left() -> None:
    past, visits = lived((2000, 1, 2000, None), (3000, 1, 3000, 3000), (5000, 1, 5000, 5000))
    assert visits[2:] == [Visits(1, 1), Visits(1, 1)] and past.since == 2000


@pytest.mark.parametrize("clients", [None, 1])
def test_what_changes_otherwise_is_no_visits(clients: int | None) -> None:
    past, visits = lived((2000, 1, 2000, None), (3000, clients, 2000, None))
    assert visits[-1] == Visits() and past.clients == 1 and past.since == 2000


def test_a_clock_that_is_set_is_no_traffic_and_no_time() -> None:
    past, _ = lived((2000, 1, 2000, 1500))
    by = 3_600_000
    later = replace(
        SESSION, started=1000 + by, clients=1, last_connect=2000 + by, last_disconnect=1500 + by
    )
    past, visits = go_on(past, later, 3000 + by)
    assert visits == Visits() and past.began == 1000 + by
    assert connected(past, 3000 + by) == 1000


@pytest.mark.parametrize("left", [None, 1500])
def test_a_clock_that_is_set_is_none_either_where_a_launcher_says_the_start(
    left: int | None,
) -> None:
    by = 86_400_000
    past, _ = lived((2000, 1, 2000, left))
    moved = None if left is None else left + by
    past, visits = go_on(
        past, replace(SESSION, clients=1, last_connect=2000 + by, last_disconnect=moved), 3000 + by
    )
    assert visits == Visits() and past.began == 1000
    past, visits = go_on(
        past,
        replace(SESSION, clients=0, last_connect=2000 + by, last_disconnect=4000 + by),
        4000 + by,
    )
    assert visits == Visits(0, 1) and past.connected == 2000


def test_a_start_that_is_no_more_said_sets_no_clock() -> None:
    past, _ = lived((2000, 1, 2000, None))
    past, _ = go_on(past, replace(SESSION, started=None, clients=1, last_connect=2000), 3000)
    assert past.began == 1000 and past.since == 2000


def test_of_a_clock_that_was_set_back_no_moment_stays_ahead() -> None:
    past, _ = begin(replace(MINIMAL, clients=1), 9000)
    past, _ = go_on(past, replace(MINIMAL, clients=2), 5000)
    assert (past.began, past.since) == (5000, 5000) and connected(past, 7000) == 2000


def test_history_says_the_last_state_and_then_the_course() -> None:
    past = Past(1000, 5000, 2500, addresses=("192.0.2.1",))
    members = json.loads(encode_past(encode(FULL, FULL.params), past, NOW))
    course = {"began": 1000, "ended": 5000, "connectedSeconds": 2, "addresses": ["192.0.2.1"]}
    assert members == json.loads(encode(FULL, FULL.params)) | course
    assert list(members)[-4:] == list(CourseSchema().fields) == list(course)


def test_an_event_says_what_it_is_about_and_leaves_out_the_rest() -> None:
    event = Event("1-ab", NOW, "clientLeft", "s", "alice", "server", {"clients": 0})
    assert json.loads(encode_event(event)) == {
        "id": "1-ab",
        "at": NOW,
        "event": "clientLeft",
        "session": "s",
        "login": "alice",
        "serverId": "server",
        "clients": 0,
    }
    assert list(json.loads(encode_event(Event("1-ab", NOW, "x")))) == ["id", "at", "event"]
