from __future__ import annotations

import json

import pytest
from marshmallow import ValidationError

from fastx_list.model.query import describe
from tests.model.asking import listed, refusal, session

NO_WHOLE_NUMBERS = [
    "-1",
    -1,
    "-0",
    "1_0",
    "５",
    "٣",
    "1.5",
    1.5,
    "1e3",
    "+1",
    "0x10",
    "",
    " ",
    "one",
    "1 0",
    "1,0",
    "NaN",
    "Infinity",
    True,
    False,
    [],
    [1],
    {},
    "9" * 5000,
]


@pytest.mark.parametrize("name", ["start", "limit"])
@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS, ids=lambda value: repr(value)[:20])
def test_it_refuses_a_start_or_limit_that_is_no_whole_number(name: str, value: object) -> None:
    message = refusal(**{name: value})
    assert message.startswith(f"{name}: takes a whole number")
    assert "0 or more" in message


@pytest.mark.parametrize(
    "value", ["", "maybe", "y", "2", 2, -1, 1.0, "truee", "真", [], [True], {}], ids=repr
)
def test_it_refuses_an_unknown_boolean(value: object) -> None:
    assert refusal(sortReverse=value).startswith("sortReverse: takes true or false")


@pytest.mark.parametrize("value", [1, True, [], ["id"], {}], ids=repr)
def test_it_refuses_a_name_to_sort_by_that_is_no_text(value: object) -> None:
    assert refusal(sortBy=value).startswith("sortBy: takes the name of a member")


def test_it_refuses_a_name_to_sort_by_of_over_256_characters() -> None:
    assert refusal(sortBy="n" * 257).startswith("sortBy: takes the name of a member")
    assert listed([session("a", params={"n" * 256: 1})], sortBy="n" * 256) == ["a"]


@pytest.mark.parametrize(
    "value",
    ["", "clients", "clients=0", "clients= =0", "==0", "  ==0", "===", "clients!=0"],
    ids=repr,
)
def test_it_refuses_a_filter_without_a_name_and_equals_signs(value: str) -> None:
    assert refusal(filter=value).startswith("filter: takes name==value1,value2")
    assert refusal(filter=["id==a", value]).startswith("filter: takes name==value1,value2")


@pytest.mark.parametrize(
    "value", [1, True, {}, {"id": "a"}, [1], [None], ["id==a", 1], [["id==a"]]], ids=repr
)
def test_it_refuses_a_filter_that_is_no_text(value: object) -> None:
    assert refusal(filter=value).startswith("filter: takes text of the form name==value1,value2")


def test_it_takes_32_filters_and_no_more() -> None:
    assert listed([session("a", clients=0)], filter=["clients==0"] * 32) == ["a"]
    message = refusal(filter=["clients==0"] * 33)
    assert message.startswith("filter: takes at most 32 filters")
    assert "33" in message


@pytest.mark.parametrize("letter", ["x", "é", "🙂"])
def test_it_takes_4096_bytes_of_filter_and_no_more(letter: str) -> None:
    room = 4096 - len(b"command==")
    wanted = letter * (room // len(letter.encode())) + "-" * (room % len(letter.encode()))
    assert len(f"command=={wanted}".encode()) == 4096
    assert listed([session("a", command=wanted)], filter=f"command=={wanted}") == ["a"]
    assert refusal(filter=f"command=={wanted}x").startswith("filter: takes at most 4096 bytes")


def test_it_counts_the_bytes_of_all_filters_together() -> None:
    texts = ["clients==0", "command==" + "x" * (4096 - len(b"clients==0command=="))]
    assert listed([session("a", clients=0)], filter=texts) == []
    assert refusal(filter=[*texts[:-1], texts[-1] + "x"]).startswith(
        "filter: takes at most 4096 bytes"
    )


def test_a_filter_with_half_a_character_is_counted_and_finds_nothing() -> None:
    # JSON can write a lone surrogate, which is no Unicode text and cannot be encoded.
    assert listed([session("a", command="x")], filter=json.loads(r'"command==\ud800"')) == []


def test_an_error_names_every_parameter_that_was_refused() -> None:
    message = refusal(limit="x", start="y", sortReverse="z")
    assert {part.partition(": takes ")[0] for part in message.split("; ")} == {
        "limit",
        "start",
        "sortReverse",
    }


def test_an_error_is_described_without_the_place_it_stood_in() -> None:
    assert (
        describe(ValidationError({"query": {"limit": ["takes a number"]}}))
        == "limit: takes a number"
    )


def test_an_error_inside_an_array_is_described_with_its_place() -> None:
    assert (
        describe(ValidationError({"a": {0: ["is wrong"], 1: "too"}, "b": ["no", "no"]}))
        == "a: 0: is wrong 1: too; b: no no"
    )
