from __future__ import annotations

import json

import pytest
from marshmallow import ValidationError

from fastx_list.model import query
from fastx_list.model.query import LiveQuerySchema, Query, describe
from tests.model.asking import SCHEMA, listed, session

# The parameters as a whole


def test_unknown_parameters_are_ignored() -> None:
    assert (
        SCHEMA.load({"_": "1700000000", "sortby": "id", "limits": "none", "token": "x"}) == Query()
    )


@pytest.mark.parametrize("name", ["sortBy", "sortReverse", "start", "limit", "filter"])
def test_a_null_parameter_is_one_left_out(name: str) -> None:
    assert SCHEMA.load({name: None}) == Query()


def test_the_same_question_is_the_same_key() -> None:
    parameters = {
        "sortBy": "id",
        "sortReverse": "1",
        "start": "2",
        "limit": 3,
        "filter": ["a==1,2", "b=="],
    }
    same = {
        "sortBy": " id",
        "sortReverse": True,
        "start": 2,
        "limit": "3",
        "filter": [" a == 2, 1", "b=="],
    }
    assert len({SCHEMA.load(parameters).asked, SCHEMA.load(same).asked}) == 1


def test_listing_changes_no_session() -> None:
    sessions = [session("b", params={"x": [1]}), session("a")]
    before = json.dumps(sessions)
    listed(sessions, sortBy="x", filter="x==", start=1, limit=1)
    assert json.dumps(sessions) == before


# The parameters of the WebSocket


@pytest.mark.parametrize(
    "value, wanted", [("0", False), ("false", False), ("1", True), ("TRUE", True)]
)
def test_the_feed_takes_whether_to_send_a_snapshot(value: str, wanted: bool) -> None:
    assert LiveQuerySchema().load({"snapshot": value})["snapshot"] is wanted


def test_the_feed_sends_a_snapshot_of_everything_unless_told_otherwise() -> None:
    nothing = {"snapshot": True, "filter": (), "since": None, "bookmarks": False}
    assert LiveQuerySchema().load({}) == nothing


def test_the_feed_takes_any_short_text_for_a_revision() -> None:
    for text in ("", "no revision", "é", "f" * 256):
        assert LiveQuerySchema().load({"since": text})["since"] == text


def test_the_feed_filters_as_the_list_does() -> None:
    text = ["clients==0", " login == a,b "]
    found = LiveQuerySchema().load({"filter": text})["filter"]
    assert found == SCHEMA.load({"filter": text}).filters
    assert query.matches(session("a", clients=0, login="b"), found)
    assert not query.matches(session("a", clients=1, login="b"), found)


def test_the_feed_ignores_what_orders_and_pages_a_list() -> None:
    asked = LiveQuerySchema().load({"limit": "none", "start": "-1", "sortBy": "id"})
    assert asked == LiveQuerySchema().load({})


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"snapshot": "maybe"}, "snapshot: takes true or false"),
        ({"filter": "clients"}, "filter: takes name==value1,value2"),
        ({"since": "f" * 257}, "since: takes a revision, at most 256 characters"),
        ({"bookmarks": "often"}, "bookmarks: takes true or false"),
    ],
)
def test_the_feed_refuses_what_the_list_refuses(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LiveQuerySchema().load(parameters)
    assert describe(caught.value).startswith(message)
