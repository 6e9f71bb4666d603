"""The sidecar's worker: gunicorn's gevent worker, with an end to the waiting for requests.

gunicorn gives each connection a greenlet, hangs up on whoever has sent no request after
``keepalive`` seconds, without a word, and takes connections until there are no files left. Here a
client that has not sent anything yet costs its socket alone.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import gevent
from gevent.monkey import get_original
from gevent.socket import socket as waiting_socket
from greenlet import getcurrent, greenlet
from gunicorn.util import close_graceful
from gunicorn.workers.ggevent import GeventWorker

from fastx_list.api.arrival import (
    ARRIVAL_SECONDS,
    EARLY_BYTES,
    MAX_HELD_BYTES,
    MAX_REQUEST_BYTES,
    Patience,
    WaitingRoom,
)
from fastx_list.api.counters import counters
from fastx_list.api.serving import refuse, settle
from fastx_list.errors import ApiError, PayloadTooLarge, RequestTimeout
from fastx_list.live.loop import READABLE, Watcher
from fastx_list.live.server import live_of

AT_ONCE = 16  # connections that are taken before others have their turn
MIN_HALF_OPEN = 20  # that may be, however many WebSockets there are
SILENT_BYTES = 4096  # that a client takes which has sent nothing yet
BEGUN_BYTES = 32 * 1024  # the same, with a greenlet, once its request has begun
LINGER_SECONDS = 1.0  # for the client to read why it was refused
LOOK_SECONDS = 1.0  # between two looks at who is too late
PAUSE_SECONDS = 0.1  # until connections are taken again if none can be, as there is no file left

# gevent's sockets carry two watchers each, and its poll() waits for the loop
_plain_socket = get_original("socket", "socket")
_poll = get_original("select", "poll")
_CLOSED = _plain_socket()
_CLOSED.close()


class _Arriving:
    """A client's socket from which no more is read than a request may have."""

    __slots__ = (
        "_early",
        "_left",
        "_sock",
        "_worker",
        "addr",
        "deadline",
        "given_up",
        "is_here",
        "listener",
        "watcher",
    )
    local_uid = None  # as the sidecar has no socket for users of this machine

    def __init__(
        self, worker: Worker, sock: socket.socket, listener: _Listener, addr: object
    ) -> None:
        # What accept said of it, and where
        self.addr, self.listener = addr, listener
        # Until when it is waited for, by the worker's patience
        self.deadline = 0.0
        # Waits for its first bytes
        self.watcher: Watcher | None = None
        # Whether the head of its request is here
        self.is_here = False
        self._worker = worker
        # What it stands for. It does not block, until somebody needs one that waits
        self._sock = sock
        # Its first bytes, until they are read; None while there are none
        self._early: bytes | None = None
        # How many bytes may still be read
        self._left = MAX_REQUEST_BYTES
        # Whether it is waited for no longer
        self.given_up = False

    def take_in(self) -> bool:
        """Read what has come; return whether that is anything, or the end."""
        try:
            self._early = self._sock.recv(EARLY_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            self._early = b""
        return True

    @property
    def whole(self) -> Any:
        """The socket itself, for whoever may read more, and wait for that."""
        if not isinstance(self._sock, waiting_socket) and self._sock is not _CLOSED:
            kind = self._sock.family, self._sock.type
            self._sock = waiting_socket(*kind, fileno=self._sock.detach())
        return self._sock

    def recv(self, size: int) -> bytes:
        if self._early is not None:
            early, self._early = self._early[:size], self._early[size:] or None
            self._left -= len(early)
            return early
        if not self.is_here and not self.given_up:
            self._worker.wait_for(self)
        try:
            data: bytes = self.whole.recv(size)
        except OSError:
            if self.given_up:
                return b""
            raise
        self._left -= len(data)
        if self._left < 0:
            raise PayloadTooLarge()
        return data

    def is_ready(self) -> bool:
        """Whether something has come that nobody has read yet."""
        poll = _poll()
        poll.register(self._sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def give_up(self) -> None:
        """Wait no longer, and give its file back."""
        self.stop_watching()
        refuse(self._sock, RequestTimeout())
        self.given_up = True
        self.close()

    def stop_watching(self) -> None:
        if self.watcher is not None:
            self.watcher.close()
            self.watcher = None

    def hand_over(self) -> socket.socket:
        """Return the socket, which does not block, and is the caller's from now on."""
        sock: Any = self._sock
        self._sock = _CLOSED
        if isinstance(sock, waiting_socket):
            sock = _plain_socket(sock.family, sock.type, sock.proto, sock.detach())
            sock.setblocking(False)
        return cast(socket.socket, sock)

    def close(self) -> None:
        self._sock.close()

    def setblocking(self, blocks: bool) -> None:
        """Leave it as it is: who waits for it has one of gevent's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)


class _Listener:
    """A socket that clients connect to, whose name need not be asked for each time, and can still
    be said once it is closed."""

    def __init__(self, descriptor: int) -> None:
        self.sock: Any = _plain_socket(fileno=descriptor)
        self.sock.setblocking(False)
        self._name = self.sock.getsockname()
        self._kind = self.sock.family, self.sock.type, self.sock.proto

    def accept(self) -> tuple[socket.socket, object]:
        fd, addr = self.sock._accept()  # as accept() makes one of gevent's
        sock = _plain_socket(*self._kind, fd)
        sock.setblocking(False)
        return sock, addr

    def getsockname(self) -> object:
        return self._name


class Worker(GeventWorker):  # type: ignore[misc]
    """Waits for requests, but not for ever, and not for too many at a time."""

    def run(self) -> None:
        settle(self.cfg)
        self._live = live_of(self)
        # How many clients there are besides the WebSockets
        self._clients = 0
        # Whose requests are on their way
        self._half_open: WaitingRoom[_Arriving] = WaitingRoom()
        # For how long they are waited for
        self._patience = Patience()
        # Greenlets that have nothing to do; the kernel takes longest to give one its memory
        self._idle: list[greenlet] = []
        self._hub = gevent.get_hub()
        listeners = [_Listener(each.detach()) for each in self.sockets]
        doors: list[Watcher] = []
        for listener in listeners:
            door: Watcher = self._hub.loop.io(listener.sock.fileno(), READABLE)
            door.start(partial(self._answer, listener, door))
            doors.append(door)
        while self.alive:
            self._rest()
        for door in doors:
            door.close()
        for listener in listeners:
            listener.sock.close()
        self._end()

    def _end(self) -> None:
        """Give requests one more second to arrive, and answers their time."""
        end = time.monotonic() + self.cfg.graceful_timeout
        for client in self._half_open:
            client.deadline = min(client.deadline, self._patience.now() + LOOK_SECONDS)
        while self._clients and time.monotonic() < end:
            self._rest()

    def _rest(self) -> None:
        self.notify()
        gevent.sleep(LOOK_SECONDS)
        self._hub.loop.run_callback(self._look_after_all)

    def _look_after_all(self) -> None:
        now = self._patience.look()
        for client in self._half_open:
            if client.deadline <= now:
                self._end_waiting(client)

    # All of the following but handle… runs on the loop itself

    def _answer(self, listener: _Listener, door: Watcher) -> None:
        try:
            self._accept(listener, door)
        except Exception:  # after which gevent would never call again
            self.log.exception("unexpected error; going on")

    def _accept(self, listener: _Listener, door: Watcher) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, addr = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # there is no file left
                if len(self._half_open):
                    self._end_waiting(self._half_open.first_to_go())
                door.stop()
                gevent.spawn_later(PAUSE_SECONDS, self._open_again, listener, door)
                return
            client = _Arriving(self, sock, listener, addr)
            client.deadline = self._patience.now() + ARRIVAL_SECONDS
            self._clients += 1
            counters.add("connections")
            counters.add("openConnections")
            if client.take_in():
                self._begin(client)
            else:
                self._half_open.add(client, addr, SILENT_BYTES)
                client.watcher = self._hub.loop.io(sock.fileno(), READABLE)
                client.watcher.start(partial(self._has_sent, client))
            if self._half_open:
                self._make_room()

    def _open_again(self, listener: _Listener, door: Watcher) -> None:
        if self.alive:
            door.start(partial(self._answer, listener, door))

    def _has_sent(self, client: _Arriving) -> None:
        if client.take_in():
            self._begin(client)
            self._make_room()

    def _begin(self, client: _Arriving) -> None:
        """Handle the request that has begun to come in."""
        self._half_open.discard(client)
        client.stop_watching()
        turn = self._idle.pop() if self._idle else greenlet(self._handle_each, self._hub)
        turn.switch(client)

    def wait_for(self, client: _Arriving) -> None:
        """Take note that there is more of a request to come."""
        self._half_open.discard(client)
        self._half_open.add(client, client.addr, BEGUN_BYTES)

    def _make_room(self) -> None:
        others = len(self._live.connections) + self._clients - len(self._half_open)
        room = max(MIN_HALF_OPEN, self._live.room - others)
        for _ in range(AT_ONCE):
            if len(self._half_open) <= room and self._half_open.size <= MAX_HELD_BYTES:
                break
            self._end_waiting(self._half_open.first_to_go())

    def _end_waiting(self, client: _Arriving) -> None:
        """Say so to ``client`` and hang up, unless it has sent something that was not looked at: it
        may be this worker that was late."""
        if client.watcher is not None and client.take_in():
            self._begin(client)
        elif client.watcher is None and client.is_ready():
            self.wait_for(client)  # behind all others; its greenlet has its turn first
        else:
            client.give_up()
            self._has_gone(client)  # though its greenlet may have its turn later

    def _has_gone(self, client: _Arriving) -> None:
        self._half_open.discard(client)
        self._clients -= 1
        counters.add("openConnections", -1)

    def _handle_each(self, client: _Arriving) -> None:
        while True:
            try:
                self.handle(client.listener, client, client.addr)
            except Exception:
                self.log.exception("unexpected error")
            if not client.given_up:
                self._has_gone(client)
            if len(self._idle) >= AT_ONCE:
                break
            self._idle.append(getcurrent())
            client = cast(_Arriving, self._hub.switch())

    def timeout_ctx(self) -> AbstractContextManager[None]:
        return nullcontext()  # all clients are looked after together

    def handle_request(self, listener_name: Any, req: Any, sock: _Arriving, addr: Any) -> None:
        self._half_open.discard(sock)
        sock.is_here = True
        req.force_close()  # what is no WebSocket is asked once
        super().handle_request(listener_name, req, sock, addr)
        raise StopIteration  # and no more is asked of a socket that was given to the sidecar

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer with an error, ours or gunicorn's."""
        if isinstance(exc, ApiError):
            refuse(client, exc)
        else:
            super().handle_error(req, client, addr, exc)
        # Who still sends would else be reset, and might lose the answer (RFC 9112 section 9.6)
        close_graceful(client.whole, LINGER_SECONDS)
