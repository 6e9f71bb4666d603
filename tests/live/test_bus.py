"""The bus: who is told what, and how much of it is kept for who does not listen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastx_list.live.bus import Bus, Mailbox
from fastx_list.live.frames import session_frame
from fastx_list.model.query import Filter
from fastx_list.model.session import Session, encode
from fastx_list.replica.replica import Change, Everything
from fastx_list.replica.view import Entry

ENOUGH = 10**6  # more frames than any mailbox here holds
IDLE = (Filter("clients", frozenset({"0"})),)
# Both have to hold, and the second is one of the params
PINK = (*IDLE, Filter("colour", frozenset({"pink"})))


class Reader:
    """A subscriber that counts how often it is told to send."""

    def __init__(self, filters: tuple[Filter, ...] = ()) -> None:
        self.mailbox = Mailbox(filters)
        self.flushed = 0

    def flush(self) -> None:
        self.flushed += 1


def _entry(
    session_id: str = "s1", login: str = "alice", colour: str = "pink", **facts: Any
) -> Entry:
    session = Session(id=session_id, login=login, server_id="server", hostname="host", **facts)
    return Entry(session_id, login, encode(session, {"colour": colour}).encode())


def _new(entry: Entry, before: Entry | None = None) -> Change:
    return Change(entry.id, entry.login, entry, before)


def _end(entry: Entry) -> Change:
    return Change(entry.id, entry.login, None, entry)


def _put(mailbox: Mailbox, *changes: Change) -> None:
    for change in changes:
        mailbox.put(change, session_frame(change.id, None))


def _messages(frames: Iterable[bytes]) -> list[tuple[str, Any]]:
    """Return what the frames say, as pairs of id and data."""
    messages = []
    for frame in frames:
        message = json.loads(frame[frame.index(b'{"id":') :])
        messages.append((message["id"], message["data"]))
    return messages


def _taken(mailbox: Mailbox, count: int = ENOUGH) -> list[tuple[str, Any]]:
    return _messages(mailbox.take(count))


def _clients(mailbox: Mailbox) -> list[tuple[str, int | None]]:
    """Return what is in the mailbox, as pairs of id and number of clients; ``None`` is the end of
    the session."""
    return [(session_id, data and data["clients"]) for session_id, data in _taken(mailbox)]


# A mailbox without filters.


def test_a_new_mailbox_is_empty() -> None:
    assert Mailbox().take(ENOUGH) == []


def test_a_change_arrives_as_the_whole_session() -> None:
    mailbox, entry = Mailbox(), _entry(clients=1)
    _put(mailbox, _new(entry))
    assert _taken(mailbox) == [("s1", json.loads(entry.text))]


def test_an_end_arrives_as_null() -> None:
    mailbox = Mailbox()
    _put(mailbox, _end(_entry()))
    assert _taken(mailbox) == [("s1", None)]


def test_what_was_taken_is_not_there_any_more() -> None:
    mailbox = Mailbox()
    _put(mailbox, _new(_entry("s1")), _new(_entry("s2")), _new(_entry("s3")))
    assert [name for name, _ in _taken(mailbox, 2)] == ["s1", "s2"]
    assert [name for name, _ in _taken(mailbox, 2)] == ["s3"]
    assert _taken(mailbox, 2) == []


def test_taking_nothing_leaves_everything() -> None:
    mailbox = Mailbox()
    _put(mailbox, _new(_entry()))
    assert mailbox.take(0) == []
    assert len(mailbox.take(1)) == 1


def test_only_the_newest_state_of_a_session_is_kept() -> None:
    mailbox = Mailbox()
    _put(mailbox, *(_new(_entry(clients=number)) for number in range(5)))
    assert _clients(mailbox) == [("s1", 4)]


def test_an_end_takes_the_place_of_what_was_before_it() -> None:
    mailbox = Mailbox()
    _put(mailbox, _new(_entry(clients=1), _entry(clients=0)), _end(_entry(clients=1)))
    assert _clients(mailbox) == [("s1", None)]


def test_a_session_that_comes_back_takes_the_place_of_its_end() -> None:
    mailbox = Mailbox()
    _put(mailbox, _end(_entry(clients=1)), _new(_entry(clients=2)))
    assert _clients(mailbox) == [("s1", 2)]


def test_sessions_come_in_the_order_in_which_they_first_changed() -> None:
    mailbox = Mailbox()
    for name, clients in [("b", 1), ("a", 1), ("c", 1), ("a", 2), ("b", 2)]:
        _put(mailbox, _new(_entry(name, clients=clients)))
    assert _clients(mailbox) == [("b", 2), ("a", 2), ("c", 1)]


def test_a_session_that_changes_after_it_was_taken_goes_to_the_end() -> None:
    mailbox = Mailbox()
    _put(mailbox, _new(_entry("a", clients=1)), _new(_entry("b", clients=1)))
    mailbox.take(1)
    _put(mailbox, _new(_entry("a", clients=2)))
    assert _clients(mailbox) == [("b", 1), ("a", 2)]


def test_a_mailbox_holds_no_more_than_one_frame_a_session() -> None:
    mailbox = Mailbox()
    for number in range(1000):
        entry = _entry(f"s{number % 7}", clients=number)
        _put(mailbox, _new(entry, _entry(entry.id)), *([_end(entry)] if number % 3 else []))
    assert len(mailbox.take(ENOUGH)) == 7


@pytest.mark.parametrize("filters", [(), IDLE])
def test_nothing_is_kept_of_sessions_that_began_and_ended_unheard_of(
    filters: tuple[Filter, ...],
) -> None:
    mailbox, there = Mailbox(filters), _entry("there", clients=0)
    mailbox.fill([there], send=False)
    for number in range(1000):
        entry, later = (
            _entry(f"s{number}", clients=0),
            _entry(f"s{number}", clients=0, geometry="800x600"),
        )
        _put(mailbox, _new(entry), _new(later, entry), _end(later))
    _put(mailbox, _end(there))
    assert _clients(mailbox) == [("there", None)]


def test_nothing_is_kept_of_a_session_that_matched_for_a_while_unheard_of() -> None:
    mailbox, busy, idle = Mailbox(IDLE), _entry(clients=1), _entry(clients=0)
    _put(mailbox, _new(busy), _new(idle, busy), _new(busy, idle), _end(busy))
    assert mailbox.take(ENOUGH) == []
    _put(mailbox, _new(busy), _new(idle, busy))
    assert _clients(mailbox) == [("s1", 0)]
    _put(mailbox, _end(idle))
    assert _clients(mailbox) == [("s1", None)]


@pytest.mark.parametrize("filters", [(), IDLE])
def test_an_end_is_told_of_whatever_was_told_before_it(filters: tuple[Filter, ...]) -> None:
    mailbox, entry = Mailbox(filters), _entry(clients=0)
    _put(mailbox, _new(entry))
    mailbox.take(1)
    # It comes back before its end was told
    _put(mailbox, _end(entry), _new(entry), _end(entry), _new(entry))
    assert _clients(mailbox) == [("s1", 0)]
    _put(mailbox, _end(entry), _new(entry), _end(entry))
    assert _clients(mailbox) == [("s1", None)]


def test_a_session_that_is_unheard_of_is_so_no_longer_once_its_frame_was_taken_among_others() -> (
    None
):
    mailbox, one, other = Mailbox(), _entry("s1", clients=0), _entry("s2", clients=0)
    _put(mailbox, _new(one), _new(other))
    assert _messages(mailbox.take(1))[0][0] == "s1"
    _put(mailbox, _end(one), _end(other))
    assert _clients(mailbox) == [("s1", None)]


def test_all_subscribers_share_the_frame() -> None:
    boxes, entry = [Mailbox(), Mailbox(IDLE)], _entry(clients=0)
    for box in boxes:
        _put(box, _new(entry))
    assert all(box.take(1)[0] is entry.frame for box in boxes)


# Where a mailbox starts from.


def test_it_starts_with_the_sessions_there_are() -> None:
    mailbox, entries = Mailbox(), [_entry("s1", clients=0), _entry("s2", clients=1)]
    mailbox.fill(entries, send=True)
    assert _clients(mailbox) == [("s1", 0), ("s2", 1)]


def test_it_starts_with_those_that_match_only() -> None:
    mailbox = Mailbox(IDLE)
    mailbox.fill([_entry("s1", clients=0), _entry("s2", clients=1)], send=True)
    assert _clients(mailbox) == [("s1", 0)]


@pytest.mark.parametrize("filters", [(), IDLE])
def test_without_a_snapshot_it_starts_with_nothing(filters: tuple[Filter, ...]) -> None:
    mailbox = Mailbox(filters)
    mailbox.fill([_entry("s1", clients=0), _entry("s2", clients=1)], send=False)
    assert mailbox.take(ENOUGH) == []


@pytest.mark.parametrize("send", [True, False])
def test_a_session_that_the_subscriber_knows_from_the_start_gets_null_when_it_stops_matching(
    send: bool,
) -> None:
    mailbox = Mailbox(IDLE)
    mailbox.fill([_entry(clients=0)], send=send)
    mailbox.take(ENOUGH)
    _put(mailbox, _new(_entry(clients=1)))
    assert _taken(mailbox) == [("s1", None)]


def test_a_change_before_the_snapshot_was_taken_replaces_it() -> None:
    mailbox = Mailbox()
    mailbox.fill([_entry("s1", clients=0), _entry("s2", clients=0)], send=True)
    _put(mailbox, _new(_entry("s1", clients=5)), _end(_entry("s2")))
    assert _clients(mailbox) == [("s1", 5), ("s2", None)]


# Filters.


def test_a_session_that_does_not_match_is_not_sent() -> None:
    mailbox = Mailbox(IDLE)
    _put(mailbox, _new(_entry(clients=1)), _new(_entry(clients=2)))
    assert mailbox.take(ENOUGH) == []


def test_a_session_that_starts_matching_appears() -> None:
    mailbox = Mailbox(IDLE)
    mailbox.fill([_entry(clients=1)], send=True)
    _put(mailbox, _new(_entry(clients=0)))
    assert _clients(mailbox) == [("s1", 0)]


def test_a_session_that_goes_on_matching_is_sent_again() -> None:
    mailbox = Mailbox(IDLE)
    _put(mailbox, _new(_entry(clients=0)))
    mailbox.take(ENOUGH)
    _put(mailbox, _new(_entry(clients=0, geometry="800x600")))
    assert _clients(mailbox) == [("s1", 0)]


def test_a_session_that_stops_matching_gets_null_once() -> None:
    mailbox = Mailbox(IDLE)
    _put(mailbox, _new(_entry(clients=0)))
    mailbox.take(ENOUGH)
    _put(mailbox, _new(_entry(clients=1)))
    assert _taken(mailbox) == [("s1", None)]
    _put(mailbox, _new(_entry(clients=2)))
    _put(mailbox, _end(_entry(clients=2)))
    assert mailbox.take(ENOUGH) == []


def test_a_shown_session_that_ends_gets_null() -> None:
    mailbox = Mailbox(IDLE)
    _put(mailbox, _new(_entry(clients=0)))
    mailbox.take(ENOUGH)
    _put(mailbox, _end(_entry(clients=0)))
    assert _taken(mailbox) == [("s1", None)]


def test_the_end_of_a_session_that_was_never_shown_is_not_sent() -> None:
    mailbox = Mailbox(IDLE)
    mailbox.fill([_entry("s1", clients=1)], send=True)
    _put(mailbox, _end(_entry("s1", clients=1)), _end(_entry("s2", clients=0)))
    assert mailbox.take(ENOUGH) == []


def test_a_session_may_stop_and_start_matching_as_often_as_it_likes() -> None:
    mailbox = Mailbox(IDLE)
    for number in range(6):
        _put(mailbox, _new(_entry(clients=number % 2)))
        assert _clients(mailbox) == [("s1", None if number % 2 else 0)]


def test_all_filters_have_to_hold() -> None:
    mailbox = Mailbox(PINK)
    mailbox.fill(
        [_entry("s1", colour="blue", clients=0), _entry("s2", clients=1), _entry("s3", clients=0)],
        send=True,
    )
    assert _clients(mailbox) == [("s3", 0)]
    _put(mailbox, _new(_entry("s3", colour="blue", clients=0)), _new(_entry("s1", clients=0)))
    assert _clients(mailbox) == [("s3", None), ("s1", 0)]


# The bus.


def test_a_subscriber_gets_the_changes_of_its_login_and_no_others() -> None:
    bus, alice, bob = Bus(), Reader(), Reader()
    bus.subscribe("alice", alice)
    bus.subscribe("bob", bob)
    bus.publish([_new(_entry("a", "alice")), _new(_entry("c", "carol"))])
    assert [name for name, _ in _taken(alice.mailbox)] == ["a"]
    assert bob.mailbox.take(ENOUGH) == []
    assert (alice.flushed, bob.flushed) == (1, 0)


def test_all_subscribers_of_a_login_get_its_changes() -> None:
    bus, readers = Bus(), [Reader(), Reader(), Reader(IDLE)]
    for reader in readers:
        bus.subscribe("alice", reader)
    bus.publish([_new(_entry(clients=0))])
    assert [_clients(reader.mailbox) for reader in readers] == [[("s1", 0)]] * 3
    bus.publish([_end(_entry(clients=0))])
    assert [_clients(reader.mailbox) for reader in readers] == [[("s1", None)]] * 3


def test_it_flushes_each_subscriber_once_a_batch() -> None:
    bus, readers = Bus(), [Reader(), Reader()]
    for reader in readers:
        bus.subscribe("alice", reader)
    bus.publish([_new(_entry(f"s{number}")) for number in range(10)])
    assert [reader.flushed for reader in readers] == [1, 1]
    bus.publish([_new(_entry("s1"))])
    assert [reader.flushed for reader in readers] == [2, 2]


def test_everything_is_in_the_mailbox_when_a_subscriber_is_flushed() -> None:
    class Sending(Reader):
        def flush(self) -> None:
            sent.append([name for name, _ in _taken(self.mailbox)])

    sent: list[list[str]] = []
    bus = Bus()
    bus.subscribe("alice", Sending())
    bus.publish([_end(_entry("s1")), _new(_entry("s2")), _new(_entry("s3"))])
    assert sent == [["s1", "s2", "s3"]]


def test_publishing_nothing_flushes_nobody() -> None:
    bus, reader = Bus(), Reader()
    bus.subscribe("alice", reader)
    bus.publish([])
    assert reader.flushed == 0


def test_one_who_has_unsubscribed_gets_nothing() -> None:
    bus, gone, there = Bus(), Reader(), Reader()
    bus.subscribe("alice", gone)
    bus.subscribe("alice", there)
    bus.unsubscribe("alice", gone)
    bus.publish([_new(_entry())])
    assert gone.mailbox.take(ENOUGH) == []
    assert (gone.flushed, there.flushed) == (0, 1)


def test_a_subscriber_may_leave_while_it_is_flushed() -> None:
    class Leaving(Reader):
        def flush(self) -> None:
            super().flush()
            bus.unsubscribe("alice", self)

    bus, leaving, staying = Bus(), Leaving(), Reader()
    bus.subscribe("alice", leaving)
    bus.subscribe("alice", staying)
    bus.publish([_new(_entry("s1")), _new(_entry("s2"))])
    bus.publish([_new(_entry("s3"))])
    assert (leaving.flushed, staying.flushed) == (1, 2)


def test_unsubscribing_twice_or_from_where_one_is_not_does_no_harm() -> None:
    bus, reader, other = Bus(), Reader(), Reader()
    bus.subscribe("alice", reader)
    bus.subscribe("alice", other)
    for _ in range(2):
        bus.unsubscribe("alice", reader)
        bus.unsubscribe("bob", other)
    bus.publish([_new(_entry("s1"))])
    assert (reader.flushed, other.flushed) == (0, 1)
    bus.unsubscribe("alice", other)
    bus.publish([_new(_entry("s2"))])
    assert (reader.flushed, other.flushed) == (0, 1)


def test_who_follows_all_logins_is_told_of_each() -> None:
    bus, every, alice = Bus(), Reader(), Reader()
    bus.subscribe(Everything.SESSIONS, every)
    bus.subscribe("alice", alice)
    mine, theirs = _entry("s1"), _entry("s2", login="bob")
    bus.publish([_new(mine), _new(theirs)])
    assert every.mailbox.take(10) == [mine.frame, theirs.frame] and alice.mailbox.take(10) == [
        mine.frame
    ]
    assert (every.flushed, alice.flushed) == (1, 1)
    server = Entry("here", "", b"{}")
    bus.publish([Change("here", Everything.SERVERS, server, None)])
    assert (every.flushed, alice.flushed) == (1, 1)
    given = _entry("s1", login="bob")
    bus.publish([Change("s1", "bob", given, mine)])
    assert every.mailbox.take(10) == [given.frame] and alice.mailbox.take(10) == [
        session_frame("s1", None)
    ]


def test_a_session_that_changes_hands_ends_for_whom_it_belonged_to() -> None:
    bus, alice, bob = Bus(), Reader(), Reader()
    bus.subscribe("alice", alice)
    bus.subscribe("bob", bob)
    bus.publish([_new(_entry("s1", "bob", clients=2), before=_entry("s1", "alice", clients=1))])
    assert _clients(bob.mailbox) == [("s1", 2)]
    assert _taken(alice.mailbox) == [("s1", None)]
    assert (alice.flushed, bob.flushed) == (1, 1)


def test_whoever_was_not_shown_a_session_is_not_told_that_it_changed_hands() -> None:
    bus, alice = Bus(), Reader(IDLE)
    bus.subscribe("alice", alice)
    alice.mailbox.fill([_entry("s1", "alice", clients=1)], send=True)
    bus.publish([_new(_entry("s1", "bob", clients=0), before=_entry("s1", "alice", clients=1))])
    assert alice.mailbox.take(ENOUGH) == []


# Whatever happens, in whatever order.

_NAMES = st.sampled_from("abc")
_STATES = st.none() | st.tuples(st.integers(0, 1), st.sampled_from(["pink", "blue"]))
# A change, or so many frames taken
_STEPS = st.lists(st.tuples(_NAMES, _STATES) | st.integers(0, 3), max_size=40)
_STARTS = st.dictionaries(_NAMES, st.tuples(st.integers(0, 1), st.sampled_from(["pink", "blue"])))


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(start=_STARTS, steps=_STEPS, send=st.booleans(), filters=st.sampled_from([(), IDLE, PINK]))
def test_the_last_state_always_arrives(
    start: dict[str, tuple[int, str]],
    steps: Sequence[tuple[str, tuple[int, str] | None] | int],
    send: bool,
    filters: tuple[Filter, ...],
) -> None:
    def made(name: str, state: tuple[int, str]) -> Entry:
        return _entry(name, clients=state[0], colour=state[1])

    def passes(entry: Entry) -> bool:
        members = entry.members
        return (not filters or members["clients"] == 0) and (
            filters != PINK or members["params"]["colour"] == "pink"
        )

    def receive(frames: Iterable[bytes]) -> None:
        for name, data in _messages(frames):
            if data is None:
                assert name in known or name in at_first
                known.pop(name, None)
            else:
                known[name] = data

    bus, reader = Bus(), Reader(filters)
    bus.subscribe("alice", reader)
    now = {name: made(name, state) for name, state in start.items()}
    reader.mailbox.fill(now.values(), send)
    at_first = {name for name, entry in now.items() if passes(entry)}
    # Who asks for no snapshot has one from elsewhere.
    known = {} if send else {name: entry.members for name, entry in now.items() if passes(entry)}
    for step in steps:
        if isinstance(step, int):
            receive(reader.mailbox.take(step))
            continue
        name, state = step
        before, entry = now.get(name), made(name, state) if state else None
        if entry == before:
            continue
        if entry is None:
            del now[name]
        else:
            now[name] = entry
        bus.publish([Change(name, "alice", entry, before)])
    waiting = reader.mailbox.take(ENOUGH)
    assert len(waiting) <= 3
    receive(waiting)
    assert known == {name: entry.members for name, entry in now.items() if passes(entry)}
