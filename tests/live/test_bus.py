"""The bus: who is told what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from fastx_list.live.bus import CHANGES_AT_ONCE, Bus, News
from fastx_list.live.frames import FramedEntry, session_frame
from fastx_list.model.query import Filter
from fastx_list.replica.topics import Change, Everything
from tests.live.mailboxes import (
    ENOUGH,
    IDLE,
    PINK,
    Reader,
    clients_in,
    end,
    make_entry,
    messages,
    new,
    publish,
    taken,
)


def test_a_subscriber_gets_the_changes_of_its_login_and_no_others() -> None:
    bus, alice, bob = Bus(), Reader(), Reader()
    bus.subscribe("alice", alice)
    bus.subscribe("bob", bob)
    publish(bus, new(make_entry("a", "alice")), new(make_entry("c", "carol")))
    assert [name for name, _ in taken(alice.mailbox)] == ["a"]
    assert bob.mailbox.take(ENOUGH) == []
    assert (alice.told, bob.told) == (1, 0)


def test_all_subscribers_of_a_login_get_its_changes() -> None:
    bus, readers = Bus(), [Reader(), Reader(), Reader(IDLE)]
    for reader in readers:
        bus.subscribe("alice", reader)
    publish(bus, new(make_entry(clients=0)))
    assert [clients_in(reader.mailbox) for reader in readers] == [[("s1", 0)]] * 3
    publish(bus, end(make_entry(clients=0)))
    assert [clients_in(reader.mailbox) for reader in readers] == [[("s1", None)]] * 3


def test_it_tells_each_subscriber_once_a_batch() -> None:
    bus, readers = Bus(), [Reader(), Reader()]
    for reader in readers:
        bus.subscribe("alice", reader)
    publish(bus, *[new(make_entry(f"s{number}")) for number in range(10)])
    assert [reader.told for reader in readers] == [1, 1]
    publish(bus, new(make_entry("s1")))
    assert [reader.told for reader in readers] == [2, 2]


def test_a_subscriber_is_told_of_many_changes_at_once_in_their_order() -> None:
    bus, reader = Bus(), Reader()
    bus.subscribe("alice", reader)
    names = [f"s{number}" for number in range(CHANGES_AT_ONCE + 1)]
    publish(bus, end(make_entry("s0")), *[new(make_entry(name)) for name in names[1:]])
    assert [name for name, _ in taken(reader.mailbox)] == names
    assert reader.told == 2


def test_publishing_nothing_tells_nobody() -> None:
    bus, reader = Bus(), Reader()
    bus.subscribe("alice", reader)
    publish(bus)
    assert reader.told == 0


def test_one_who_has_unsubscribed_gets_nothing() -> None:
    bus, gone, there = Bus(), Reader(), Reader()
    bus.subscribe("alice", gone)
    bus.subscribe("alice", there)
    bus.unsubscribe("alice", gone)
    publish(bus, new(make_entry()))
    assert gone.mailbox.take(ENOUGH) == []
    assert (gone.told, there.told) == (0, 1)


def test_a_subscriber_may_leave_while_it_is_told() -> None:
    class Leaving(Reader):
        def tell(self, news: News) -> None:
            super().tell(news)
            bus.unsubscribe("alice", self)

    bus, leaving, staying = Bus(), Leaving(), Reader()
    bus.subscribe("alice", leaving)
    bus.subscribe("alice", staying)
    publish(bus, new(make_entry("s1")), new(make_entry("s2")))
    publish(bus, new(make_entry("s3")))
    assert (leaving.told, staying.told) == (1, 2)


def test_unsubscribing_twice_or_from_where_one_is_not_does_no_harm() -> None:
    bus, reader, other = Bus(), Reader(), Reader()
    bus.subscribe("alice", reader)
    bus.subscribe("alice", other)
    for _ in range(2):
        bus.unsubscribe("alice", reader)
        bus.unsubscribe("bob", other)
    publish(bus, new(make_entry("s1")))
    assert (reader.told, other.told) == (0, 1)
    bus.unsubscribe("alice", other)
    publish(bus, new(make_entry("s2")))
    assert (reader.told, other.told) == (0, 1)


def test_nothing_is_kept_of_a_topic_that_nobody_follows_any_more() -> None:
    bus, readers = Bus(), [Reader(), Reader()]
    for number in range(100):
        for reader in readers:
            bus.subscribe(f"login{number}", reader)
        for reader in readers:
            bus.unsubscribe(f"login{number}", reader)
    assert not bus._followed


def test_who_follows_all_logins_is_told_of_each() -> None:
    bus, every, alice = Bus(), Reader(), Reader()
    bus.subscribe(Everything.SESSIONS, every)
    bus.subscribe("alice", alice)
    mine, theirs = make_entry("s1"), make_entry("s2", login="bob")
    publish(bus, new(mine), new(theirs))
    assert every.mailbox.take(10) == [mine.frame, theirs.frame] and alice.mailbox.take(10) == [
        mine.frame
    ]
    assert (every.told, alice.told) == (1, 1)
    server = FramedEntry("here", "", b"{}")
    publish(bus, Change("here", Everything.SERVERS, server, None))
    assert (every.told, alice.told) == (1, 1)
    given = make_entry("s1", login="bob")
    publish(bus, Change("s1", "bob", given, mine))
    assert every.mailbox.take(10) == [given.frame] and alice.mailbox.take(10) == [
        session_frame("s1", None)
    ]


def test_a_session_that_changes_hands_ends_for_whom_it_belonged_to() -> None:
    bus, alice, bob = Bus(), Reader(), Reader()
    bus.subscribe("alice", alice)
    bus.subscribe("bob", bob)
    publish(
        bus, new(make_entry("s1", "bob", clients=2), before=make_entry("s1", "alice", clients=1))
    )
    assert clients_in(bob.mailbox) == [("s1", 2)]
    assert taken(alice.mailbox) == [("s1", None)]
    assert (alice.told, bob.told) == (1, 1)


def test_whoever_was_not_shown_a_session_is_not_told_that_it_changed_hands() -> None:
    bus, alice = Bus(), Reader(IDLE)
    bus.subscribe("alice", alice)
    alice.mailbox.fill([make_entry("s1", "alice", clients=1)], send=True)
    publish(
        bus, new(make_entry("s1", "bob", clients=0), before=make_entry("s1", "alice", clients=1))
    )
    assert alice.mailbox.take(ENOUGH) == []


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
    def made(name: str, state: tuple[int, str]) -> FramedEntry:
        return make_entry(name, clients=state[0], colour=state[1])

    def passes(entry: FramedEntry) -> bool:
        members = entry.members
        return (not filters or members["clients"] == 0) and (
            filters != PINK or members["params"]["colour"] == "pink"
        )

    def receive(frames: Iterable[bytes]) -> None:
        for name, data in messages(frames):
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
        publish(bus, Change(name, "alice", entry, before))
    waiting = reader.mailbox.take(ENOUGH)
    assert len(waiting) <= 3
    receive(waiting)
    assert known == {name: entry.members for name, entry in now.items() if passes(entry)}
