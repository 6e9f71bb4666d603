"""The WebSockets ``/api/list``, ``/api/admin/session`` and ``/api/admin/server``: the sessions of
the token's login, those of all logins, or the servers, and every change of them."""

from __future__ import annotations

import base64
import binascii
import logging
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

import gevent
from flask import Blueprint, Response, current_app, g, request
from flask_sock import Sock
from gevent.event import Event
from gevent.monkey import get_original
from simple_websocket import Server
from werkzeug.routing import WebsocketMismatch

from fastx_list.api.services import Services, services
from fastx_list.errors import (
    WEBSOCKET_VERSION,
    Forbidden,
    TooManyRequests,
    Unavailable,
    UpgradeRequired,
    ValidationError,
    error_response,
)
from fastx_list.live.bus import Bus, Mailbox
from fastx_list.live.connection import CLOSE_SECONDS, TOKEN_ENDED, Connection
from fastx_list.model.query import LiveQuerySchema
from fastx_list.replica.replica import RETRY_SECONDS, Everything, Replica, Topic
from fastx_list.text import printable
from fastx_list.tokens import Claims
from fastx_list.web.list import parser

FOLLOW_SECONDS = 1.0
TEND_SECONDS = 0.5
FIRST_READ_SECONDS = 5.0  # that handshakes wait for the store to be read for the first time
GOING_AWAY = 1001
EXTENSION = "fastx-list-live"
ADMIN = "/api/admin/"
AT_ONCE = 500  # sessions of a snapshot, before others have their turn
SPARE_FILES = 64

log = logging.getLogger(__name__)
# gevent's own sockets carry two watchers each, and wait.
_plain_socket = get_original("socket", "socket")

blueprint = Blueprint("live", __name__)
_schema = LiveQuerySchema()
sock = Sock()


class Live:
    """The sidecar's connections, and the greenlets that follow the store and tend them."""

    def __init__(self, service: Services) -> None:
        self.bus = Bus()
        self.connections: set[Connection] = set()
        self.of_login: Counter[str] = Counter()
        self._service = service
        self._greenlets: list[gevent.Greenlet[..., None]] = []
        self._first_read = Event()
        self._may_have_missed = False  # whether a change may not have come to those it is for
        # Connections each need a file, and without one to spare the store could not be opened
        # either.
        self.room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES
        service.counts.update(connections=0, slowClientsDropped=0)

    def start(self) -> None:
        """Begin to follow the store, once per process; to be called after the last fork."""
        if not self._greenlets:
            self._greenlets = [gevent.spawn(_for_ever, step) for step in (self._follow, self._tend)]

    def await_first_read(self) -> None:
        """Give the store a moment to be read if it never was: after a restart all come at once, and
        none is better sent away."""
        if not self._service.replica.loaded:
            self._first_read.wait(FIRST_READ_SECONDS)

    def connect(
        self, sock: socket.socket, claims: Claims, mailbox: Mailbox, topic: Topic
    ) -> Connection:
        """Make a subscriber of ``topic`` on ``sock``."""
        connection = Connection(
            sock, claims, mailbox, topic, gevent.get_hub().loop, self._disconnect
        )
        self.connections.add(connection)
        self.of_login[claims.login] += 1
        self.bus.subscribe(topic, connection)
        self._service.counts["connections"] = len(self.connections)
        return connection

    def _disconnect(self, connection: Connection) -> None:
        login = connection.claims.login
        self.bus.unsubscribe(connection.topic, connection)
        self.connections.discard(connection)
        self.of_login[login] -= 1
        if not self.of_login[login]:
            del self.of_login[login]
        self._service.counts["connections"] = len(self.connections)

    def close_all(self) -> None:
        """Tell every client that the server goes away, and wait until they have taken it, or for as
        long as a close may take."""
        deadline = time.monotonic() + CLOSE_SECONDS
        while self.connections and time.monotonic() < deadline:
            self._close_each("the server restarts; connect again")
            gevent.sleep(0.01)

    def _follow(self) -> None:
        replica: Replica = self._service.replica
        try:
            changes = replica.follow(FOLLOW_SECONDS)
            if replica.loaded:
                self._first_read.set()
            self.bus.publish(changes)
        except Exception as error:
            self._may_have_missed = True
            replica.problem = f"what was written cannot be followed: {error!r}"  # until it can
            raise
        if replica.problem:
            gevent.sleep(RETRY_SECONDS)
        elif self._may_have_missed:
            self._may_have_missed = False
            self._close_each("the server may have missed a change; connect again")

    def _close_each(self, reason: str) -> None:
        for connection in list(self.connections):
            connection.close(GOING_AWAY, reason)

    def _tend(self) -> None:
        settings = self._service.settings
        gevent.sleep(TEND_SECONDS)
        revoked = self._service.replica.revoked
        now, wall = time.monotonic(), time.time()
        for connection in list(self.connections):
            if connection.claims.jti in revoked:
                connection.close(TOKEN_ENDED, "the token has been revoked")
            elif connection.claims.expires <= wall:
                connection.close(TOKEN_ENDED, "the token has expired")
            if connection.tend(now, settings.ping_interval, settings.slow_client_timeout):
                self._service.counts["slowClientsDropped"] += 1
                login = printable(connection.claims.login)
                log.warning(
                    "dropped a connection of %s: it had read nothing for %g s",
                    login,
                    settings.slow_client_timeout,
                )


