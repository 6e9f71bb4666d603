"""The list's worker: gunicorn's sync worker, but no client can keep it waiting.

A request computes for well under a millisecond, so one after the other is the quickest way to
answer them. What takes long is the network. So gunicorn's own code handles each connection in a
greenlet, and where it would wait for the client, others have their turn instead.

A proxy may ask again over the same connection. Of that the worker has no more than the socket while
nothing comes; whatever there is of a request ends with its answer.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import socket
import time
from collections import deque
from contextlib import suppress
from math import inf
from select import EPOLLEXCLUSIVE, EPOLLIN, EPOLLONESHOT, POLLIN, epoll, poll
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from greenlet import getcurrent, greenlet
from gunicorn.workers.sync import SyncWorker

from fastx_list.api.arrival import MAX_HELD_BYTES, Patience, WaitingRoom
from fastx_list.api.counters import counters
from fastx_list.api.services import EXTENSION, Services
from fastx_list.api.serving import refuse, settle
from fastx_list.endpoint import peer_uid
from fastx_list.errors import ApiError, RequestTimeout
from fastx_list.replica.many import kept_at_once
from fastx_list.values import UNIX
from fastx_list.web.client import Client
from fastx_list.web.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SPARE_FILES = 64  # that are no connections
STOP_SECONDS = 1.0  # for requests that are on their way when the worker has to end
TURN_SECONDS = 0.5  # at the latest it is seen who is too late, and whether to go on
AT_ONCE = 16  # new clients, or of those that were waited for, before others have their turn


class Idle(NamedTuple):
    """A connection on which nothing is asked now."""

    listener: Any
    sock: socket.socket
    peer: object  # what accept said of it


class Name(NamedTuple):
    """A listener, as far as it is asked what it is called."""

    name: object

    def getsockname(self) -> object:
        return self.name


# Whose request it is, as gunicorn is told: the listener, the client, and what accept said of it
Came: TypeAlias = "tuple[Any, Client, object]"


class Worker(SyncWorker):  # type: ignore[misc]
    """Handles each connection in a greenlet, and those that wait when their socket is ready."""

    def run(self) -> None:
        """Serve until the worker has to end, and then who is here already, but not for long."""
        settle(self.cfg)
        # Whom requests are for
        self._application: Any = self.wsgi
        self.wsgi: Any = self._ask
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # How many clients may be waited for
        self._max_waiting = max(1, files - SPARE_FILES - AT_ONCE)
        # For how long clients are waited for
        self.patience = Patience()
        # Who is waited for, and in which greenlet each of them is handled, by its descriptor
        self._waiting: WaitingRoom[Client] = WaitingRoom()
        self._greenlets: dict[int, greenlet] = {}
        # Those that have more to work out; the one whose turn it is comes first
        self._working: deque[greenlet] = deque()
        # Those that have nothing to do: to make one costs a request more than its answer
        self._idle: list[Turn] = []
        # What tells whose socket is ready; a greenlet that waits goes on with the hub
        self._epoll = epoll()
        # The connections that are kept, by descriptor, the longest idle first
        self._kept: dict[int, Idle] = {}
        self._hub = getcurrent()
        # When it was last seen who is ready
        self._polled = time.monotonic()
        # When it was last seen who is too late
        self._looked = time.monotonic()
        # Whether there is more to read of the store than was read at a time
        self._is_behind = False
        self._listeners = {listener.fileno(): listener for listener in self.sockets}
        # The one of them that is for users of this machine, and those that are for proxies
        service = self._service()
        local = None if service is None else str(service.settings.local_socket)
        # Their names as gunicorn asks for them, for each request
        self._names = {each: Name(each.getsockname()) for each in self.sockets}
        self._local = next((each for each, its in self._names.items() if its.name == local), None)
        self._of_proxies: set[Any] = set()
        if service is not None and UNIX in service.settings.trusted_proxies:
            unix = {each for each in self.sockets if each.sock.family == socket.AF_UNIX}
            self._of_proxies = unix - {self._local}
        with kept_at_once():
            self._read_store()
        gc.freeze()  # what stays for long, so that Python's collector need not walk over it
        # Who waits at these, whoever was woken for them
        self._doors = poll()
        for fd, listener in self._listeners.items():
            listener.setblocking(False)
            self._epoll.register(fd, EPOLLIN | EPOLLEXCLUSIVE)
            self._doors.register(fd, POLLIN)
        self._epoll.register(self.PIPE[0], EPOLLIN)
        while self.alive and self.is_parent_alive():
            self._serve()
        for fd in self._listeners:
            self._epoll.unregister(fd)
            self._doors.unregister(fd)
        self._stop()

    def _stop(self) -> None:
        self.alive = False  # also where only the master has ended: nobody stays
        self._let_go()
        now = self.patience.now()
        for client in self._waiting:
            if client.arriving:
                client.deadline = min(client.deadline, now + STOP_SECONDS)
        end = time.monotonic() + self.cfg.graceful_timeout - STOP_SECONDS
        while (self._waiting or self._working) and time.monotonic() < end:
            self._serve()
            self._let_go()  # also those whose answers had begun before

    def _let_go(self) -> None:
        for fd in list(self._kept):
            self._begin(self._take_up(fd, is_last=True))

    def _serve(self) -> None:
        is_busy = self._working or self._is_behind
        ready = self._epoll.poll(0 if is_busy else TURN_SECONDS, AT_ONCE)
        self._polled = time.monotonic()
        came: list[Came] = []
        for fd, _ in ready:
            if fd in self._kept:
                came += self._take_up(fd)
            elif fd in self._listeners:
                came += self._accept(self._listeners[fd])
            elif fd == self.PIPE[0]:
                os.read(fd, 4096)  # a signal has come
            else:
                self._go_on(fd)
        self._begin(came)
        if self._working:
            self._working.popleft().switch()
        if self._is_behind:
            self._read_store()
        now = time.monotonic()
        if now - self._looked >= TURN_SECONDS:
            self._looked = now
            self.notify()
            self._read_store()
            # The kernel wakes one worker for a connection, which may have been stopped just then
            for fd, _ in self._doors.poll(0):
                self._begin(self._accept(self._listeners[fd]))
            self._end_waiting(self.patience.look())

    def _go_on(self, fd: int) -> None:
        if fd in self._greenlets:  # else it was given up a moment ago
            self._greenlets[fd].switch()

    def _end_waiting(self, now: float) -> None:
        if any(client.deadline <= now for client in self._waiting):
            self._see_who_is_ready()
            for client in self._waiting:
                if client.deadline <= now:
                    self._give_up(client)

    def _see_who_is_ready(self) -> None:
        """Go on with all of them, before anybody is said to have sent nothing, or to read nothing:
        it may be this worker that was late."""
        ready = self._epoll.poll(0, len(self._waiting) + len(self._kept) + SPARE_FILES)
        self._polled = time.monotonic()
        for fd, _ in ready:
            self._go_on(fd)

    def _make_room(self) -> list[Came]:
        """Let one connection go; return who has asked on it meanwhile, if it was kept."""
        if self._kept and self._waiting.size <= MAX_HELD_BYTES:  # it holds none of these
            return self._take_up(next(iter(self._kept)), is_last=True)
        self._see_who_is_ready()
        if self._waiting:
            self._give_up(self._waiting.first_to_go())
        return []

    def _read_store(self) -> None:
        """Keep the copy of the store up to date, also while nobody asks: a worker that had none
        when the store went away could not answer, and one that had an old one would not know what
        a store that has lost data is waiting for."""
        service = self._service()
        if service is not None:
            with suppress(Exception):  # the next request meets it again, and says it
                service.refresh()
            self._is_behind = service.replica.is_behind and service.replica.pause <= 0

    def _service(self) -> Services | None:
        found: Services | None = getattr(self._application, "extensions", {}).get(EXTENSION)
        return found

    def _accept(self, listener: Any) -> list[Came]:
        came, again = list[Came](), list[Came]()
        while self.alive and len(came) < AT_ONCE:
            try:
                sock, peer = listener.accept()
            except OSError as error:
                if error.errno == errno.ECONNABORTED:
                    continue
                if error.errno != errno.EAGAIN:
                    again = self._make_room()  # there is no file left
                break
            came.append((listener, self._client(listener, sock, peer), peer))
        counters.add("connections", len(came))
        counters.add("openConnections", len(came))
        for _, client, _ in came:
            client.take_in()
        return came + again

    def _client(self, listener: Any, sock: socket.socket, peer: object) -> Client:
        client = Client(self, sock, peer)
        if listener is self._local:
            client.local_uid = client.peer = peer_uid(sock)
        client.may_stay = listener in self._of_proxies
        return client

    def _take_up(self, fd: int, is_last: bool = False) -> list[Came]:
        """Return who asks on a connection that was kept, and for the last time if it ``is_last``.
        If nobody does, close it."""
        listener, sock, peer = self._kept.pop(fd)
        client = self._client(listener, sock, peer)
        client.is_watched = True
        client.may_stay = not is_last
        if not client.take_in():
            client.may_stay = False
            # What the proxy has sent by now is there. What it sends later fails at once, so it
            # knows that nobody has seen that, and asks elsewhere: no request gets lost between.
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RD)
            if not client.take_in():
                client.close()
                return []
        return [(listener, client, peer)]

    def _begin(self, came: list[Came]) -> None:
        """Handle requests. What has come of them is read already, so that one look at the store
        will do for all that have begun by now."""
        now, to_begin = time.monotonic(), deque(came)
        while to_begin:
            listener, client, peer = to_begin.popleft()
            turn = self._idle.pop() if self._idle else Turn(self._handle_each, self._let_others)
            turn.began = now if client.has_begun() else inf
            turn.switch(listener, client, peer)
            while self._is_full():
                to_begin += self._make_room()

    def _is_full(self) -> bool:
        held = len(self._waiting) + len(self._kept)
        return held > self._max_waiting or self._waiting.size > MAX_HELD_BYTES

    def _handle_each(self, *connection: Any) -> None:
        self._handle(*connection)
        while len(self._idle) < AT_ONCE:
            self._idle.append(cast(Turn, getcurrent()))
            self._handle(*self._hub.switch())

    def _handle(self, listener: Any, client: Client, peer: Any) -> None:
        self.handle(listener, client, peer)
        if client.stays:
            fd = client.fileno()
            if self._greenlets.pop(fd, None):
                self._epoll.modify(fd, EPOLLIN)
            elif not client.is_watched:
                self._epoll.register(fd, EPOLLIN)
            self._kept[fd] = Idle(listener, client.sock, peer)

    def _let_others(self) -> None:
        self._working.append(getcurrent())
        self._hub.switch()

    def wait_for(self, client: Client, event: int, size: int) -> None:
        """Let others be served until ``client`` is ready for ``event``; it holds up to ``size``
        bytes meanwhile. Raises what ends it if it is too late, or others need the room."""
        fd, turn = client.fileno(), cast(Turn, getcurrent())
        watch = self._epoll.modify if client.is_watched else self._epoll.register
        watch(fd, event | EPOLLONESHOT)
        client.is_watched = True
        self._greenlets[fd] = turn
        self._waiting.add(client, client.peer, size)
        try:
            self._hub.switch()
            turn.began = self._polled
        finally:
            self._waiting.discard(client)

    def _give_up(self, client: Client) -> None:
        client.given_up = True
        # Nobody is told of a BrokenPipeError: an answer has begun, and was not read
        late = RequestTimeout() if client.arriving else BrokenPipeError(errno.EPIPE, "not read")
        self._greenlets[client.fileno()].throw(late)

    def forget(self, client: Client) -> None:
        """Wait no more for ``client``, which is about to be closed."""
        self._greenlets.pop(client.fileno(), None)
        counters.add("openConnections", -1)

    def handle_request(self, listener: Any, req: Any, client: Client, addr: Any) -> None:
        client.body = req.body
        super().handle_request(self._names[listener], req, client, addr)
        client.stays = client.is_answered()

    def _ask(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Ask the application. gunicorn has settled that the connection ends with the answer; what
        else holds is known now, before the head is sent."""
        body: Iterable[bytes] = self._application(environ, start_response)
        client: Client = environ["gunicorn.socket"]
        if client.may_stay and self.alive and environ.get("HTTP_CONNECTION") == "keep-alive":
            response = cast(Any, start_response).__self__
            response.must_close = not client.may_answer(response)
        return body

    def handle_error(self, req: Any, client: Client, addr: Any, exc: BaseException) -> None:
        """Answer with an error, ours or gunicorn's."""
        if isinstance(exc, ApiError):
            refuse(client, exc)
        else:
            super().handle_error(req, client, addr, exc)
