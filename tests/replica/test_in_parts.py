"""What there is to sort and to filter for a question can be worked out in parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastx_list.model.query import Filter, Query
from fastx_list.replica import view as view_module
from fastx_list.replica.view import Entry, View
from tests.replica.test_view import entry, ids, ids_of, queries, states


@pytest.fixture(autouse=True, scope="module")
def parts_of_two() -> Iterator[None]:
    """So that few sessions are many already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view_module, "MANY", 3)
        patch.setattr(view_module, "PART", 2)
        yield


@settings(deadline=None, max_examples=200)
@given(
    st.lists(ids, min_size=3, unique=True),
    st.lists(st.tuples(ids, states), max_size=12),
    st.lists(queries, min_size=1, max_size=3),
)
def test_changes_between_the_parts_are_in_it(
    there: list[str], changes: list[tuple[str, dict[str, Any] | None]], asked: list[Query]
) -> None:
    sessions = {name: entry(name, clients=1) for name in there}
    view = View(sessions.values())
    working = [view.prepare(query) for query in asked]
    for name, state in changes:
        working = [each for each in working if next(each, view) is not view]
        before, after = sessions.pop(name, None), None if state is None else entry(name, **state)
        if after is not None:
            sessions[name] = after
        view.update(before, after)
    for each in working:
        for _ in each:
            pass
    for query in asked:
        assert ids_of(view, query) == ids_of(View(sessions.values()), query)


def test_then_nothing_is_left_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    view = View(entry(name, clients=1) for name in "abcdef")
    query = Query(sort_by="clients", filters=(Filter("clients", frozenset({"1"})),))
    assert view.takes_long(query)
    assert len(list(view.prepare(query))) == 6
    assert not view.takes_long(query)
    monkeypatch.setattr(Entry, "value", None)
    assert ids_of(view, query) == ([*"abcdef"], 6)


def test_few_sessions_are_not_worth_it() -> None:
    assert not View(entry(name, clients=1) for name in "ab").takes_long(Query())
