from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastx_list.model.query import Filter, Query, look_up, sort_key
from fastx_list.replica import view as view_module
from fastx_list.replica.topics import Change
from fastx_list.replica.view import Entry, View

# Few names and values, so that sessions tie, come, go and change places.
NAMES = ("clients", "command", "started", "name")
VALUES = (None, 0, 1, 2, 1.0, True, "a", "A", "b", "", ["a"])
FILTERS = (
    (),
    (Filter("clients", frozenset({"1"})),),
    (Filter("command", frozenset({"a", ""})), Filter("name", frozenset({""}))),
)

ids = st.sampled_from("abcdefgh")
states = st.none() | st.fixed_dictionaries({name: st.sampled_from(VALUES) for name in NAMES[:3]})
queries = st.builds(
    Query,
    st.none() | st.sampled_from(NAMES),
    st.booleans(),
    st.integers(0, 9),
    st.none() | st.integers(0, 9),
    st.sampled_from(FILTERS),
)


def entry(session_id: str, **members: Any) -> Entry:
    return Entry(
        session_id, "alice", json.dumps({"params": {}, **members, "id": session_id}).encode()
    )


def ids_of(view: View[Entry], query: Query) -> tuple[list[str], int]:
    narrow = view.narrow(query.filters)
    return [each.id for each in narrow.page(query)], len(narrow.entries)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(ids, states, queries), max_size=40))
def test_a_view_that_changed_is_the_same_as_one_made_anew(
    steps: list[tuple[str, dict[str, Any] | None, Query]],
) -> None:
    view, sessions = View[Entry](), dict[str, Entry]()
    for name, state, query in steps:
        before, after = sessions.pop(name, None), None if state is None else entry(name, **state)
        if after is not None:
            sessions[name] = after
        view.update(before, after)
        assert ids_of(view, query) == ids_of(View(sessions.values()), query)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from(VALUES), max_size=12),
    st.booleans(),
    st.integers(0, 13),
    st.integers(0, 13),
)
def test_a_page_is_part_of_the_whole_from_either_end(
    values: list[Any], reverse: bool, start: int, limit: int
) -> None:
    placed, last = dict[str, tuple[int, Any]](), list[str]()
    for index, value in enumerate(values):
        key = sort_key(look_up({"name": value}, "name"))
        if key is None:
            last.append(f"{index:02}")
        else:
            placed[f"{index:02}"] = key
    # Ties stay as they are
    whole = [*sorted(placed, key=placed.__getitem__, reverse=reverse), *last]
    view = View(entry(f"{index:02}", name=value) for index, value in enumerate(values))
    assert [each.id for each in view.page(Query("name", reverse))] == whole
    assert [each.id for each in view.page(Query("name", reverse, start, limit))] == whole[
        start : start + limit
    ]


def test_neither_an_entry_nor_a_change_can_be_changed() -> None:
    """Threads, views and subscribers share them."""
    with pytest.raises(FrozenInstanceError):
        entry("a").login = "bob"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        Change("a", "alice", entry("a"), None).entry = None  # type: ignore[misc]


def test_the_version_tells_only_of_what_is_in_the_view() -> None:
    first, busy = entry("a", clients=1), entry("b", clients=0)
    view = View([first])
    idle = (Filter("clients", frozenset({"1"})),)
    versions = view.version, view.narrow(idle).version
    view.update(None, busy)
    assert view.version != versions[0] and view.narrow(idle).version == versions[1]
    view.update(busy, entry("b", clients=1))
    assert view.narrow(idle).version != versions[1]


def test_a_page_of_few_looks_at_few(monkeypatch: pytest.MonkeyPatch) -> None:
    view = View(entry(f"{index:04}", clients=index % 7) for index in range(1000))
    query = Query("clients", True, 100, 5)
    view.page(query)
    looks: list[str] = []

    def counted(members: Any, name: str) -> Any:
        looks.append(name)
        return look_up(members, name)

    monkeypatch.setattr(view_module, "look_up", counted)
    view.update(None, entry("new", clients=6))
    assert [each.id for each in view.page(query)] == [
        f"{index:04}" for index in (706, 713, 720, 727, 734)
    ]
    assert looks == ["clients"]  # where the new one belongs; nothing else


def test_it_keeps_only_so_many_questions() -> None:
    view = View([entry("a")])
    for index in range(100):
        narrow = view.narrow((Filter("name", frozenset({str(index)})),))
        assert view.narrow((Filter("name", frozenset({str(index)})),)) is narrow
        view.page(Query(sort_by=f"name{index}"))
    assert (
        len(view._orders) == view_module.MAX_ORDERS
        and len(view._narrowed) == view_module.MAX_NARROWED
    )
    view.forget()
    assert not view._orders and not view._narrowed


def questions(number: int) -> Iterator[Query]:
    """Yield so many filters, each with as many orders."""
    for filters in range(number):
        for order in range(number):
            wanted = Filter("nothing", frozenset({"", str(filters)}))
            yield Query(sort_by=f"name{order}", filters=(wanted,) if filters else ())


def test_what_it_keeps_can_be_bounded() -> None:
    view = View(entry(f"{index:04}", name0="x" * 100) for index in range(100))
    for query in questions(8):
        view.narrow(query.filters).page(query)
    assert view.size > 64 * 100 * view_module.PLACE_BYTES
    assert view.size > 8 * 100 * 100  # the texts
    view.shrink(50 * 100 * view_module.PLACE_BYTES)
    assert 25 * 100 * view_module.PLACE_BYTES < view.size <= 50 * 100 * view_module.PLACE_BYTES
    assert query.filters in view._narrowed  # the one used last
    view.shrink(0)
    assert [*view._narrowed] == [query.filters] and len(view._orders) == 1
    assert [*view._narrowed[query.filters]._orders] == [query.sort_by]


def test_its_size_follows_what_changes() -> None:
    view = View(entry(f"{index:04}", name="x" * 10 * index) for index in range(100))
    query = Query("name")
    view.page(query)
    for index in range(0, 100, 2):
        view.update(view.entries[f"{index:04}"], None)
        view.update(None, entry(f"{index:04}", name=None if index % 3 else "y"))
        view.page(query)
    made = View(view.entries.values())
    made.page(query)
    assert view.size == made.size
