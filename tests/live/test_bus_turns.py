"""The bus: whoever has much to be told of keeps nobody else waiting."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastx_list.live import bus as bus_module
from fastx_list.live.bus import Bus, News
from fastx_list.live.frames import FramedEntry
from fastx_list.model.query import Filter
from fastx_list.replica.topics import Change
from tests.live.mailboxes import (
    ENOUGH,
    IDLE,
    Reader,
    clients_in,
    end,
    make_entry,
    messages,
    new,
    publish,
    taken,
)


def hurried() -> Bus:
    """Return a bus whose turns end after one step each."""
    ticks = count()
    return Bus(lambda: float(next(ticks)))


def test_topics_take_turns() -> None:
    bus, slow, quick = hurried(), [Reader() for _ in range(50)], Reader()
    for reader in slow:
        bus.subscribe("alice", reader)
    bus.subscribe("bob", quick)
    bus.publish([new(make_entry(f"s{number}")) for number in range(50)])
    bus.publish([new(make_entry("b", "bob"))])
    turns = 0
    while not quick.told:
        assert bus.tell()
        turns += 1
    assert turns <= 5
    assert not all(reader.told for reader in slow)
    while bus.tell():
        pass
    assert {len(taken(reader.mailbox)) for reader in slow} == {50}


def test_a_turn_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Slow(Reader):
        def tell(self, news: News) -> None:
            super().tell(news)
            now[0] += bus_module.TURN_SECONDS / 10

    bus, readers = Bus(lambda: now[0]), [Slow() for _ in range(100)]
    for reader in readers:
        bus.subscribe("alice", reader)
    bus.publish([new(make_entry())])
    while bus.tell():
        assert now[0] <= 1.5 * bus_module.TURN_SECONDS
        now[0] = 0.0
    assert {reader.told for reader in readers} == {1}


def test_equal_filters_are_tried_once_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def matches(members: object, filters: object) -> bool:
        tried.append(filters)
        return True

    monkeypatch.setattr(bus_module, "matches", matches)
    bus = Bus()
    for _ in range(100):
        bus.subscribe("alice", Reader((Filter("clients", frozenset({"0"})),)))
    publish(bus, new(make_entry(clients=0), make_entry(clients=1)))
    assert tried == [IDLE] * 2  # one for the state before


def test_what_changes_while_others_are_told_is_told_as_one_change() -> None:
    bus, reader = hurried(), Reader()
    bus.subscribe("alice", reader)
    bus.publish([new(make_entry("other"))])
    assert bus.tell()
    states = [make_entry(clients=number) for number in range(1000)]
    bus.publish([new(states[0])])
    for before, after in pairwise(states):
        bus.publish([new(after, before)])
    assert sum(len(each.changes) for each in bus._followed["alice"].rounds) == 1
    while bus.tell():
        pass
    assert clients_in(reader.mailbox) == [("other", None), ("s1", 999)]
    assert reader.told == 2


def test_it_is_known_what_all_have_been_told_also_where_something_always_changes() -> None:
    ticks = count()
    bus = Bus(lambda: float(next(ticks)), lambda topic: str(last))
    known = {Reader(): 0 for _ in range(50)}
    for reader in known:
        bus.subscribe("alice", reader)
    last, told = 0, list[int]()
    for last in range(1, 500):
        bus.publish([new(make_entry(clients=last), make_entry(clients=last - 1))])
        assert bus.tell()  # it never comes to rest
        for reader in known:
            known[reader] = max([known[reader], *(n or 0 for _, n in clients_in(reader.mailbox))])
        told.append(int(bus.told("alice") or 0))
        assert told[-1] <= min(known.values())
    assert told == sorted(told) and len(set(told)) > 5


def test_nobody_is_told_of_what_came_and_went_while_others_were_told() -> None:
    bus, reader = hurried(), Reader()
    bus.subscribe("alice", reader)
    bus.publish([new(make_entry("other"))])
    assert bus.tell()
    bus.publish([new(make_entry("s1"))])
    bus.publish([end(make_entry("s1"))])
    while bus.tell():
        pass
    assert [name for name, _ in taken(reader.mailbox)] == ["other"]


def test_who_comes_later_is_told_only_of_what_comes_later() -> None:
    bus, early, late = hurried(), Reader(), Reader()
    bus.subscribe("alice", early)
    bus.publish([end(make_entry("s1")), new(make_entry("s2", clients=0))])
    bus.subscribe("alice", late)  # its snapshot has s2 and not s1
    late.mailbox.fill([make_entry("s2", clients=0)], send=False)
    bus.publish([new(make_entry("s2", clients=1), make_entry("s2", clients=0))])
    while bus.tell():
        pass
    assert clients_in(late.mailbox) == [("s2", 1)]
    assert clients_in(early.mailbox) == [("s1", None), ("s2", 1)]


def test_who_leaves_is_not_told_the_rest() -> None:
    bus, staying, leaving = hurried(), Reader(), Reader()
    bus.subscribe("alice", staying)
    bus.subscribe("alice", leaving)
    bus.publish([new(make_entry())])
    bus.unsubscribe("alice", leaving)
    while bus.tell():
        pass
    assert (staying.told, leaving.told) == (1, 0)
    assert leaving.mailbox.take(ENOUGH) == []


def test_a_mistake_with_one_subscriber_leaves_the_bus_working() -> None:
    class Broken(Reader):
        def tell(self, news: News) -> None:
            raise RuntimeError

    bus, broken, alice, bob = Bus(), Broken(), Reader(), Reader()
    for topic, reader in (("alice", broken), ("alice", alice), ("bob", bob)):
        bus.subscribe(topic, reader)
    bus.publish([new(make_entry()), new(make_entry("b", "bob"))])
    with pytest.raises(RuntimeError):
        bus.tell()
    bus.unsubscribe("alice", broken)
    publish(bus, new(make_entry("s2")))
    assert (alice.told, bob.told) == (1, 1)


_STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 2))  # a change
    | st.sampled_from(["tell", "join", "leave", "take"]),
    max_size=60,
)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(steps=_STEPS, filters=st.sampled_from([(), IDLE]))
def test_all_know_the_last_state_whoever_comes_and_goes_meanwhile(
    steps: Sequence[tuple[str, int | None] | str], filters: tuple[Filter, ...]
) -> None:
    bus, now = hurried(), dict[str, FramedEntry]()
    known: dict[Reader, dict[str, object]] = {}
    at_first: dict[Reader, set[str]] = {}

    def receive(reader: Reader, count: int) -> None:
        for name, data in messages(reader.mailbox.take(count)):
            if data is None:
                assert name in known[reader] or name in at_first[reader]
                known[reader].pop(name, None)
            else:
                known[reader][name] = data

    for step in [*steps, "end"]:
        if step == "join":
            reader = Reader(filters)
            known[reader], at_first[reader] = {}, set(now)
            bus.subscribe("alice", reader)
            reader.mailbox.fill(now.values(), send=True)
        elif step == "leave" and known:
            bus.unsubscribe("alice", gone := next(iter(known)))
            del known[gone]
        elif step == "tell":
            bus.tell()
        elif step == "take" and known:
            receive(next(iter(known)), 1)
        elif isinstance(step, tuple):
            name, clients = step
            before = now.get(name)
            entry = None if clients is None else make_entry(name, clients=clients)
            if entry != before:
                bus.publish([Change(name, "alice", entry, before)])
                if entry is None:
                    del now[name]
                else:
                    now[name] = entry
    while bus.tell():
        pass
    for reader in known:
        receive(reader, ENOUGH)
        assert known[reader] == {
            name: entry.members
            for name, entry in now.items()
            if not filters or entry.members["clients"] == 0
        }
