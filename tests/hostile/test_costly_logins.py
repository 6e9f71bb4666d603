"""One login with a good token that asks as much as it may: others do not wait for it."""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, product
from string import ascii_lowercase, digits

import psutil
import pytest
from websockets.sync.client import ClientConnection

from fastx_list.config import load
from fastx_list.store import Store, open_store
from tests.conftest import session
from tests.live.clients import follow, take, upgrade
from tests.support import Service, fetch, wait_for

SOCKETS = 100  # as many as a login may have
CALLERS = 3
CALLS_A_SECOND = 30  # of each caller, at most
TIMES = 60
# As many values as fit into a filter
_VALUES = ["".join(pair) for pair in product(ascii_lowercase + digits, repeat=2)]


@pytest.fixture
def kept(service: Service) -> Iterator[Store]:
    """The store of a running list and sidecar, with one worker each."""
    service.environ |= {"FASTX_LIST_SERVER_ID": "here", "WEB_CONCURRENCY": "1"}
    service.start_list()
    service.start_live()
    store = open_store(load(service.environ).store)
    yield store
    store.close()


def costly_filter(number: int) -> str:
    """Return a filter on a boolean with as many values as one can have; each number has its own."""
    values = [value for index, value in enumerate(_VALUES) if index != number]
    return "sharing%3D%3D" + ",".join(values)


def open_costly(service: Service, token: str, number: int) -> socket.socket:
    """Open a WebSocket with such a filter; nobody reads it."""
    request = upgrade(service, token).replace(
        b" HTTP/1.1", f"&filter={costly_filter(number)} HTTP/1.1".encode(), 1
    )
    connection = socket.create_connection(("127.0.0.1", service.live_port), timeout=60)
    connection.sendall(request)
    return connection


@contextmanager
def repeated(step: Callable[[int], None], pause: float) -> Iterator[None]:
    """Take ``step`` again and again in a thread, at most once in ``pause`` seconds."""
    over = threading.Event()

    def run() -> None:
        for number in count():
            if over.wait(pause):
                break
            step(number)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def attack(service: Service, ids: list[str], *, comes_again: bool) -> Iterator[None]:
    """Do all that mallory may at once; with ``comes_again`` its sockets are opened anew all the
    time."""
    token = service.token("mallory")
    sockets = deque(open_costly(service, token, number) for number in range(SOCKETS))

    def call(number: int) -> None:
        body = {"id": ids[number % len(ids)], "params": {"time": time.monotonic_ns()}}
        answer = fetch(
            f"{service.url}/api/params/{token}",
            "POST",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        assert answer.status == 200

    def come(number: int) -> None:
        if comes_again:
            sockets.popleft().close()
            sockets.append(open_costly(service, token, SOCKETS + number))

    wait_for(
        "all sockets",
        lambda: fetch(f"http://127.0.0.1:{service.live_port}/health").json["connections"] > SOCKETS,
    )
    try:
        with ExitStack() as stack:
            for _ in range(CALLERS):
                stack.enter_context(repeated(call, 1 / CALLS_A_SECOND))
            stack.enter_context(repeated(come, 0.01))
            yield
    finally:
        for each in sockets:
            each.close()


def measure(
    service: Service, kept: Store, token: str, connection: ClientConnection
) -> dict[str, float]:
    """Return the seconds within which 9 of 10 changes, answers of the list and of the sidecar
    came."""
    taken: dict[str, list[float]] = {"message": [], "list": [], "health": []}
    health = f"http://127.0.0.1:{service.live_port}/health"
    for _ in range(TIMES):
        began, stamp = time.monotonic(), time.monotonic_ns()
        kept.set_params("a", "alice", {"stamp": stamp})
        while (take(connection)[1] or {})["params"].get("stamp") != stamp:
            pass
        taken["message"].append(time.monotonic() - began)
        for name, url in (("list", f"{service.url}/api/list/{token}"), ("health", health)):
            began = time.monotonic()
            assert fetch(url).status == 200
            taken[name].append(time.monotonic() - began)
    return {name: statistics.quantiles(each, n=10)[-1] for name, each in taken.items()}


@pytest.mark.parametrize("number", [100, 10_000])
def test_the_filters_and_sockets_of_a_login_cost_others_nothing(
    service: Service, kept: Store, number: int
) -> None:
    ids = [f"m{index}" for index in range(number)]
    mine = [session("a"), *(session(name, "mallory", sharing=True) for name in ids)]
    kept.observe("here", {each.id: each for each in mine})
    token = service.token("alice")
    with follow(service, token) as connection:
        take(connection)
        before = measure(service, kept, token, connection)
        with attack(service, ids, comes_again=number > 100):
            during = measure(service, kept, token, connection)
    print(before, during)
    for name in during:
        assert during[name] <= 10 * before[name] + 0.25, (name, before, during)


def test_the_orders_and_filters_of_a_login_take_a_bounded_part_of_memory(
    service: Service, kept: Store
) -> None:
    params = {f"x{number}": "Text" * 20 for number in range(8)}
    sessions = [session(f"m{number}", "mallory", params=params) for number in range(10_000)]
    kept.observe("here", {each.id: each for each in sessions})
    token = service.token("mallory")
    [worker] = psutil.Process(service.running["list"].pid).children()

    def ask(order: int, number: int) -> None:
        question = f"limit=1&sortBy=x{order}&filter=login%3D%3Dmallory,{number}"
        assert fetch(f"{service.url}/api/list/{token}?{question}").status == 200

    ask(0, 0)
    before = worker.memory_info().rss
    for number in range(8):
        for order in range(8):
            ask(order, number)
    assert worker.memory_info().rss - before < 64 * 2**20
