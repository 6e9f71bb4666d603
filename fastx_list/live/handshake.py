"""Who may connect: what is refused is refused here, while the answer can still be an HTTP error.

Every address of a list is one of a WebSocket, too, which sends the same and then every change.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import flask_sock
from flask import Blueprint, Request, current_app, g
from flask.globals import request_ctx
from gevent.monkey import is_module_patched
from greenlet import GreenletExit
from werkzeug.datastructures import Headers
from wsproto.utilities import generate_accept_token

from fastx_list.api.addresses import IN_PATH, LISTINGS, Listing
from fastx_list.api.authentication import authenticate
from fastx_list.api.counters import count
from fastx_list.api.parameters import parser
from fastx_list.api.protocol import WEBSOCKET_VERSION
from fastx_list.api.services import services
from fastx_list.errors import (
    Forbidden,
    TooManyRequests,
    Unavailable,
    UpgradeRequired,
    ValidationError,
)
from fastx_list.live.bus import Filters
from fastx_list.live.deflate import Deflate, agree
from fastx_list.live.server import NEEDS_GEVENT
from fastx_list.live.sidecar import EXTENSION, Live
from fastx_list.live.start import Asked
from fastx_list.model.query import LiveQuerySchema
from fastx_list.replica.topics import Topic
from fastx_list.tokens import Claims

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

blueprint = Blueprint("live", __name__)
_schema = LiveQuerySchema()
_ASKS_NOTHING = _schema.load({})
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: "
)
sock = flask_sock.Sock()


class _Socket:
    """In place of simple_websocket's server, which would read the request a second time and keep
    a thread, a parser and a buffer: the socket of a request that :func:`admit` has looked at."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.sock = environ["gunicorn.socket"]


flask_sock.Server = _Socket  # which its routes make for each request


class _Admitted(NamedTuple):
    """What is known of a request that becomes a WebSocket."""

    claims: Claims
    filters: Filters
    topic: Topic
    asked: Asked
    deflate: Deflate | None


def live_of_app() -> Live:
    """Return the :class:`Live` of the application that serves this request."""
    live: Live = current_app.extensions[EXTENSION]
    return live


@blueprint.before_request
def admit() -> None:
    """Decide, while the answer can still be an HTTP error, whether this request becomes a
    WebSocket."""
    service, live = services(), live_of_app()
    if not is_module_patched("socket"):
        raise Unavailable(NEEDS_GEVENT)
    live.start()
    request = request_ctx.request  # in itself, as each use of Flask's proxy looks it up once more
    headers = request.headers
    _check_handshake(headers)
    _check_origin(request, service.settings.allowed_origins)
    live.await_first_read()
    service.refresh()
    listing = _listing(request)
    claims = authenticate(service, (request.view_args or {}).get("token"), listing.admin)
    asked = _ASKS_NOTHING
    if request.args.keys() - {"token"}:
        asked = parser.parse(_schema, request, location="anywhere")
    cap = service.settings.max_subscribers_per_login
    if live.of_login(claims.login) >= cap:
        raise TooManyRequests(f"your login has {cap} connections already; close one first")
    if len(live.connections) >= live.room:
        raise Unavailable(
            "this sidecar has as many connections as it may have open files; try again soon"
        )
    g.admitted = _Admitted(
        claims,
        asked["filter"],
        listing.topic(claims),
        Asked(asked["snapshot"], asked["since"], asked["bookmarks"]),
        agree(headers.get("Sec-WebSocket-Extensions", "")),
    )


def follow(ws: _Socket, token: str | None = None) -> None:
    """Give the socket to the sidecar. The request ends here with all that it took: a connection
    needs none of it. :func:`admit` has looked at the ``token`` of the path."""
    request, admitted = request_ctx.request, g.admitted
    count(request, 101)
    live_of_app().serve(ws.sock.detach(), _answer(request, admitted.deflate), *admitted)
    raise GreenletExit  # there is nothing more to answer


for listing in LISTINGS.values():
    sock.route(listing.address, endpoint=listing.name, bp=blueprint)(follow)
    # For who makes the socket's address of the list's
    sock.route(listing.address + IN_PATH, endpoint=f"{listing.name}ByPath", bp=blueprint)(follow)


def _listing(request: Request) -> Listing:
    assert request.url_rule is not None  # else nobody would ask
    return LISTINGS[request.url_rule.rule.removesuffix(IN_PATH)]


def _answer(request: Request, deflate: Deflate | None) -> bytes:
    """Return the answer that accepts the handshake (RFC 6455 section 4.2.2)."""
    answer = _SWITCHING + generate_accept_token(request.headers["Sec-WebSocket-Key"].encode())
    if deflate is not None:
        answer += b"\r\nSec-WebSocket-Extensions: " + deflate.answer.encode()
    return answer + b"\r\n\r\n"


def _check_handshake(headers: Headers) -> None:
    if headers.get("Sec-WebSocket-Version") != WEBSOCKET_VERSION:
        raise UpgradeRequired(f"Sec-WebSocket-Version: takes {WEBSOCKET_VERSION}")
    try:
        key = base64.b64decode(headers.get("Sec-WebSocket-Key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 16:  # RFC 6455 section 4.2.1
        raise ValidationError("Sec-WebSocket-Key: takes 16 bytes in base64")


def _check_origin(request: Request, allowed: Collection[str]) -> None:
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
