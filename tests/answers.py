"""Reads what the API answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Issue = Callable[..., str]
Observe = Callable[..., None]


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [member["id"] for member in content(answer)]


def content(answer: Any) -> Any:
    """Return the JSON of an answer."""
    return json.loads(answer.data)


def error(answer: Any, status: int, name: str) -> str:
    """Check the one form of an error and return its message."""
    assert answer.status_code == status
    assert answer.mimetype == "application/json"
    assert content(answer).keys() == {"error"} and content(answer)["error"].keys() == {
        "name",
        "message",
    }
    assert content(answer)["error"]["name"] == name
    message: str = content(answer)["error"]["message"]
    return message


def follow(document: Any, reference: str) -> Any:
    """Return what a ``$ref`` in one of the API's documents points to."""
    assert reference.startswith("#/")
    for key in reference[2:].split("/"):
        document = document[key]
    return document
