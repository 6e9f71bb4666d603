"""The table of errors, and the page for people beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fastx_list.api.protocol import CloseCode
from fastx_list.errors import ERRORS, error_body

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_page_names_every_error_and_no_other() -> None:
    written = {
        (int(status), name)
        for statuses, name in re.findall(r"^\| ([45]\d\d(?:, \d+)*) \| `(\w+)` \|", PAGE, re.M)
        for status in statuses.split(", ")
    }
    assert written == {(status, error.name) for status, error in ERRORS.items()}


def test_the_page_names_every_close_code_and_no_other() -> None:
    written = {
        int(code)
        for codes in re.findall(r"^\| (\d{4}(?:, \d{4})*) \|", PAGE, re.M)
        for code in codes.split(", ")
    }
    assert written == set(CloseCode)


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (401, "AuthError"),
        (417, "ValidationError"),
        (431, "ValidationError"),
        (501, "ValidationError"),  # RFC 9112 section 6.1: of a Transfer-Encoding of the client's
        (505, "InternalError"),
    ],
)
def test_every_status_has_a_name_whoever_gives_it(status: int, name: str) -> None:
    said = json.loads(error_body(status, "wörtlich"))
    assert said == {"error": {"name": name, "message": "wörtlich"}}
