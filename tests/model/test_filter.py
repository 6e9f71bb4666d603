from __future__ import annotations

import json
import time
from typing import Any

import pytest

from fastx_list.model.query import Filter
from fastx_list.model.session import Session, encode
from fastx_list.model.spelling import split_values
from tests.model.asking import listed, session


@pytest.mark.parametrize(
    "value, wanted",
    [
        ("red", "red"),
        ("", ""),
        ("dark red", "dark red"),
        ("größe", "größe"),
        ("a==b", "a==b"),
        ("=b", "=b"),
        (0, "0"),
        (-7, "-7"),
        (10**30, "1" + 30 * "0"),
        (50.0, "50"),
        (12.5, "12.5"),
        (1e22, "1" + 22 * "0"),
        (True, "true"),
        (True, "TRUE"),
        (False, "False"),
        (None, ""),
        # Numbers compare by value, however either is written
        (1e21, "1e21"),
        (1e21, "1e+21"),
        (1e21, "1e 21"),  # as + comes out of a query string
        (10**21, "1E 21"),
        (1e21, "1E21"),
        (1e21, "1" + 21 * "0"),
        (10**21, "1e21"),
        (10**23, "1e23"),
        (1e23, "1e23"),
        (1e23, "1" + 23 * "0"),
        (1e-7, "1e-7"),
        (1e-7, "1e-07"),
        (1e-7, "0.0000001"),
        (1, "1.0"),
        (100, "1e2"),
        (-250, "-2.5e2"),
        (0, "-0"),
        (0, "0e99999999"),
        (0.0, "-0.0"),
        # Blanks at either end of a text do not count, in the session as in the filter
        (" red ", "red"),
        ("\tred", " red\n"),
        ("  ", ""),
    ],
)
def test_a_filter_finds_the_text_of_a_value(value: Any, wanted: str) -> None:
    assert listed([session("s", params={"color": value})], filter=f"color=={wanted}") == ["s"]


@pytest.mark.parametrize(
    "value, wanted",
    [
        ("red", "Red"),
        ("red", "re"),
        ("red", ""),
        ("True", "true"),  # only booleans are found in any case
        (1, "01"),
        (1, "+1"),
        (1, "true"),
        (10, "1"),
        (0, ""),
        (0, "false"),
        (1, "1."),
        (1, ".1e1"),
        (1, "1e"),
        (1e21, "1e  21"),
        (11, "1 1"),
        (11, "1e 1 "),
        (1, "0x1"),
        (10, "1_0"),
        (9007199254740992, "9007199254740993"),  # which are one as floating-point numbers
        (9007199254740992, "9007199254740993.0"),
        (0, "1e-99999999999999999999"),
        (1, "1e999"),
        ("1.0", "1"),  # a text is one, whatever it looks like
        ("1", "1.0"),
        ("1e21", "1e+21"),
        (True, "1"),
        (True, "yes"),
        (False, ""),
        (False, "0"),
        (None, "null"),
        (None, "None"),
        ([], ""),
        ({}, ""),
        ([], "[]"),
        ({}, "{}"),
        (["red"], "red"),
        ({"red": 1}, "red"),
    ],
)
def test_a_filter_does_not_find_what_only_looks_alike(value: Any, wanted: str) -> None:
    assert listed([session("s", params={"color": value})], filter=f"color=={wanted}") == []


def test_a_comma_is_or() -> None:
    sessions = [session(name, params={"color": name}) for name in ("blue", "green", "red")]
    assert listed(sessions, filter="color==red,blue,black") == ["blue", "red"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ('"x,y"', ["comma"]),
        (' "x,y" ,x', ["comma", "x"]),
        ('"x,y","y,x"', ["comma", "turned"]),
        ("x,y", ["x"]),
        ('"x"', ["quoted"]),
        ('"x","x,y"', ["comma", "quoted"]),
        ('"say ""x,y"""', ["said"]),
        ('"x,y', []),
        ('"x,y"z', []),
        ('x"x,y"', []),
        ('"x,y",', ["comma", "empty"]),
        ('"",x', ["x"]),
    ],
)
def test_a_value_with_a_comma_stands_in_double_quotes(wanted: str, found: list[str]) -> None:
    texts = {
        "comma": "x,y",
        "empty": "",
        "quoted": '"x"',
        "said": 'say "x,y"',
        "turned": "y,x",
        "x": "x",
    }
    sessions = [session(name, params={"v": text}) for name, text in texts.items()]
    assert listed(sessions, filter=f"v=={wanted}") == found


