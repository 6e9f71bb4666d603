"""Who works for long lets others have their turn, those who have sent something among them."""

from __future__ import annotations

import gevent
from gevent import socket

from fastx_list.live.loop import let_others

PARTS = 20


def test_who_has_sent_something_is_answered_between_two_parts_of_long_work() -> None:
    ends, messages = socket.socketpair(), 0

    def answer(end: socket.socket) -> None:
        nonlocal messages
        while end.recv(1):
            messages += 1
            end.send(b"x")

    def work() -> None:
        for _ in range(PARTS):
            let_others()

    talking = [gevent.spawn(answer, end) for end in ends]
    ends[0].send(b"x")
    try:
        gevent.spawn(work).get()
        assert messages >= PARTS / 2
    finally:
        gevent.killall(talking)
        for end in ends:
            end.close()
