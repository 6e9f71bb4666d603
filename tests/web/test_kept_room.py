"""A worker and the connections that it keeps: what comes on them just as they end, and who makes
room."""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastx_list.api.arrival import MAX_HELD_BYTES, Patience
from fastx_list.web.client import Client
from fastx_list.web.worker import Idle, Worker


def test_what_comes_just_before_the_end_is_seen_and_nothing_comes_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker.__new__(Worker)
    worker.patience = Patience()
    worker._local, worker._of_proxies = None, set()
    theirs, ours = socket.socketpair()
    take_in, looks = Client.take_in, list[bool]()

    def look(client: Client) -> bool:
        looks.append(take_in(client))
        if len(looks) == 1:
            theirs.sendall(b"GET / HTTP/1.1")
        return looks[-1]

    monkeypatch.setattr(Client, "take_in", look)
    with theirs, ours:
        worker._kept = {ours.fileno(): Idle(None, ours, "")}
        [(_, client, _)] = worker._take_up(ours.fileno())
        assert looks == [False, True] and client.recv(99) == b"GET / HTTP/1.1"
        assert not client.may_stay
        with pytest.raises(BrokenPipeError):
            theirs.sendall(b"x")


class Full:
    """Stands for clients that are waited for, and hold too much or too little to matter."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.gone = 0

    def __len__(self) -> int:
        return 100 - self.gone

    def first_to_go(self) -> Any:
        self.gone += 1


def crowded(monkeypatch: pytest.MonkeyPatch, waiting: Full, kept: int) -> Worker:
    """Return a worker in which clients wait and connections are kept, each with a part of a
    request."""
    worker = Worker.__new__(Worker)
    worker._waiting, worker._kept = cast(Any, waiting), cast(Any, dict.fromkeys(range(kept)))
    worker._max_waiting, worker._idle = 10, []
    monkeypatch.setattr(Worker, "_see_who_is_ready", lambda self: None)
    monkeypatch.setattr(Worker, "_give_up", lambda self, client: None)
    part = SimpleNamespace(has_begun=lambda: True)

    def take_up(self: Worker, fd: int, is_last: bool = False) -> Any:
        del self._kept[fd]
        return [(None, part, "")]

    monkeypatch.setattr(Worker, "_take_up", take_up)
    monkeypatch.setattr("fastx_list.web.worker.Turn", lambda *_: SimpleNamespace(switch=print))
    return worker


def test_parts_of_requests_on_very_many_kept_connections_do_not_end_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = Full(0)
    worker = crowded(monkeypatch, waiting, 2 * sys.getrecursionlimit())
    worker._begin(worker._take_up(0))
    assert not worker._kept and len(waiting) == worker._max_waiting


def test_what_waiting_clients_hold_too_much_of_costs_no_kept_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = Full(MAX_HELD_BYTES + 1)
    worker = crowded(monkeypatch, waiting, 5)
    assert worker._make_room() == []
    assert waiting.gone == 1 and len(worker._kept) == 5