def test_odd_quotes_take_no_longer_than_others() -> None:
    for text in ('"', '""', '",', '"""', '"",', ',"'):
        started = time.process_time()
        split_values(text * (4096 // len(text)))
        assert time.process_time() - started < 1


def test_a_repeated_filter_is_and() -> None:
    sessions = [
        session("a", clients=0, display=1),
        session("b", clients=0, display=2),
        session("c", clients=1, display=1),
    ]
    assert listed(sessions, filter=["clients==0", "display==1"]) == ["a"]
    assert listed(sessions, filter=["clients==0", "clients==1"]) == []


def test_an_array_with_no_filter_in_it_filters_nothing() -> None:
    assert listed([session("a")], filter=[]) == ["a"]


def test_a_filter_is_split_at_the_first_equals_signs() -> None:
    sessions = [session("a", command="b==c"), session("b", command="=c"), session("c", command="c")]
    assert listed(sessions, filter="command==b==c") == ["a"]
    assert listed(sessions, filter="command===c") == ["b"]


def test_space_around_a_filters_name_and_values_does_not_count() -> None:
    sessions = [session("a", clients=0), session("b", clients=1), session("c", clients=2)]
    assert listed(sessions, filter=" clients == 0 ,\t2 ") == ["a", "c"]


def test_an_empty_filter_value_finds_null_and_absent_and_empty() -> None:
    sessions = [
        session("absent"),
        session("empty", params={"color": ""}),
        session("null", params={"color": None}),
        session("red", params={"color": "red"}),
        session("zero", params={"color": 0}),
    ]
    assert listed(sessions, filter="color==") == ["absent", "empty", "null"]
    assert listed(sessions, filter="color==red,") == ["absent", "empty", "null", "red"]


def test_an_empty_filter_value_finds_a_member_that_is_not_known() -> None:
    assert listed(
        [session("a", geometry=None), session("b", geometry="640x480")], filter="geometry=="
    ) == ["a"]


def test_the_params_as_a_whole_never_match() -> None:
    assert listed([session("a"), session("b", params={"a": 1})], filter="params==") == []


def test_a_filter_looks_among_the_members_before_the_params() -> None:
    sessions = [session("a", login="alice", params={"login": "bob"}), session("b", login="bob")]
    assert listed(sessions, filter="login==bob") == ["b"]


def test_a_null_member_still_hides_a_param() -> None:
    assert (
        listed([session("a", command=None, params={"command": "xterm"})], filter="command==xterm")
        == []
    )


def test_a_prefix_reaches_a_param_that_a_member_hides() -> None:
    sessions = [session("a", login="alice", params={"login": "bob"}), session("b", login="bob")]
    assert listed(sessions, filter="params.login==bob") == ["a"]
    assert listed(sessions, filter="params.login==") == ["b"]


def test_a_prefix_reaches_a_param_that_nothing_hides() -> None:
    assert listed(
        [session("a", params={"color": "red"}), session("b")], filter="params.color==red"
    ) == ["a"]


def test_a_prefix_is_part_of_a_params_name_if_the_param_is_called_so() -> None:
    assert listed([session("a", params={"params.color": "red"})], filter="params.color==red") == [
        "a"
    ]


def test_names_are_told_apart_by_case() -> None:
    assert listed([session("a", login="alice")], filter="Login==alice") == []


@pytest.mark.parametrize("spelling", ["disconnectTimeout", "disconnectTImeout"])
def test_both_spellings_of_the_disconnect_timeout_filter_and_sort(spelling: str) -> None:
    sessions = [
        json.loads(
            encode(
                Session(
                    id=name,
                    login="alice",
                    server_id="server",
                    hostname="host",
                    disconnect_timeout=minutes,
                ),
                {},
            )
        )
        for name, minutes in (("a", 30), ("b", 5), ("c", None), ("d", 30))
    ]
    assert listed(sessions, filter=f"{spelling}==30") == ["a", "d"]
    assert listed(sessions, filter=f"{spelling}==") == ["c"]
    assert listed(sessions, sortBy=spelling) == ["b", "a", "d", "c"]
    assert listed(sessions, sortBy=spelling, sortReverse="true") == ["a", "d", "b", "c"]


def test_a_whole_number_with_a_fraction_of_nothing_is_found_in_a_dumped_session() -> None:
    members = json.loads(
        encode(
            Session(id="a", login="alice", server_id="server", hostname="host", cpu_percentage=50),
            {},
        )
    )
    assert listed([members], filter="cpuPercentage==50") == ["a"]


class _Text(str):
    """Counts how often values are looked at."""

    looks = 0

    def lower(self) -> str:
        _Text.looks += 1
        return super().lower()


def test_a_filter_looks_at_its_values_once_however_many_sessions_there_are() -> None:
    condition = Filter("sharing", frozenset(_Text(f"v{number}") for number in range(1300)))
    for _ in range(100):
        assert not condition.matches({"sharing": True})
    assert _Text.looks <= 1300


def test_no_number_of_a_session_is_written_out() -> None:
    """That takes longer the longer it is, and a session may hold one of thousands of digits."""

    class Long(int):
        def __str__(self) -> str:
            raise AssertionError

    long = Long(10**4000)
    assert Filter("n", frozenset({"1" + 4000 * "0"})).matches({"n": long})
    assert not Filter("n", frozenset({"1"})).matches({"n": long})
