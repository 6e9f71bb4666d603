from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from fastx_list.command.doctor import examine
from fastx_list.command.findings import Level
from tests.support import Service

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
def said(environ: dict[str, str]) -> Said:
    """Returns what ``fastx-list doctor`` says, by how bad it is."""

    def said() -> dict[Level, str]:
        findings = list(examine(environ))
        return {
            level: "\n".join(each.text for each in findings if each.level is level)
            for level in Level
        }

    return said
