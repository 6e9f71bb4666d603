"""What a sidecar does in moments that come by chance: each is brought about in its worker."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.conftest import session
from tests.live.clients import Observe, follow, refused, take
from tests.support import MEASURED, Service, fetch, wait_for

Start = Callable[[str], None]
SETTINGS = """
from fastx_list.live import server
from fastx_list.live.server import *

def post_worker_init(worker):
    server.post_worker_init(worker)
    live = server.live_of(worker)
    change(live)

"""
ONE_CONNECTION = """
def change(live):
    live.room = 1
"""
ONE_MISTAKE = """
def change(live):
    tell = live.bus.tell

    def fail_once():
        if live.bus._busy:
            live.bus.tell = tell
            raise RuntimeError("a mistake in telling")
        return tell()

    live.bus.tell = fail_once
"""


@pytest.fixture
def start(service: Service, tmp_path: Path) -> Start:
    """Starts a sidecar whose one worker runs ``change``."""
    service.environ |= {"FASTX_LIST_SERVER_ID": "here", "WEB_CONCURRENCY": "1"}
    url = f"http://127.0.0.1:{service.live_port}/health"

    def answers() -> bool:
        try:
            return fetch(url).status == 200
        except OSError:
            return False

    def start(change: str) -> None:
        settings = tmp_path / "settings.py"
        settings.write_text(SETTINGS + change, encoding="utf-8")
        command = [sys.executable, "-m", "gunicorn", "-c", str(settings)]
        command += ["--bind", f"127.0.0.1:{service.live_port}", "fastx_list:create_live_app()"]
        service.processes.start(command, "live", service.environ | MEASURED)
        wait_for("the sidecar", answers)

    return start


def test_no_more_connect_than_there_may_be_open_files(service: Service, start: Start) -> None:
    start(ONE_CONNECTION)
    with follow(service, service.token("alice")):
        status, error = refused(service, f"?token={service.token('bob')}")
        assert status == 503 and "open files" in error["message"]


def test_who_may_not_have_been_told_of_a_change_is_told_to_connect_again(
    service: Service, start: Start, observe: Observe
) -> None:
    observe(session("b"))
    start(ONE_MISTAKE)
    with follow(service, service.token("alice")) as connection:
        assert take(connection)[0] == "b"  # from here on it is told of changes
        observe(session("a"), session("b"))
        with pytest.raises(ConnectionClosed) as closed:
            while True:  # it may hear of the change late
                assert take(connection)[0] == "a"
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001 and "missed" in closed.value.rcvd.reason
    assert "a mistake in telling" in service.processes.log("live")
    with follow(service, service.token("alice")) as connection:
        assert {take(connection)[0], take(connection)[0]} == {"a", "b"}
        observe(session("a"))
        assert take(connection) == ("b", None)
