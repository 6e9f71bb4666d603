"""What ``fastx-list doctor`` has found, and what that means for whoever runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from fastx_list.text import version


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


def unseen(path: Path | str, error: OSError) -> str:
    """Return what to say of ``path`` if nobody can tell whether anything is there."""
    return f"{path} cannot be looked at: {error.strerror or error}"


def differences(
    name: str, said: Mapping[str, object], fingerprint: str | None, restart: str
) -> Iterator[Finding]:
    """Yield in what a process differs from this one: in its release, and in the ``fingerprint`` of
    its settings, as it has ``said``. ``restart`` is how that is mended."""
    if said.get("version") != version():
        which = f"release {said['version']!r}" if said.get("version") else "another release"
        yield warning(f"{name}: it is of {which}, and this is {version()!r}; {restart}")
    if fingerprint is not None and said.get("settings", fingerprint) != fingerprint:
        yield warning(f"{name}: it runs with other settings than these; {restart}")


def status_of(findings: Iterable[Finding]) -> int:
    """Return the exit status: 2 for a failure, 1 for a warning, 0 if all is well."""
    return max((finding.level.value[0] for finding in findings), default=0)
