"""A sidecar that runs, and connections on sockets of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.wire import Wire
from tests.support import Service


@pytest.fixture
def live(service: Service, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A running sidecar; ``@pytest.mark.settings(NAME=value)`` sets settings."""
    marker = request.node.get_closest_marker("settings")
    service.environ |= {
        f"FASTX_LIST_{name}": value for name, value in (marker.kwargs if marker else {}).items()
    }
    service.environ["FASTX_LIST_SERVER_ID"] = "here"
    service.start_live()
    yield service
    assert "Traceback" not in service.processes.log("live")


@pytest.fixture
def alice(live: Service) -> str:
    return live.token("alice")


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A wire that takes at once what a test is likely to send."""
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture
def narrow() -> Iterator[Wire]:
    """A wire that holds a few KiB."""
    wire = Wire(send_buffer=1)
    yield wire
    wire.close()
