from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from fastx_list.model.params import ParamsError, ParamsSchema, check_params, is_deeper, merge_params
from fastx_list.model.session import decode, encode
from tests.model.sessions import MINIMAL, json_objects


def nested(depth: int) -> dict[str, Any]:
    """Return params that are arrays in arrays."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return {"x": value}


def from_a_deeper_stack(frames: int, call: Callable[[], Any]) -> Any:
    return call() if frames == 0 else from_a_deeper_stack(frames - 1, call)


def test_params_are_merged_key_by_key() -> None:
    assert merge_params({"a": 1, "b": 2}, {"b": 3, "c": 4}) == {"a": 1, "b": 3, "c": 4}


def test_a_null_removes_a_param() -> None:
    assert merge_params({"a": 1, "b": 2}, {"a": None, "never": None}) == {"b": 2}


def test_an_object_replaces_an_object_and_keeps_its_nulls() -> None:
    # RFC 7396 would merge deeper; the call does so at the top level only.
    assert merge_params({"a": {"x": 1}}, {"a": {"y": None}}) == {"a": {"y": None}}


def test_merging_changes_neither_of_the_two() -> None:
    params, patch = {"a": 1}, {"a": None, "b": 2}
    merge_params(params, patch)
    assert (params, patch) == ({"a": 1}, {"a": None, "b": 2})


@pytest.mark.parametrize("value", [False, 0, 0.0, "", [], {}], ids=repr)
def test_only_null_removes_a_param(value: object) -> None:
    assert merge_params({"a": 1}, {"a": value}) == {"a": value}


def test_a_session_holds_64_params_and_no_more() -> None:
    full = {f"key{number}": number for number in range(64)}
    check_params(full)
    assert merge_params(full, {"key0": "changed"})["key0"] == "changed"
    with pytest.raises(
        ParamsError, match="params: takes at most 64 keys in all, and this would make 65"
    ):
        merge_params(full, {"one more": 1})


def test_a_full_session_takes_a_param_in_exchange_for_another() -> None:
    full = {f"key{number}": number for number in range(64)}
    merged = merge_params(full, {"key0": None, "new": 1})
    assert len(merged) == 64
    assert merged["new"] == 1


@pytest.mark.parametrize("letter", ["x", "é", "🙂"])
def test_params_hold_8_kib_of_json_and_no_more(letter: str) -> None:
    room = 8192 - len(b'{"a":""}')
    value = letter * (room // len(letter.encode())) + "-" * (room % len(letter.encode()))
    check_params({"a": value})
    assert merge_params({}, {"a": value}) == {"a": value}
    with pytest.raises(
        ParamsError,
        match="params: takes at most 8192 bytes of JSON in all, and this would make 8193",
    ):
        merge_params({}, {"a": value + "x"})


def test_it_counts_the_bytes_of_all_params_together() -> None:
    with pytest.raises(ParamsError, match="8192"):
        merge_params({"a": "x" * 5000}, {"b": "x" * 5000})


def test_params_that_are_over_the_limit_can_be_made_smaller() -> None:
    assert merge_params({"a": "x" * 9000, "b": 1}, {"a": None}) == {"b": 1}


@pytest.mark.parametrize(
    "params",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": [1, {"b": float("-inf")}]},
        {"a": "\ud800"},
        {"\udfff": 1},
        {"a": ["\udc80"]},
        {"a": {"\ud83d": 1}},
    ],
    ids=repr,
)
def test_params_that_json_cannot_say_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match="params: takes Unicode text and finite numbers only"):
        check_params(params)


def test_a_pair_of_surrogates_is_a_character() -> None:
    check_params(json.loads(r'{"a": "\ud83d\ude42"}'))


def test_params_nested_thousands_deep_are_refused() -> None:
    with pytest.raises(ParamsError, match="params: "):
        check_params(nested(2000))


def test_what_params_are_taken_can_be_read_from_any_depth_of_the_stack() -> None:
    # The store and the replica read the text again, in other frames than the request that wrote it.
    accepted = 0
    for depth in range(1, 1000):
        params = nested(depth)
        try:
            check_params(params)
        except ParamsError:
            break
        accepted = depth
    text = encode(MINIMAL, nested(accepted))
    assert from_a_deeper_stack(200, lambda: decode(text)) == replace(
        MINIMAL, params=nested(accepted)
    )


@settings(deadline=None)
@given(json_objects, json_objects)
def test_merging_is_what_the_text_says(params: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = merge_params(params, patch)
    assert None not in merged.values()
    for key in params.keys() | patch.keys():
        assert merged.get(key) == (patch[key] if key in patch else params[key])


def test_params_may_be_nested_32_deep_and_no_deeper() -> None:
    for depth in (1, 2, 31, 32):
        check_params(nested(depth))
    for depth in (33, 34):
        with pytest.raises(ParamsError, match="nested at most 32 deep"):
            check_params(nested(depth))


def test_how_deep_a_value_is_is_told_to_the_level() -> None:
    assert is_deeper("x", 0) is False
    assert is_deeper(["x"], 0) is True and is_deeper(["x"], 1) is False
    assert is_deeper([{"a": "x"}, "y"], 1) is True and is_deeper([{"a": "x"}, "y"], 2) is False


# What the params call takes


def refused(body: dict[str, Any]) -> dict[str, Any]:
    return ParamsSchema().validate(body)


def test_the_params_call_takes_an_id_and_an_object_and_ignores_the_rest() -> None:
    body = {"id": "a" * 256, "params": {"name": None, "n": 1}}
    assert ParamsSchema().load({**body, "_": "1"}) == body


@pytest.mark.parametrize("wrong", [{}, {"id": None}, {"id": 7}, {"id": ""}, {"id": "a b"}])
def test_the_params_call_says_which_id_it_takes(wrong: dict[str, Any]) -> None:
    assert refused({"params": {}, **wrong}) == {"id": ["takes the id of one of your sessions"]}
    assert "id" in refused({"params": {}, "id": "a" * 257})


@pytest.mark.parametrize("wrong", [{}, {"params": None}, {"params": []}, {"params": "a"}])
def test_the_params_call_says_which_params_it_takes(wrong: dict[str, Any]) -> None:
    takes = "takes a JSON object; a null in it removes a param"
    assert refused({"id": "a", **wrong}) == {"params": [takes]}


@pytest.mark.parametrize(
    "params, message",
    [
        (nested(33), "params: takes arrays and objects nested at most 32 deep"),
        (
            dict.fromkeys(map(str, range(65)), 1),
            "params: takes at most 64 keys in all, and this would make 65",
        ),
        ({"a": float("nan")}, "params: takes Unicode text and finite numbers only"),
        (
            {"a": "x" * 8185},
            "params: takes at most 8192 bytes of JSON in all, and this would make 8193",
        ),
    ],
)
def test_too_much_is_told_in_figures(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        check_params(params)
    assert str(caught.value) == message
