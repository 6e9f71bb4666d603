"""Whom a sidecar keeps out, and whom it lets wait."""

from __future__ import annotations

import select
import socket

import pytest

from tests.conftest import session
from tests.live.clients import Observe, first_id, follow, raw_answer, refused, take, upgrade
from tests.support import Service, fetch, wait_for


@pytest.mark.settings(ALLOWED_ORIGINS="https://portal.example.org")
def test_pages_of_other_hosts_are_refused(live: Service, alice: str) -> None:
    answer, error = refused(live, f"?token={alice}", origin="https://evil.example.org")
    assert answer == 403 and error["name"] == "Forbidden" and "Origin" in error["message"]
    for origin in ("https://portal.example.org", "http://127.0.0.1:8000"):
        with follow(live, alice, origin=origin):
            pass


@pytest.mark.settings(MAX_SUBSCRIBERS_PER_LOGIN="2")
def test_one_login_has_only_so_many_connections(
    live: Service, alice: str, observe: Observe
) -> None:
    observe(session("a"))
    with follow(live, alice) as first, follow(live, alice) as second:
        assert take(first)[0] == take(second)[0] == "a"
        answer, error = refused(live, f"?token={alice}")
        assert answer == 429 and error["name"] == "TooManyRequests"
        with follow(live, live.token("bob")):
            pass
    wait_for("a place", lambda: first_id(live, alice) == "a")


def test_a_handshake_waits_a_moment_for_the_store_to_be_read_for_the_first_time(
    service: Service, observe: Observe
) -> None:
    database = service.state / "sessions.db"
    database.mkdir(parents=True)
    service.start_live()
    request = upgrade(service, service.token("alice"))
    head, message = raw_answer(service, request)
    assert head.startswith("HTTP/1.1 503") and "cannot be read yet" in message
    with socket.create_connection(("127.0.0.1", service.live_port), timeout=20) as early:
        early.sendall(request)
        # So that one has had its turn, too
        assert fetch(f"http://127.0.0.1:{service.live_port}/ready").status == 503
        assert not select.select([early], [], [], 0)[0]
        database.rmdir()
        assert early.recv(65536).startswith(b"HTTP/1.1 101")
