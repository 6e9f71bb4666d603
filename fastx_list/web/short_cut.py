"""Answers what portals ask all day before Flask, which would take most of the time."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter
from typing import TYPE_CHECKING

from fastx_list.api.addresses import IN_PATH, LISTINGS
from fastx_list.api.counters import BEGAN, counters
from fastx_list.api.parameters import parse_query_string
from fastx_list.api.services import Services
from fastx_list.web.list import answer
from fastx_list.web.turns import request_began

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_STATUS = {200: "200 OK", 304: "304 NOT MODIFIED"}


def short_cut(application: WSGIApplication, service: Services) -> WSGIApplication:
    """Answer a GET of a list with a known token in the path; all else goes on to ``application``:
    other requests, and those that are to be refused. Both answer alike."""

    routes = {address: counters.route(address + IN_PATH) for address in LISTINGS}

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        began = environ[BEGAN] = perf_counter()
        address, _, token = environ["PATH_INFO"].rpartition("/")
        listing = LISTINGS.get(address)
        if (
            listing is None
            or environ["REQUEST_METHOD"] != "GET"
            or "HTTP_UPGRADE" in environ  # which is at the wrong door with a WebSocket
            or "HTTP_ORIGIN" in environ  # which CORS is about
            or environ.get("CONTENT_LENGTH")  # a body, which only a POST may have
            or "HTTP_TRANSFER_ENCODING" in environ
            or not service.tokens.knows(token)
        ):
            return application(environ, start_response)
        try:
            service.refresh(request_began())
            claims = service.tokens.verify(token, service.replica.revoked)
            if listing.admin and not claims.admin:
                return application(environ, start_response)
            # PEP 3333: bytes as latin-1
            query = parse_query_string(environ.get("QUERY_STRING", "").encode("latin-1"))
            condition = environ.get("HTTP_IF_NONE_MATCH")
            body, status, headers = answer(service, listing.topic(claims), query, condition)
        # Whatever it is, the application meets it again and says it in its own form
        except Exception:
            return application(environ, start_response)
        if status != 304:
            headers.append(("Content-Length", str(len(body))))
        counters.request(routes[address], status, perf_counter() - began)
        start_response(_STATUS[status], headers)
        return [body]

    return serve
