"""What is known and what is seen make sessions, without an agent, a store or a clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fastx_list.agent.facts import Facts
from fastx_list.agent.merge import Known, Merged, Moment, merge, session_id
from fastx_list.agent.process import Process, Stat
from fastx_list.model.session import Session, Start
from tests.agent.scripted import facts

NOW = 1_800_000_000_000
YOUNG, SETTLED = NOW - 10_000, NOW - 10_001  # the bound itself, and what is just over it
X = session_id("here", "x")


class At(Process):
    """A process that started at a moment that the test says."""

    started = 0

    def __init__(self, pid: int, started: int) -> None:
        super().__init__(pid, 0, Stat("Xvnc", "S", 1, 1))
        self.started = started


def moment(*processes: Process, **more: Any) -> Moment:
    """Return a moment long after the agent began, at which every source had answered."""
    usual = {
        "server_id": "here",
        "hostname": "here.example",
        "now": NOW,
        "set_by": 0,
        "previous_look": NOW / 1000 - 1,
        "age": 3600.0,
        "all_answered": True,
        "processes": {process.pid: process for process in processes},
        "start": Start,
    }
    return Moment(**{**usual, **more})


def merged(known: dict[str, Known], *seen: Facts, at: Moment | None = None) -> Merged:
    by_id = {session_id("here", each.identity): each for each in seen}
    return merge(known, by_id, at or moment())


def after(before: Facts, now: Facts, is_restarted: bool = False, **known: Any) -> Session:
    """Return session ``x``, of which ``before`` was seen, and then ``now``."""
    [seen] = merged({}, before, at=moment(previous_look=None)).known.values()
    session = replace(seen.session, **known)
    return merged({X: Known(None if is_restarted else before, session)}, now).known[X].session


def test_a_new_session_is_this_servers_and_starts_with_what_session_json_says() -> None:
    start = Start(video_ram=8, sharing=False, disconnect_timeout=0, cpu_percentage=50.5)
    seen = facts(sharing=True, clients=2, command="xterm", app_pid=7, geometry="640x480")
    session = merged({}, seen, at=moment(start=lambda: start)).known[X].session
    assert session == Session(
        id=X,
        server_id="here",
        hostname="here.example",
        login="alice",
        server_pid=5,
        started=1000,
        clients=2,
        command="xterm",
        app_pid=7,
        geometry="640x480",
        video_ram=8,
        sharing=True,
        disconnect_timeout=0,
        cpu_percentage=50.5,
    )


def test_a_session_keeps_what_it_was_started_with() -> None:
    known = merged({}, facts(), at=moment(start=lambda: Start(video_ram=8))).known

    def edited() -> Start:
        raise AssertionError("only new sessions start with it")

    later = merged(known, facts(clients=1), at=moment(start=edited))
    assert (later.known[X].session.video_ram, later.known[X].session.clients) == (8, 1)


def test_facts_that_are_the_same_object_leave_the_session_as_it_is() -> None:
    seen = facts()
    known = merged({}, seen).known
    later = merged(known, seen, at=moment(now=NOW + 1))
    assert later.known[X] is known[X] and not later.has_changed
    beside = merged(known, seen, facts("y"))
    assert beside.known.keys() == {X, session_id("here", "y")} and beside.has_changed


def test_a_host_that_is_renamed_has_its_new_name_in_each_session() -> None:
    seen = facts()
    known = merged({}, seen).known
    later = merged(known, seen, at=moment(hostname="renamed"))
    assert later.has_changed
    assert later.known[X].session == replace(known[X].session, hostname="renamed")


def test_a_change_is_told_whatever_comes_after_it_and_only_a_change() -> None:
    first = merged({}, facts("x"), facts("y"))
    assert first.has_changed and first.known.keys() == {X, session_id("here", "y")}
    again = facts("x")
    same = merged(first.known, again, facts("y"))
    assert not same.has_changed and same.known[X].facts is again
    assert merged(first.known, facts("x", clients=1), facts("y")).has_changed
    assert merged(first.known, facts("x"), facts("y", clients=1)).has_changed
    ended = merged(first.known, facts("y"))
    assert ended.has_changed and ended.known.keys() == {session_id("here", "y")}
    assert first.known.keys() == {X, session_id("here", "y")}  # the old one is left alone


@pytest.mark.parametrize(
    "wrong", [{"params": {"x": object()}}, {"params": {"x": "y" * 9000}}, {"started": float("inf")}]
)
def test_what_no_session_can_be_is_refused_and_costs_the_others_nothing(
    wrong: dict[str, Any],
) -> None:
    outcome = merged({}, facts("x", **wrong), facts("y"))
    assert outcome.known.keys() == {session_id("here", "y")}
    assert list(outcome.refused) == ["x"] and outcome.refused["x"]


def test_a_session_that_is_refused_later_stays_as_it_was() -> None:
    known = merged({}, facts()).known
    outcome = merged(known, facts(started=1, clients="many"))
    assert outcome.known == known and not outcome.has_changed and list(outcome.refused) == ["x"]


CONNECTIONS = [(None, None), (None, frozenset({1})), (frozenset({1}), None)]


@pytest.mark.parametrize("connections", CONNECTIONS)
@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize(
    ("before", "now", "came", "left"),
    [
        (None, None, False, False),
        (None, 0, False, False),
        (None, 2, False, False),
        (0, None, False, False),
        (2, None, False, False),
        (0, 0, False, False),
        (1, 1, False, False),
        (0, 1, True, False),
        (1, 2, True, False),
        (1, 0, False, True),
        (2, 1, False, True),
    ],
)
def test_clients_have_come_or_left_if_both_numbers_are_known(
    connections: tuple[frozenset[int] | None, frozenset[int] | None],
    is_restarted: bool,
    before: int | None,
    now: int | None,
    came: bool,
    left: bool,
) -> None:
    session = after(
        facts(clients=before, connections=connections[0]),
        facts(clients=now, connections=connections[1]),
        is_restarted,
        last_connect=1,
        last_disconnect=2,
    )
    assert (session.last_connect, session.last_disconnect) == (
        NOW if came else 1,
        NOW if left else 2,
    )
    assert session.clients == now


@pytest.mark.parametrize("clients", [(1, 1), (None, None), (0, 5), (5, 0), (None, 5), (5, None)])
@pytest.mark.parametrize(
    ("before", "now", "came", "left"),
    [
        ({10}, {10}, False, False),
        ({10}, {11}, True, True),
        ({10}, {10, 11}, True, False),
        ({10, 11}, {10}, False, True),
        (set(), {10}, True, False),
        ({10}, set(), False, True),
        (set(), set(), False, False),
    ],
)
def test_connections_that_can_be_told_apart_say_it_better_than_their_number(
    clients: tuple[int | None, int | None], before: set[int], now: set[int], came: bool, left: bool
) -> None:
    session = after(
        facts(clients=clients[0], connections=frozenset(before)),
        facts(clients=clients[1], connections=frozenset(now)),
    )
    assert session.last_connect == (NOW if came else None)
    assert session.last_disconnect == (NOW if left else None)


@pytest.mark.parametrize("now", [{}, {"connections": frozenset({7})}])
def test_a_new_agent_counts_since_it_cannot_compare_connections(now: dict[str, Any]) -> None:
    session = after(facts(clients=1, connections=frozenset({7})), facts(clients=1, **now), True)
    assert (session.last_connect, session.last_disconnect) == (None, None)


@pytest.mark.parametrize(
    ("started", "previous_look", "clients", "is_dated"),
    [
        (99_000, 100.0, 1, True),  # a start may be known in whole seconds only
        (98_999, 100.0, 1, False),
        (200_000, 100.0, 3, True),
        (200_000, 100.0, 0, False),
        (200_000, 100.0, None, False),
        (200_000, None, 1, False),
        (None, 100.0, 1, False),
    ],
)
def test_clients_of_a_session_that_has_just_started_have_come_just_now(
    started: int | None, previous_look: float | None, clients: int | None, is_dated: bool
) -> None:
    seen = facts(started=started, clients=clients)
    session = merged({}, seen, at=moment(previous_look=previous_look)).known[X].session
    assert session.last_connect == (NOW if is_dated else None) and session.last_disconnect is None


@pytest.mark.parametrize(
    ("known", "seen", "expected"),
    [(3000, 1000, 3000), (0, 2000, 0), (None, 900, 900), (3001, 1000, 1000), (0, 2001, 2001)],
)
def test_a_start_that_is_known_holds(known: int | None, seen: int, expected: int) -> None:
    assert after(facts(started=known), facts(started=seen)).started == expected


FIRST, SECOND = {"command": "first", "app_pid": 7}, {"command": "second", "app_pid": 8}
UNKNOWN = {"command": None, "app_pid": None}


@pytest.mark.parametrize(
    ("started", "before", "seen", "expected"),
    [
        # While the session is young, a better one may come, but none is no better one.
        (YOUNG, FIRST, SECOND, SECOND),
        (YOUNG, FIRST, UNKNOWN, FIRST),
        (YOUNG, UNKNOWN, FIRST, FIRST),
        (None, FIRST, SECOND, SECOND),
        (None, FIRST, UNKNOWN, FIRST),
        # Later, the one that is known holds; one that was never known may still be found.
        (SETTLED, FIRST, SECOND, FIRST),
        (SETTLED, FIRST, UNKNOWN, FIRST),
        (SETTLED, UNKNOWN, SECOND, SECOND),
        # A launcher says what holds now.
        (YOUNG, FIRST, {**UNKNOWN, "stated": True}, UNKNOWN),
        (SETTLED, FIRST, {**SECOND, "stated": True}, SECOND),
        (SETTLED, FIRST, {**UNKNOWN, "stated": True}, UNKNOWN),
    ],
)
def test_the_command_is_what_the_session_was_started_for(
    started: int | None, before: dict[str, Any], seen: dict[str, Any], expected: dict[str, Any]
) -> None:
    session = after(facts(started=started, **before), facts(started=started, **seen))
    assert {"command": session.command, "app_pid": session.app_pid} == expected


SERVED = At(5, 1000)


@pytest.mark.parametrize(
    ("session", "at", "is_kept"),
    [
        # Without a process only a source that has not answered yet may still find it, or one that
        # could not read all.
        ({"server_pid": None}, moment(all_answered=False), True),
        ({"server_pid": None}, moment(unread={"alice"}), True),
        ({"server_pid": None}, moment(unread={None}), True),
        ({"server_pid": None}, moment(unread={"bob"}), False),
        ({"server_pid": None}, moment(age=1.0), False),
        ({"server_pid": None}, moment(all_answered=False, unanswered={"spool"}), True),
        ({"server_pid": None}, moment(unanswered={"spool"}), False),
        # Nobody knows yet what runs.
        ({}, moment(processes=None, all_answered=False), True),
        # Its process has gone.
        ({}, moment(all_answered=False, age=1.0), False),
        ({}, moment(At(6, 1000), all_answered=False, age=1.0), False),
        # Its process runs: one look may have missed it.
        ({"identity": SERVED.identity}, moment(SERVED, age=4.9), True),
        ({"identity": SERVED.identity}, moment(SERVED, age=5.0), False),
        # On a busy machine the first look alone takes longer
        ({"identity": SERVED.identity}, moment(SERVED, previous_look=None), True),
        ({}, moment(previous_look=None), False),
        ({"identity": SERVED.identity}, moment(SERVED, age=3600.0, all_answered=False), True),
        # It runs and cannot be asked, for as long as that may take.
        ({"identity": SERVED.identity}, moment(SERVED, unanswered={SERVED.identity}), True),
        ({"identity": SERVED.identity}, moment(SERVED, unanswered={"other"}), False),
        # That one has the pid says little, but it may be told apart by its age.
        ({}, moment(SERVED, age=1.0), False),
        ({}, moment(At(5, 11_000), age=3600.0, all_answered=False), True),
        ({}, moment(At(5, 11_000), age=3600.0, unread={"alice"}), True),
        ({}, moment(At(5, 11_001), age=1.0, all_answered=False), False),
        ({"started": None}, moment(At(5, NOW), age=1.0, all_answered=False), True),
    ],
)
def test_a_session_that_a_former_agent_saw_ends_when_it_cannot_be_found_any_more(
    session: dict[str, Any], at: Moment, is_kept: bool
) -> None:
    seen = facts(**session)
    [(name, known)] = merged({}, seen).known.items()
    outcome = merged({name: Known(None, known.session)}, at=at)
    assert bool(outcome.known) == is_kept and outcome.has_changed != is_kept
    # One that this agent itself saw has ended, unless nobody can tell now what its process is.
    cannot_be_asked = not at.unanswered.isdisjoint({SERVED.identity})
    assert bool(merged({name: Known(seen, known.session)}, at=at).known) == cannot_be_asked


def test_a_name_holds_until_another_one_is_said() -> None:
    before, nameless = facts(login="alice"), facts(login="1000", has_name=False)
    for is_restarted in (False, True):
        assert after(before, nameless, is_restarted).login == "alice"
        assert after(before, facts(login="bob"), is_restarted).login == "bob"
        assert after(nameless, before, is_restarted).login == "alice"


def test_what_was_not_seen_is_decided_once_every_source_has_answered_and_a_while_is_over() -> None:
    assert moment(age=4.9).is_early and moment(age=3600.0, all_answered=False).is_early
    assert not moment(age=5.0).is_early and moment(previous_look=None).is_early


def test_an_id_is_the_same_in_every_release_and_takes_any_name() -> None:
    assert session_id("here", "x") == "57d6902e53434857abe54d0f9e920bf4"
    assert len(session_id("here", "\udcff")) == 32


@pytest.mark.parametrize("is_restarted", [False, True])
def test_while_nobody_can_tell_who_is_connected_the_clients_stay_as_they_were(
    is_restarted: bool,
) -> None:
    late = facts(clients=None, has_clients=False, geometry="800x600")
    session = after(facts(clients=2), late, is_restarted, last_connect=5)
    assert (session.clients, session.geometry) == (2, "800x600")
    assert (session.last_connect, session.last_disconnect) == (5, None)
    never = after(facts(clients=2), facts(clients=None), is_restarted)
    assert never.clients is None
    known = {X: Known(late, session)}
    now = merged(known, facts(clients=1)).known[X].session
    assert (now.clients, now.last_connect, now.last_disconnect) == (1, 5, NOW)
