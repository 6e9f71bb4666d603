from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.answers import content
from tests.support import Processes, Service


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running list and sidecar."""
    work = tmp_path_factory.mktemp("docs")
    processes = Processes(work)
    service = Service(work / "state", processes, {"FASTX_LIST_SERVER_ID": "here"})
    try:
        service.start_list()
        service.start_live()
        yield service
    finally:
        processes.stop()


@pytest.fixture
def documents(client: FlaskClient) -> dict[str, Any]:
    return {name: content(client.get(f"/api/{name}.json")) for name in ("openapi", "asyncapi")}
