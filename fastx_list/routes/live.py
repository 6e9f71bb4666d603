"""The WebSockets ``/api/list?token=…`` and ``/api/admin/session?token=…``: the sessions of the token's login, or of all, and every
change of them."""

from __future__ import annotations

import base64
import binascii
import time
from collections import Counter
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

import gevent
from flask import Blueprint, Response, current_app, g, request
from flask_sock import Sock
from simple_websocket import Server
from werkzeug.routing import WebsocketMismatch

from fastx_list.bus import Bus, Mailbox
from fastx_list.connection import TOKEN_ENDED, Connection
from fastx_list.errors import Forbidden, TooManyRequests, Unavailable, ValidationError, error_response
from fastx_list.query import LiveQuerySchema
from fastx_list.replica import RETRY_SECONDS, Replica
from fastx_list.routes.list import parser
from fastx_list.services import Services, services

FOLLOW_SECONDS = 1.0
TEND_SECONDS = 0.5
GOING_AWAY = 1001
EXTENSION = "fastx-list-live"
ADMIN_PATH = "/api/admin/session"

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

    def start(self) -> None:
        """Begin to follow the store, once per process; to be called after the last fork."""
        if not self._greenlets:
            self._greenlets = [gevent.spawn(self._follow), gevent.spawn(self._tend)]

    def close_all(self) -> None:
        """Tell every client that the server goes away."""
        for connection in list(self.connections):
            connection.close(GOING_AWAY, "the server restarts; connect again", time.monotonic())

    def _follow(self) -> None:
        replica: Replica = self._service.replica
        while True:
            self.bus.publish(replica.follow(FOLLOW_SECONDS))
            if replica.problem:
                gevent.sleep(RETRY_SECONDS)

    def _tend(self) -> None:
        interval = self._service.settings.ping_interval
        while True:
            gevent.sleep(TEND_SECONDS)
            revoked = self._service.replica.revoked
            now, wall = time.monotonic(), time.time()
            for connection in list(self.connections):
                if connection.claims.jti in revoked:
                    connection.close(TOKEN_ENDED, "the token has been revoked", now)
                elif connection.claims.expires <= wall:
                    connection.close(TOKEN_ENDED, "the token has expired", now)
                connection.tend(now, interval)


class _NoThread:
    """In place of simple_websocket's reader thread: :class:`Connection` reads in the request's own greenlet."""

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
    """Decide, while the answer can still be an HTTP error, whether this request becomes a WebSocket."""
    service, live = services(), live_of_app()
    live.start()
    _check_handshake()
    _check_origin(service.settings.allowed_origins)
    if not service.replica.loaded:
        raise Unavailable("the list cannot be read yet; try again soon")
    g.claims = service.authenticate_admin(None) if request.path == ADMIN_PATH else service.authenticate(None)
    asked = parser.parse(_schema, request, location="anywhere")
    g.filters, g.snapshot = asked["filter"], asked["snapshot"]
    cap = service.settings.max_subscribers_per_login
    if live.of_login[g.claims.login] >= cap:
        raise TooManyRequests(f"your login has {cap} connections already; close one first")
    # Compression is not negotiated: a frame is shared by all it goes to, and a compressor costs each connection 100 KiB.
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)


@sock.route("/api/list", bp=blueprint)
def follow(ws: Server) -> None:
    """Send the sessions of the token's login, then every change of them."""
    _serve(ws, g.claims.login)


@sock.route(ADMIN_PATH, bp=blueprint)
def follow_all(ws: Server) -> None:
    """The same for the sessions of all logins."""
    _serve(ws, None)


def _serve(ws: Server, login: str | None) -> None:
    """Send the sessions there are (unless ``snapshot=0``), then every change, until either side ends it."""
    live, claims = live_of_app(), g.claims
    ws.connected = False  # from here on the connection is ours: simple_websocket has nothing more to send on it
    writable = gevent.get_hub().loop.io(ws.sock.fileno(), 2)
    connection = Connection(ws.sock, claims, Mailbox(g.filters), writable, time.monotonic())
    live.connections.add(connection)
    live.of_login[claims.login] += 1
    live.bus.subscribe(login, connection)  # before the snapshot is read, so that nothing falls between
    try:
        connection.mailbox.fill(services().replica.entries(login), send=g.snapshot)
        connection.flush()
        connection.read(time.monotonic)
    finally:
        live.bus.unsubscribe(login, connection)
        live.of_login[claims.login] -= 1
        if not live.of_login[claims.login]:
            del live.of_login[claims.login]
        live.connections.discard(connection)
        connection.drop()
        writable.close()


def plain_request(error: WebsocketMismatch) -> Response:
    """Answer a request without an upgrade, which is at the wrong door."""
    return error_response(400, "ValidationError", "this address takes WebSockets only; the list over HTTP is on another port")


def _check_handshake() -> None:
    if request.headers.get("Sec-WebSocket-Version") != "13":
        raise ValidationError("Sec-WebSocket-Version: takes 13")
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
    host = urlsplit(f"//{request.host}").hostname
    if urlsplit(origin).hostname != host:
        raise Forbidden("Origin: pages of this origin may not connect; FASTX_LIST_ALLOWED_ORIGINS can allow it")
