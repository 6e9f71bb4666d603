"""Accepts the usual handshake before Flask, which would take a third of the time: after a restart
all clients come back at once."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter
from typing import TYPE_CHECKING

from fastx_list.api.addresses import IN_PATH, LISTINGS
from fastx_list.api.counters import BEGAN, counters
from fastx_list.api.request import pairs_of
from fastx_list.api.services import Services
from fastx_list.live.handshake import check, decide, take_over
from fastx_list.live.sidecar import Live

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_UPGRADES = ("upgrade", "keep-alive, upgrade")  # as browsers and libraries send it


def short_cut(application: WSGIApplication, service: Services, live: Live) -> WSGIApplication:
    """Accept a handshake with a known token in the address; all else goes on to ``application``:
    other requests, and those that are to be refused. Both decide alike."""
    routes = {rule: counters.route(rule) for each in LISTINGS for rule in (each, each + IN_PATH)}

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        began = environ[BEGAN] = perf_counter()
        path = environ["PATH_INFO"]
        address, _, token = (path, "", "") if path in LISTINGS else path.rpartition("/")
        listing = LISTINGS.get(address)
        if (
            listing is None
            or environ["REQUEST_METHOD"] != "GET"
            or environ.get("HTTP_UPGRADE", "").lower() != "websocket"
            or environ.get("HTTP_CONNECTION", "").lower() not in _UPGRADES
            or "HTTP_AUTHORIZATION" in environ  # whose token would count before one in the query
            or "HTTP_X_FASTX_TOKEN" in environ
            or not live.has_read
        ):
            return application(environ, start_response)
        try:
            # PEP 3333: bytes as latin-1
            pairs = pairs_of(environ.get("QUERY_STRING", "").encode("latin-1"))
            if path == address:
                token = next((value for name, value in pairs if name == "token" and value), "")
            if not service.tokens.knows(token):
                return application(environ, start_response)
            check(environ, service.settings.allowed_origins)
            claims = service.tokens.verify(token, service.replica.revoked)
            if listing.admin and not claims.admin:
                return application(environ, start_response)
            admitted = decide(service, live, environ, listing, claims, pairs)
        # Whatever it is, the application meets it again and says it in its own form
        except Exception:
            return application(environ, start_response)
        route = routes[address if path == address else address + IN_PATH]
        counters.request(route, 101, perf_counter() - began)
        take_over(live, environ["gunicorn.socket"], environ, admitted)

    return serve
