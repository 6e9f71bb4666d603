"""Params: run against each store."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fastx_list.model.json import to_json
from fastx_list.model.params import MAX_PARAMS, MAX_PARAMS_BYTES, ParamsError
from fastx_list.model.session import encode
from fastx_list.store import Record, Store
from tests.store.common import by_id, is_unchanged, make_session, params_in


def test_params_of_a_new_session_are_those_it_was_started_with(store: Store) -> None:
    store.observe("s1", by_id(make_session(params={"pool": "gpu"})))
    assert params_in(store) == {"pool": "gpu"}


@pytest.mark.parametrize("later", [{}, {"pool": "cpu"}, {"b": 2}])
def test_the_agent_never_overwrites_params(store: Store, later: dict[str, Any]) -> None:
    store.observe("s1", by_id(make_session(params={"pool": "gpu"})))
    store.set_params("s1-1", "alice", {"a": 1})
    store.observe("s1", by_id(make_session(params=later)))
    assert params_in(store) == {"pool": "gpu", "a": 1}
    store.observe("s1", by_id(make_session(params=later, clients=1)))
    assert params_in(store) == {"pool": "gpu", "a": 1}


def test_params_that_were_removed_stay_removed(store: Store) -> None:
    store.observe("s1", by_id(make_session(params={"pool": "gpu"})))
    store.set_params("s1-1", "alice", {"pool": None})
    store.observe("s1", by_id(make_session(params={"pool": "gpu"}, clients=1)))
    assert params_in(store) == {}


def test_a_session_that_comes_back_after_its_end_has_only_the_params_it_was_started_with(
    store: Store,
) -> None:
    store.observe("s1", by_id(make_session(params={"pool": "gpu"})))
    store.set_params("s1-1", "alice", {"a": 1})
    store.observe("s1", {})
    store.observe("s1", by_id(make_session(params={"pool": "cpu"})))
    assert params_in(store) == {"pool": "cpu"}


def test_params_are_merged(store: Store) -> None:
    store.observe("s1", by_id(make_session()))
    store.set_params("s1-1", "alice", {"a": 1, "b": {"x": 1}})
    store.set_params("s1-1", "alice", {"b": {"y": 2}, "c": [None]})
    assert params_in(store) == {"a": 1, "b": {"y": 2}, "c": [None]}


def test_a_null_removes_a_param(store: Store) -> None:
    store.observe("s1", by_id(make_session(params={"a": 1, "b": 2})))
    store.set_params("s1-1", "alice", {"a": None, "never there": None})
    assert params_in(store) == {"b": 2}


def test_set_params_returns_the_session_as_it_is_kept(store: Store) -> None:
    session = make_session(clients=1, cpu_percentage=12.5, sharing=True)
    store.observe("s1", by_id(session))
    text = store.set_params("s1-1", "alice", {"a": 1})
    assert text == encode(session, {"a": 1})
    assert [record.text for record in store.snapshot().records] == [text]


def test_set_params_is_one_change(store: Store) -> None:
    store.observe("s1", by_id(make_session(1), make_session(2)))
    before = store.snapshot().revision
    text = store.set_params("s1-1", "alice", {"a": 1})
    changes = store.changes(before)
    assert changes is not None
    assert list(changes.records) == [Record("s1-1", "alice", "s1", text)]
    assert changes.revision.number == before.number + 1


@pytest.mark.parametrize("patch", [{}, {"a": 1}, {"b": None}])
def test_a_patch_that_changes_nothing_writes_nothing(store: Store, patch: dict[str, Any]) -> None:
    session = make_session(params={"a": 1})
    store.observe("s1", by_id(session))
    before = store.snapshot().revision
    assert store.set_params("s1-1", "alice", patch) == encode(session, {"a": 1})
    assert store.changes(before) is None


@pytest.mark.parametrize(
    ("old", "new"), [(1, True), (True, 1), (False, 0), ({"x": 1}, {"x": True}), ([0], [False])]
)
def test_it_tells_values_apart_that_only_python_takes_for_equal(
    store: Store, old: Any, new: Any
) -> None:
    store.observe("s1", by_id(make_session(params={"a": old})))
    text = store.set_params("s1-1", "alice", {"a": new})
    assert f'"params":{to_json({"a": new})}' in str(text)
    assert to_json(params_in(store)) == to_json({"a": new})


@pytest.mark.parametrize(
    ("session_id", "login"),
    [
        ("s1-1", "bob"),
        ("s1-9", "alice"),
        ("", "alice"),
        ("s1-1", ""),
        ("S1-1", "alice"),
        ("s1-1", "Alice"),
    ],
)
def test_params_of_a_session_that_is_not_the_logins_are_left_alone(
    store: Store, session_id: str, login: str
) -> None:
    store.observe("s1", by_id(make_session()))
    before = store.snapshot()
    assert store.set_params(session_id, login, {"a": 1}) is None
    assert is_unchanged(store, before)


def test_params_of_a_session_that_has_ended_cannot_be_set(store: Store) -> None:
    store.observe("s1", by_id(make_session()))
    store.observe("s1", {})
    before = store.snapshot().revision
    assert store.set_params("s1-1", "alice", {"a": 1}) is None
    assert store.changes(before) is None


def test_a_session_takes_so_many_params_and_no_more(store: Store) -> None:
    store.observe("s1", by_id(make_session()))
    store.set_params("s1-1", "alice", {str(number): number for number in range(MAX_PARAMS - 1)})
    store.set_params("s1-1", "alice", {"last": 1})
    before = store.snapshot()
    with pytest.raises(ParamsError, match=str(MAX_PARAMS)):
        store.set_params("s1-1", "alice", {"one more": 1})
    assert is_unchanged(store, before)
    store.set_params("s1-1", "alice", {"last": None, "one more": 1})
    assert len(params_in(store)) == MAX_PARAMS


@pytest.mark.parametrize("character", ["x", "é"])
def test_a_session_takes_so_many_bytes_of_params_and_no_more(store: Store, character: str) -> None:
    store.observe("s1", by_id(make_session()))
    room = MAX_PARAMS_BYTES - len('{"a":""}')
    store.set_params("s1-1", "alice", {"a": character * (room // len(character.encode()))})
    before = store.snapshot()
    assert len(to_json(params_in(store)).encode()) == MAX_PARAMS_BYTES
    with pytest.raises(ParamsError, match=str(MAX_PARAMS_BYTES)):
        store.set_params(
            "s1-1", "alice", {"a": character * (room // len(character.encode())) + "x"}
        )
    with pytest.raises(ParamsError):
        store.set_params("s1-1", "alice", {"b": ""})
    assert is_unchanged(store, before)


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", {"\ud800": 1}])
def test_params_that_have_no_json_form_are_refused(store: Store, value: Any) -> None:
    store.observe("s1", by_id(make_session()))
    before = store.snapshot()
    with pytest.raises(ParamsError):
        store.set_params("s1-1", "alice", {"a": value})
    assert is_unchanged(store, before)
