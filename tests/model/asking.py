"""How tests of the query ask for sessions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import settings
from marshmallow import ValidationError

from fastx_list.model.query import Query, QuerySchema, describe
from fastx_list.replica.view import Entry, View
from tests.model.oracle import MEMBERS, Members

SCHEMA = QuerySchema()
# No deadline: how long an example takes says something of the machine only.
usual, thorough = settings(deadline=None), settings(deadline=None, max_examples=200)


def session(name: str, **members: Any) -> Members:
    """Return a session of which only ``members`` are known."""
    return {**dict.fromkeys(MEMBERS), "params": {}, **members, "id": name}


def listed(sessions: list[Members], **parameters: Any) -> list[str]:
    """Return the ids in the answer to a request with these parameters."""
    asked: Query = SCHEMA.load(parameters)
    return [members["id"] for members in paged(sessions, asked)[0]]


def paged(sessions: list[Members], asked: Query) -> tuple[list[Members], int]:
    """Return the page that ``asked`` names, and how many sessions there are before paging."""
    view = View(entry(members) for members in sessions).narrow(asked.filters)
    return [dict(entry.members) for entry in view.page(asked)], len(view.entries)


def entry(members: Members) -> Entry:
    return Entry(members["id"], "alice", json.dumps(members).encode())


def refusal(**parameters: Any) -> str:
    """Return the message of the error that a request with these parameters gets."""
    with pytest.raises(ValidationError) as caught:
        SCHEMA.load(parameters)
    return describe(caught.value)
