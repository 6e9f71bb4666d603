from __future__ import annotations

import pytest

from fastx_list.model.query import Query
from tests.model.asking import SCHEMA, listed, paged, session

# sortBy and sortReverse


def test_numbers_sort_by_value() -> None:
    sessions = [
        session("a", display=10),
        session("b", display=9),
        session("c", display=1),
        session("d", display=0),
    ]
    assert listed(sessions, sortBy="display") == ["d", "c", "b", "a"]


def test_numbers_that_no_float_can_hold_sort_by_value() -> None:
    sessions = [
        session("a", started=2**53 + 1),
        session("b", started=2**53),
        session("c", started=10**400),
    ]
    assert listed(sessions, sortBy="started") == ["b", "a", "c"]


def test_numbers_sort_before_strings() -> None:
    sessions = [
        session(name, params={"rank": value})
        for name, value in (("a", "1"), ("b", 10), ("c", "0"), ("d", 2.5))
    ]
    assert listed(sessions, sortBy="rank") == ["d", "b", "c", "a"]
    assert listed(sessions, sortBy="rank", sortReverse=True) == ["a", "c", "b", "d"]


def test_booleans_sort_false_before_true() -> None:
    assert listed([session("a", sharing=True), session("b", sharing=False)], sortBy="sharing") == [
        "b",
        "a",
    ]


def test_strings_sort_without_regard_to_case() -> None:
    sessions = [
        session(name, command=name)
        for name in ("banana", "Apple", "STRASSE", "straße", "Strassf", "Date")
    ]
    assert listed(sessions, sortBy="command") == [
        "Apple",
        "banana",
        "Date",
        "STRASSE",
        "straße",
        "Strassf",
    ]


@pytest.mark.parametrize("backwards, ids", [("false", ["b", "a"]), ("true", ["a", "b"])])
def test_missing_and_null_and_what_has_no_order_sort_last_in_both_directions(
    backwards: str, ids: list[str]
) -> None:
    sessions = [
        session("w", params={"rank": {}}),
        session("x", params={"rank": None}),
        session("y"),
        session("z", params={"rank": [1]}),
        session("a", params={"rank": "first"}),
        session("b", params={"rank": 1}),
    ]
    assert listed(sessions, sortBy="rank", sortReverse=backwards) == [*ids, "w", "x", "y", "z"]


@pytest.mark.parametrize(
    "backwards, ids", [(False, ["d", "A", "b", "c"]), (True, ["A", "b", "c", "d"])]
)
def test_ties_sort_by_id_ascending_in_both_directions(backwards: bool, ids: list[str]) -> None:
    sessions = [
        session("c", clients=2),
        session("A", clients=2),
        session("d", clients=1),
        session("b", clients=2),
    ]
    assert listed(sessions, sortBy="clients", sortReverse=backwards) == ids


@pytest.mark.parametrize("name", [None, "", "  "])
def test_without_a_name_to_sort_by_it_is_by_start_and_then_by_id(name: str | None) -> None:
    sessions = [
        session("d"),
        session("c", started=2),
        session("b", started=2),
        session("a", started=3),
        session("e", started=1),
    ]
    assert listed(sessions, sortBy=name) == ["e", "b", "c", "a", "d"]
    assert listed(sessions, sortBy=name, sortReverse=True) == ["a", "b", "c", "e", "d"]


def test_it_sorts_by_one_of_the_params() -> None:
    sessions = [
        session("a", params={"rank": 2}),
        session("b", params={"rank": 1}),
        session("c", params={"rank": 3}),
    ]
    assert listed(sessions, sortBy=" rank ") == ["b", "a", "c"]


def test_it_sorts_by_a_param_that_a_member_hides() -> None:
    sessions = [
        session("a", display=1, params={"display": 2}),
        session("b", display=2, params={"display": 1}),
    ]
    assert listed(sessions, sortBy="display") == ["a", "b"]
    assert listed(sessions, sortBy="params.display") == ["b", "a"]


def test_sorting_by_what_no_session_has_sorts_by_id() -> None:
    assert listed([session("b", started=1), session("a", started=2)], sortBy="nothing") == [
        "a",
        "b",
    ]


@pytest.mark.parametrize("value", [True, 1, "1", "true", "TRUE", " True ", "yes", "on"])
def test_it_sorts_in_reverse_for_whatever_means_true(value: object) -> None:
    assert listed([session("a", started=1), session("b", started=2)], sortReverse=value) == [
        "b",
        "a",
    ]


@pytest.mark.parametrize("value", [None, False, 0, "0", "false", "FALSE", "no", "off"])
def test_it_does_not_sort_in_reverse_for_whatever_means_false(value: object) -> None:
    assert listed([session("a", started=1), session("b", started=2)], sortReverse=value) == [
        "a",
        "b",
    ]


# start and limit


@pytest.mark.parametrize(
    "start, limit, ids",
    [
        (None, None, "abcd"),
        (0, None, "abcd"),
        (1, None, "bcd"),
        (4, None, ""),
        (5, None, ""),
        (10**30, None, ""),
        (None, 0, ""),
        (None, 1, "a"),
        (None, 4, "abcd"),
        (None, 10**30, "abcd"),
        (1, 2, "bc"),
        (3, 2, "d"),
        (10**30, 10**30, ""),
        (2, 0, ""),
    ],
)
def test_it_returns_the_page_from_start_of_limit_sessions(
    start: int | None, limit: int | None, ids: str
) -> None:
    sessions = [session(name) for name in "abcd"]
    assert listed(sessions, start=start, limit=limit) == list(ids)
    texts = {
        name: str(value)
        for name, value in (("start", start), ("limit", limit))
        if value is not None
    }
    assert listed(sessions, **texts) == list(ids)


def test_paging_comes_after_filtering_and_sorting() -> None:
    sessions = [session(name, display=ord(name), clients=ord(name) % 2) for name in "abcdefg"]
    assert listed(
        sessions, filter="clients==1", sortBy="display", sortReverse="1", start="1", limit="2"
    ) == ["e", "c"]


def test_the_number_of_sessions_is_that_before_paging() -> None:
    asked: Query = SCHEMA.load({"filter": "clients==1", "limit": "1"})
    assert (
        paged([session("a", clients=1), session("b", clients=1), session("c", clients=0)], asked)[1]
        == 2
    )
