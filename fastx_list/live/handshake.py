"""Who may connect: what is refused is refused here, while the answer can still be an HTTP error.

Every address of a list is one of a WebSocket, too, which sends the same and then every change.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast
from urllib.parse import urlsplit

import flask_sock
from flask import Blueprint, Request, current_app, g
from flask.globals import request_ctx
from gevent.monkey import is_module_patched
from greenlet import GreenletExit
from werkzeug.exceptions import MethodNotAllowed
from wsproto.utilities import generate_accept_token

from fastx_list.api.addresses import IN_PATH, LISTINGS, Listing
from fastx_list.api.authentication import authenticate
from fastx_list.api.counters import count
from fastx_list.api.parameters import load_pairs
from fastx_list.api.protocol import WEBSOCKET_VERSION
from fastx_list.api.request import ApiRequest, Pair
from fastx_list.api.revisions import list_tag, step_of
from fastx_list.api.services import Services, services
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
_ASKS_NOTHING: Mapping[str, Any] = _schema.load({})
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


class Admitted(NamedTuple):
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
    check(request.environ, service.settings.allowed_origins)
    live.await_first_read()
    service.refresh()
    listing = _listing(request)
    claims = authenticate(service, (request.view_args or {}).get("token"), listing.admin)
    pairs = cast(ApiRequest, request).query_pairs
    g.admitted = decide(service, live, request.environ, listing, claims, pairs)


def check(environ: WSGIEnvironment, allowed: Collection[str]) -> None:
    """Raise what is wrong with a handshake, or with the page that it comes from, whoever asks."""
    if environ["REQUEST_METHOD"] != "GET":  # RFC 6455 section 4.1
        raise MethodNotAllowed(["GET"])
    # It would be taken for frames
    if environ.get("CONTENT_LENGTH") not in (None, "", "0") or "HTTP_TRANSFER_ENCODING" in environ:
        raise ValidationError("body: a WebSocket's handshake has none")
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION") != WEBSOCKET_VERSION:
        raise UpgradeRequired(f"Sec-WebSocket-Version: takes {WEBSOCKET_VERSION}")
    try:
        key = base64.b64decode(environ.get("HTTP_SEC_WEBSOCKET_KEY", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 16:  # RFC 6455 section 4.2.1
        raise ValidationError("Sec-WebSocket-Key: takes 16 bytes in base64")
    # Pages of other hosts are refused: section 10.2. What is no browser sends no Origin
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and origin not in allowed:
        host = _host_name(origin)
        if host is None or host != _host_name(f"//{_host(environ)}"):
            raise Forbidden(
                "Origin: pages of this origin may not connect; FASTX_LIST_ALLOWED_ORIGINS can"
                " allow it"
            )


def decide(
    service: Services,
    live: Live,
    environ: WSGIEnvironment,
    listing: Listing,
    claims: Claims,
    pairs: Iterable[Pair],
) -> Admitted:
    """Return what becomes of a handshake for ``listing``, if who has these ``claims`` may have one
    more; ``pairs`` are those of its query string."""
    rest = [pair for pair in pairs if pair[0] != "token"]
    asked = load_pairs(_schema, rest) if rest else _ASKS_NOTHING
    cap = service.settings.max_subscribers_per_login
    if live.of_login(claims.login) >= cap:
        raise TooManyRequests(f"your login has {cap} connections already; close one first")
    if len(live.connections) >= live.room:
        raise Unavailable(
            "this sidecar has as many connections as it may have open files; try again soon"
        )
    topic, filters, revision = listing.topic(claims), asked["filter"], asked["since"]
    tag = list_tag(topic, filters, service.settings.hides_ours)
    since = None if revision is None else step_of(revision, tag)
    return Admitted(
        claims,
        filters,
        topic,
        Asked(asked["snapshot"], asked["bookmarks"], revision is not None, since, tag),
        agree(environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", "")),
    )


def follow(ws: _Socket, token: str | None = None) -> None:
    """Give the socket to the sidecar. The request ends here with all that it took: a connection
    needs none of it. :func:`admit` has looked at the ``token`` of the path."""
    request = request_ctx.request
    count(request, 101)
    take_over(live_of_app(), ws.sock, request.environ, g.admitted)


def take_over(live: Live, sock: Any, environ: WSGIEnvironment, admitted: Admitted) -> NoReturn:
    """Answer the handshake on gunicorn's ``sock``, and leave it to the sidecar."""
    answer = _SWITCHING + generate_accept_token(environ["HTTP_SEC_WEBSOCKET_KEY"].encode())
    if admitted.deflate is not None:
        answer += b"\r\nSec-WebSocket-Extensions: " + admitted.deflate.answer.encode()
    live.serve(sock.hand_over(), answer + b"\r\n\r\n", *admitted)
    raise GreenletExit  # there is nothing more to answer


for listing in LISTINGS.values():
    sock.route(listing.address, endpoint=listing.name, bp=blueprint)(follow)
    # For who makes the socket's address of the list's
    sock.route(listing.address + IN_PATH, endpoint=f"{listing.name}ByPath", bp=blueprint)(follow)


def _listing(request: Request) -> Listing:
    assert request.url_rule is not None  # else nobody would ask
    return LISTINGS[request.url_rule.rule.removesuffix(IN_PATH)]


def _host(environ: WSGIEnvironment) -> str:
    """Return what host was asked for, as Flask has it."""
    return Request(environ, populate_request=False, shallow=True).host


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # such as of http://[
        return None
