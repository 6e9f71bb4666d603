"""The programs in a directory, and a list and a sidecar for them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.portal.programs import DOCUMENT, NODE_WS, Portal, programs
from tests.support import Processes, Service, free_port, program


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the programs, and with the key pair, made as the document says."""
    folder = tmp_path_factory.mktemp("programs")
    for name, text in programs().items():
        (folder / name).write_text(text, encoding="utf-8")
    program("openssl", "openssl")
    for command in re.findall(r"^openssl .*", DOCUMENT, re.MULTILINE):
        subprocess.run(["sh", "-ec", command], cwd=folder, check=True, capture_output=True)
    if NODE_WS.exists():  # as "npm install ws" would
        (folder / "node_modules").mkdir()
        (folder / "node_modules" / "ws").symlink_to(NODE_WS)
    return folder


@pytest.fixture(scope="module")
def portal_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def listing(
    folder: Path, portal_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The list and the sidecar, which know the portal's public key and its origin."""
    directory = tmp_path_factory.mktemp("listing")
    processes = Processes(directory)
    environ = {
        "FASTX_LIST_SERVER_ID": "here",
        "FASTX_LIST_TOKEN_PUBLIC_KEY": str(folder / "portal.pub"),
        "FASTX_LIST_ALLOWED_ORIGINS": f"http://localhost:{portal_port}",
        "WEB_CONCURRENCY": "1",  # each worker has its own last known state
    }
    service = Service(directory / "state", processes, environ)
    service.start_list()
    service.start_live()
    yield service
    processes.stop()


@pytest.fixture
def environ(listing: Service) -> dict[str, str]:
    """The running list's settings, so that ``observe`` writes to its store."""
    return listing.environ


@pytest.fixture
def portal(folder: Path, listing: Service, processes: Processes) -> Portal:
    return Portal(folder, listing, processes)
