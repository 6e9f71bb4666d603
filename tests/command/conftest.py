from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastx_list.command.doctor import examine
from fastx_list.command.findings import Level
from tests.support import Service

GAMES = 5  # a user who has no rights beyond their own
Command = Callable[..., subprocess.CompletedProcess[str]]
Said = Callable[[], dict[Level, str]]


@pytest.fixture
def command(service: Service) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``fastx-list``, whatever its exit status."""
    service.environ["FASTX_LIST_SERVER_ID"] = "here"

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        service.environ |= environ
        return service.run(*arguments, check=False)

    return run


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """A directory that every user may pass through, unlike those of tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def said(environ: dict[str, str]) -> Said:
    """Returns what ``fastx-list doctor`` says, by how bad it is."""

    def said() -> dict[Level, str]:
        findings = list(examine(environ))
        return {
            level: "\n".join(each.text for each in findings if each.level is level)
            for level in Level
        }

    return said
