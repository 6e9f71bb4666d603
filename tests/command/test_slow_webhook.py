"""A webhook that answers, and takes its time for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest

from fastx_list.command import sinks
from fastx_list.command.sinks import Webhook
from fastx_list.model.event import Event

EVENTS = [Event(f"{number}-a", 1000, "sessionBegan") for number in range(3)]
LONG = 30.0  # seconds, as long as nothing ends it


@contextmanager
def answering(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[Webhook]:
    """Answer each request with ``answer``, which gets the connection and what is set at the end."""
    is_over = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    while data := connection.recv(65536):
                        if data.endswith(b"}"):  # that of the event
                            answer(connection, is_over)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield Webhook(f"http://127.0.0.1:{listener.getsockname()[1]}/hook", "s" * 32)
        is_over.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def drip(connection: socket.socket, text: bytes, is_over: threading.Event) -> None:
    """Send ``text`` again and again, far more often than a timeout would end it."""
    for _ in range(int(LONG / 0.02)):
        if is_over.wait(0.02):
            return
        connection.sendall(text)


@pytest.mark.parametrize("text", [b"HTTP/1.1 100 Continue\r\n\r\n", b"X"], ids=["again", "line"])
def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(sinks, "ANSWER_SECONDS", 0.5)
    ended = threading.Event()

    def send(hook: Webhook) -> None:
        with suppress(OSError):
            hook.send(EVENTS)
        ended.set()

    with answering(lambda connection, is_over: drip(connection, text, is_over)) as hook:
        threading.Thread(target=send, args=[hook], daemon=True).start()
        assert ended.wait(LONG / 2)


def test_who_takes_long_for_each_event_gets_them_in_several_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sinks, "ANSWER_SECONDS", 5.0)
    clock = [0.0]
    times = SimpleNamespace(time=time.time, monotonic=lambda: clock[0])
    monkeypatch.setattr(sinks, "time", times)

    def answer(connection: socket.socket, is_over: threading.Event) -> None:
        clock[0] += 4.0
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with answering(answer) as hook:
        assert hook.send(EVENTS) == 2
