"""What systemd hears of a service that it starts (sd_notify(3))."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import WAIT_SECONDS, Service


@pytest.fixture
def heard(tmp_path: Path, service: Service) -> Iterator[socket.socket]:
    """Where systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(WAIT_SECONDS)
        service.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        yield systemd


STARTS: dict[str, Callable[[Service], object]] = {
    "agent": Service.start_agent,
    "list": Service.start_list,
    "live": Service.start_live,
    "deliver": lambda service: service.processes.start(
        [sys.executable, "-m", "fastx_list", "deliver"],
        "deliver",
        {**service.environ, "FASTX_LIST_EVENTS": "journal"},
    ),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_service_is_ready_once_it_can_work(
    name: str, service: Service, heard: socket.socket
) -> None:
    STARTS[name](service)
    while b"READY=1" not in (said := heard.recv(1024)):
        assert b"STATUS" in said


@pytest.mark.parametrize("name", ["list", "live"])
def test_a_service_whose_workers_cannot_start_is_never_ready(
    name: str, service: Service, heard: socket.socket
) -> None:
    service.environ["FASTX_LIST_COMPAT"] = "no"
    application = {"list": "create_app", "live": "create_live_app"}[name]
    gunicorn = service._gunicorn(name, service.list_port, f"fastx_list:{application}()")
    assert gunicorn.wait(WAIT_SECONDS) != 0
    heard.setblocking(False)
    with pytest.raises(BlockingIOError):
        while b"READY=1" not in heard.recv(1024):
            pass
        raise AssertionError("it said that it is ready")
