"""The sidecar's worker: gunicorn's gevent worker, with an end to the waiting for requests.

gunicorn hangs up on whoever has sent no request after ``keepalive`` seconds, without a word, and
takes connections until there are no files left.
"""

from __future__ import annotations

from typing import Any

import gevent
from gevent.server import StreamServer
from gunicorn.util import close_graceful
from gunicorn.workers.ggevent import GeventWorker

from fastx_list.api.arrival import ARRIVAL_SECONDS, MAX_REQUEST_BYTES, WaitingRoom
from fastx_list.api.counters import counters
from fastx_list.api.serving import refuse, settle
from fastx_list.errors import ApiError, PayloadTooLarge, RequestTimeout
from fastx_list.live.server import live_of

MAX_HALF_OPEN = 4000  # connections of one worker whose request is still on its way
AT_ONCE = 16  # connections that are taken before the worker looks at them
MIN_HALF_OPEN = 20  # that may be, however many WebSockets there are
LINGER_SECONDS = 1.0  # for the client to read why it was refused


class _Arriving:
    """A client's socket from which no more is read than a request may have."""

    def __init__(self, sock: Any) -> None:
        # The socket itself, for whoever may read more
        self.whole = sock
        # How many bytes may still be read
        self._left = MAX_REQUEST_BYTES
        # Whether it is waited for no longer
        self._given_up = False

    def recv(self, size: int) -> bytes:
        try:
            data: bytes = self.whole.recv(size)
        except OSError:
            if self._given_up:
                return b""
            raise
        self._left -= len(data)
        if self._left < 0:
            raise PayloadTooLarge()
        return data

    def give_up(self) -> None:
        """Wait no longer, and give its file back."""
        refuse(self.whole, RequestTimeout())
        self._given_up = True
        self.whole.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)


class Worker(GeventWorker):  # type: ignore[misc]
    """Waits for requests, but not for ever, and not for too many at a time."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # How many clients there are besides the WebSockets
        self._clients = 0
        # Whose requests are on their way
        self._half_open: WaitingRoom[_Arriving] = WaitingRoom()
        # Whose requests were on their way when it was last seen that the worker has to end
        self._too_late: list[_Arriving] = []

    def run(self) -> None:
        settle(self.cfg)
        # Else it takes connections quicker than it looks at them; or, of several workers, each goes
        # round its loop for every single one
        accepts = property(lambda server: AT_ONCE, lambda server, one: None)
        StreamServer.max_accept = accepts  # type: ignore[assignment]
        super().run()

    def timeout_ctx(self) -> Any:
        """Return what bounds the time in which a request may arrive."""
        return gevent.Timeout(ARRIVAL_SECONDS, RequestTimeout())

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        arriving = _Arriving(client)
        self._clients += 1
        counters.add("connections")
        counters.add("openConnections")
        self._half_open.add(arriving, addr)
        self._make_room()
        try:
            super().handle(listener, arriving, addr)
        finally:
            self._clients -= 1
            counters.add("openConnections", -1)
            self._half_open.discard(arriving)

    def _make_room(self) -> None:
        live = live_of(self)
        others = len(live.connections) + self._clients - len(self._half_open)
        room = min(MAX_HALF_OPEN, max(MIN_HALF_OPEN, live.room - others))
        if len(self._half_open) > room:
            first = self._half_open.first_to_go()
            self._half_open.discard(first)
            first.give_up()

    def handle_request(self, listener_name: Any, req: Any, sock: _Arriving, addr: Any) -> None:
        self._half_open.discard(sock)
        req.force_close()  # what is no WebSocket is asked once
        super().handle_request(listener_name, req, sock.whole, addr)
        raise StopIteration  # and no more is asked of a socket that was given to the sidecar

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer with an error, ours or gunicorn's."""
        if isinstance(exc, ApiError):
            refuse(client, exc)
        else:
            super().handle_error(req, client, addr, exc)
        # Who still sends would else be reset, and might lose the answer (RFC 9112 section 9.6)
        close_graceful(getattr(client, "whole", client), LINGER_SECONDS)

    def notify(self) -> None:
        """Once a second. When the worker has to end, requests have one more second to arrive."""
        super().notify()
        if not self.alive:
            for client in self._too_late:
                client.give_up()
            self._too_late = list(self._half_open)
