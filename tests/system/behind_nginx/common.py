"""What the tests behind nginx share."""

from __future__ import annotations

from collections.abc import Callable

from tests.support import Answer

JSON = {"Content-Type": "application/json"}

Observe = Callable[..., None]
Token = Callable[..., str]


def is_error(answer: Answer, status: int, name: str) -> None:
    assert answer.status == status, answer.body
    assert (
        answer.headers["Content-Type"] == "application/json"
        and answer.headers["Cache-Control"] == "no-store"
    )
    assert (
        answer.json["error"].keys() == {"name", "message"} and answer.json["error"]["name"] == name
    )