def _for_ever(step: Callable[[], None]) -> None:
    """Take ``step`` again and again, whatever comes of it: nobody would be told of anything any
    more without it."""
    while True:
        try:
            step()
        except Exception:
            log.exception("unexpected error; going on in %g s", RETRY_SECONDS)
            gevent.sleep(RETRY_SECONDS)


class _NoThread:
    """In place of simple_websocket's reader thread: :class:`Connection` reads what the loop tells
    it of."""

    name = ""

    def __init__(self, target: Callable[[], None]) -> None:
        pass

    def start(self) -> None:
        pass


SOCK_SERVER_OPTIONS = {"thread_class": _NoThread}


def live_of_app() -> Live:
    """Return the :class:`Live` of the application that serves this request."""
    live: Live = current_app.extensions[EXTENSION]
    return live


@blueprint.before_request
def admit() -> None:
    """Decide, while the answer can still be an HTTP error, whether this request becomes a
    WebSocket."""
    service, live = services(), live_of_app()
    live.start()
    _check_handshake()
    _check_origin(service.settings.allowed_origins)
    live.await_first_read()
    service.refresh()
    g.claims = (
        service.authenticate_admin(None)
        if request.path.startswith(ADMIN)
        else service.authenticate(None)
    )
    asked = parser.parse(_schema, request, location="anywhere")
    g.filters, g.snapshot = asked["filter"], asked["snapshot"]
    cap = service.settings.max_subscribers_per_login
    if live.of_login[g.claims.login] >= cap:
        raise TooManyRequests(f"your login has {cap} connections already; close one first")
    if len(live.connections) >= live.room:
        raise Unavailable(
            "this sidecar has as many connections as it may have open files; try again soon"
        )
    # Compression is not negotiated: a frame is shared by all it goes to, and a compressor costs
    # each connection 100 KiB.
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)


@sock.route("/api/list", bp=blueprint)
def follow(ws: Server) -> None:
    """Send the sessions of the token's login, then every change of them."""
    _serve(ws, g.claims.login)


@sock.route(f"{ADMIN}session", bp=blueprint)
def follow_sessions(ws: Server) -> None:
    """The same for the sessions of all logins."""
    _serve(ws, Everything.SESSIONS)


@sock.route(f"{ADMIN}server", bp=blueprint)
def follow_servers(ws: Server) -> None:
    """The same for the servers."""
    _serve(ws, Everything.SERVERS)


def _serve(ws: Server, topic: Topic) -> None:
    """Send what there is (unless ``snapshot=0``), and leave the rest to the loop.

    The socket is taken away from the request, which ends here with all that it took: a connection
    needs none of it.
    """
    live, replica = live_of_app(), services().replica
    # From here on the connection is ours: simple_websocket has nothing more to send on it
    ws.connected = False
    sock = _plain_socket(fileno=ws.sock.detach())
    sock.setblocking(False)
    # Subscribed before the snapshot is read, so that nothing falls between.
    connection = live.connect(sock, g.claims, Mailbox(g.filters), topic)
    ids = list(replica.entries(topic))
    for start in range(0, len(ids), AT_ONCE):
        entries = replica.entries(topic)
        present = (entries[name] for name in ids[start : start + AT_ONCE] if name in entries)
        connection.mailbox.fill(present, send=g.snapshot)
        connection.flush()
        if len(ids) > AT_ONCE:
            gevent.sleep(0)  # an administrator's snapshot must not keep everybody else waiting


def plain_request(error: WebsocketMismatch) -> Response:
    """Answer a request without an upgrade, which is at the wrong door."""
    return error_response(
        400,
        "ValidationError",
        "this address takes WebSockets only; the list over HTTP is on another port",
    )


def gone(error: ConnectionError) -> Response:
    """Give up on a client that left before its handshake was answered, as one does that waited too
    long; nobody reads this."""
    return Response(status=400)


def _check_handshake() -> None:
    if request.headers.get("Sec-WebSocket-Version") != WEBSOCKET_VERSION:
        raise UpgradeRequired(f"Sec-WebSocket-Version: takes {WEBSOCKET_VERSION}")
    try:
        key = base64.b64decode(request.headers.get("Sec-WebSocket-Key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 16:  # RFC 6455 section 4.2.1
        raise ValidationError("Sec-WebSocket-Key: takes 16 bytes in base64")


def _check_origin(allowed: Collection[str]) -> None:
    """Refuse pages of other hosts: RFC 6455 section 10.2. What is no browser sends no Origin."""
    origin = request.headers.get("Origin")
    if origin is None or origin in allowed:
        return
    host = _host_name(origin)
    if host is None or host != _host_name(f"//{request.host}"):
        raise Forbidden(
            "Origin: pages of this origin may not connect; FASTX_LIST_ALLOWED_ORIGINS can allow it"
        )


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # such as of http://[
        return None
