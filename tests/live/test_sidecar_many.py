"""The sidecar with many clients, many sessions, several workers, and clients that do not read."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from fastx_list.store import Store
from tests.conftest import session
from tests.live.clients import Observe, follow, refused, take, upgrade
from tests.support import Service, end, fetch, wait_for


@pytest.fixture
def live(service: Service, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A sidecar; ``@pytest.mark.settings(NAME=value)`` sets environment variables."""
    marker = request.node.get_closest_marker("settings")
    service.environ |= {"FASTX_LIST_SERVER_ID": "here", **(marker.kwargs if marker else {})}
    service.start_live()
    yield service
    assert "Traceback" not in service.processes.log("live")


def health(service: Service) -> Any:
    return fetch(f"http://127.0.0.1:{service.live_port}/health").json


@pytest.mark.settings(FASTX_LIST_SLOW_CLIENT_TIMEOUT="3", FASTX_LIST_PING_INTERVAL="1")
def test_who_reads_nothing_is_dropped_and_counted(live: Service, observe: Observe) -> None:
    observe(*(session(f"s{index}", params={"text": "x" * 8000}) for index in range(1500)))
    wait_for(
        "the sessions", lambda: fetch(f"http://127.0.0.1:{live.live_port}/ready").status == 200
    )
    alice = live.token("alice")
    with (
        socket.create_connection(("127.0.0.1", live.live_port)) as stopped,
        follow(live, live.token("bob")),
    ):
        stopped.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stopped.sendall(upgrade(live, alice))
        wait_for("both", lambda: health(live)["connections"] == 2)
        wait_for(
            "its end",
            lambda: health(live) == {"status": "ok", "connections": 1, "slowClientsDropped": 1},
        )
    log = live.processes.log("live")
    assert "dropped a connection of alice: it had read nothing for 3 s" in log and alice not in log


@pytest.mark.settings(WEB_CONCURRENCY="2")
def test_each_worker_tells_its_own_clients(live: Service, observe: Observe) -> None:
    """Which worker has how many is the kernel's choice, so there are many clients."""
    observe(session("a", clients=0))
    alice = live.token("alice")
    with ExitStack() as stack:
        clients = [stack.enter_context(follow(live, alice)) for _ in range(40)]
        assert {take(client)[0] for client in clients} == {"a"}
        observe(session("a", clients=1), session("b", "bob"))
        assert all((take(client)[1] or {})["clients"] == 1 for client in clients)
        end(live.running["live"])
        for client in clients:
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=20)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001


@pytest.mark.settings(WEB_CONCURRENCY="2", FASTX_LIST_MAX_SUBSCRIBERS_PER_LOGIN="20")
def test_two_workers_count_as_one(live: Service) -> None:
    alice = live.token("alice")
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(follow(live, alice))
        for _ in range(20):  # whichever worker takes it
            assert refused(live, f"?token={alice}")[0] == 429
            assert health(live)["connections"] == 20
        workers = psutil.Process(live.running["live"].pid).children()
        max(workers, key=lambda worker: worker.num_fds()).kill()
        wait_for("its end", lambda: health(live)["connections"] < 20)
        left = health(live)["connections"]
        for _ in range(20 - left):
            stack.enter_context(follow(live, alice))
        assert refused(live, f"?token={alice}")[0] == 429
    wait_for("their end", lambda: health(live)["connections"] == 0)


@pytest.mark.settings(FASTX_LIST_MAX_SUBSCRIBERS_PER_LOGIN="1000")
def test_a_crowd_that_comes_at_once_is_served(live: Service, observe: Observe) -> None:
    observe(session("a"))
    request = upgrade(live, live.token("alice"))
    with ExitStack() as stack:
        crowd = [
            stack.enter_context(socket.create_connection(("127.0.0.1", live.live_port), timeout=30))
            for _ in range(400)
        ]
        for one in crowd:
            one.sendall(request)
        for one in crowd:
            received = b""
            while b'"id":"a"' not in received:
                received += one.recv(65536)
            assert received.startswith(b"HTTP/1.1 101")
        assert health(live)["connections"] == 400
    wait_for("their end", lambda: health(live)["connections"] == 0)


def test_a_large_snapshot_and_changes_meanwhile_end_in_the_lists_state(
    live: Service, observe: Observe, store: Store
) -> None:
    """The snapshot of many sessions is put together in parts, between which others have their
    turn."""
    observe(*(session(f"s{index}", f"user{index % 7}", clients=0) for index in range(3000)))
    left = {f"s{index}" for index in range(0, 2990, 2)}
    url, token = (
        live.live_url.replace("/api/list", "/api/admin/session"),
        live.token("root", admin=True),
    )
    with connect(f"{url}?token={token}&filter=clients==0") as client:
        observe(
            *(session(f"s{index}", f"user{index % 7}", clients=index % 2) for index in range(2990))
        )
        store.set_params("s0", "user0", {"last": True})
        state: dict[str, dict[str, Any]] = {}
        while not state.get("s0", {}).get("params") or state.keys() != left:
            name, data = take(client)
            if data is None:
                state.pop(name, None)
            else:
                state[name] = data
    assert all(data["clients"] == 0 for data in state.values())
