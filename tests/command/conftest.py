from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.support import Service

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(service: Service) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``fastx-list``, whatever its exit status."""
    service.environ["FASTX_LIST_SERVER_ID"] = "here"

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        service.environ |= environ
        return service.run(*arguments, check=False)

    return run
