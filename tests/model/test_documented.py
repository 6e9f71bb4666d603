"""What the API's documents say of its parameters, word for word: programs are made from it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from marshmallow import Schema

from fastx_list.model.params import ParamsSchema
from fastx_list.model.query import Filter, LiveQuerySchema, Query, QuerySchema

BLANKS = r"[\s\x1c-\x1f\x85]*"
FILTER = {
    "type": "string",
    "pattern": r"^[\s\x1c-\x1f\x85]*([^\s\x1c-\x1f\x85=]|=[^=])[\s\S]*==",
    "examples": ["clients==0"],
}
BOOLEAN = [
    {"type": "string", "enum": ["1", "true", "yes", "on", "0", "false", "no", "off"]},
    {"type": "boolean"},
    {"type": "integer", "enum": [0, 1]},
]
WHOLE: list[dict[str, Any]] = [
    {"type": "integer", "minimum": 0},
    {"type": "string", "pattern": f"^{BLANKS}[0-9]{{1,1000}}{BLANKS}$"},
]
FILTERS = [{"type": "array", "items": FILTER}, FILTER]
DOCUMENTED: list[tuple[type[Schema], dict[str, tuple[Any, str]]]] = [
    (
        QuerySchema,
        {
            "sortBy": (
                [{"type": "string", "maxLength": 256}],
                "member, or one of the params, to sort by; without it started, then id",
            ),
            "sortReverse": (BOOLEAN, "true sorts from last to first"),
            "start": (WHOLE, "how many to pass over"),
            "limit": (WHOLE, "how many to return at most; 0 returns none"),
            "filter": (
                FILTERS,
                "name==value1,value2; comma is OR, repetition is AND; at most 32, of 4096 bytes",
            ),
        },
    ),
    (
        LiveQuerySchema,
        {
            "filter": (FILTERS, "as over HTTP; what stops matching gets null"),
            "snapshot": (BOOLEAN, "0 leaves out what there is on connecting"),
            "since": (
                [{"type": "string", "maxLength": 256}],
                "a revision: what has changed after it comes first, in place of what there is; of"
                ' one that is not known (any more) {"revision": null}, then what there is',
            ),
            "bookmarks": (
                BOOLEAN,
                '1 adds messages {"revision": "…"}: that all has been sent up to there, first once'
                " that is so, then every few seconds if it is another one",
            ),
        },
    ),
    (
        ParamsSchema,
        {
            "id": (None, "takes the id of one of your sessions"),
            "params": (
                None,
                "takes a JSON object; a null in it removes a param; in all a session holds at most"
                " 64, and 8192 bytes of JSON",
            ),
        },
    ),
]


@pytest.mark.parametrize("schema, said", DOCUMENTED)
def test_each_parameter_says_what_it_takes_and_does(
    schema: type[Schema], said: dict[str, tuple[Any, str]]
) -> None:
    found = {
        name: (getattr(field, "takes", None), field.metadata["description"])
        for name, field in schema().fields.items()
    }
    assert found == said


def test_a_whole_number_may_be_written_as_json_writes_numbers() -> None:
    load = QuerySchema().load
    assert load({"start": 2.0, "limit": 3.0}) == load({"start": "2", "limit": " 3 "})
    assert load({"start": 2.0}) == Query(start=2)
    for text in ("7", "1" * 1000):
        assert re.search(WHOLE[1]["pattern"], f" {text}\t")


def test_what_a_question_takes_in_memory_grows_with_what_it_holds() -> None:
    def size(*values: str) -> int:
        return Query(filters=(Filter("name", frozenset(values)),)).size

    assert size("a", "b") - size("a") == size("a", "b", "c") - size("a", "b") > 0
    assert size("a" * 1000) - size("a") == 999
    assert size() > Query().size > 0
    two = Query(filters=(Filter("name", frozenset("a")), Filter("login", frozenset("b"))))
    assert two.size - size("a") == size("b") - Query().size
