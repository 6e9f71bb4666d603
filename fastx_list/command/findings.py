"""What ``fastx-list doctor`` has found, and what that means for whoever runs it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class Level(Enum):
    """How bad it is; the value is the exit status, as monitoring has it, and a number."""

    ok = 0, 0
    note = 0, 1  # only worth knowing
    warning = 1, 2  # someone should mend it
    failure = 2, 3  # it keeps people from the list, or the list from what runs here


MARKS = {Level.ok: "ok", Level.note: "--", Level.warning: "! ", Level.failure: "!!"}


class Finding(NamedTuple):
    """One line of the report."""

    level: Level
    text: str


def ok(text: str) -> Finding:
    return Finding(Level.ok, text)


def note(text: str) -> Finding:
    return Finding(Level.note, text)


def warning(text: str) -> Finding:
    return Finding(Level.warning, text)


def failure(text: str) -> Finding:
    return Finding(Level.failure, text)


def status_of(findings: Iterable[Finding]) -> int:
    """Return the exit status: 2 for a failure, 1 for a warning, 0 if all is well."""
    return max((finding.level.value[0] for finding in findings), default=0)
