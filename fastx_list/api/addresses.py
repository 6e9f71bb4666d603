"""The addresses of the API, in one table: routes, the short cut, WebSockets and documents follow
from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from flask import Blueprint, Response, request
from flask.typing import RouteCallable

from fastx_list.replica.topics import Everything, Topic
from fastx_list.tokens import Claims

Route = TypeVar("Route", bound=RouteCallable)


class Listing(NamedTuple):
    """What one address lists over HTTP, and sends every change of over a WebSocket."""

    address: str
    name: str  # of the operations there, in the documents
    what: str  # is listed, in words
    item: str  # the name of the schema of one of them
    everything: Everything | None  # for administrators only; None: the sessions of a login

    @property
    def admin(self) -> bool:
        """Whether it takes a token with the ``admin`` claim."""
        return self.everything is not None

    @property
    def refusals(self) -> tuple[int, ...]:
        """The statuses of the errors that not every address has."""
        return (403,) if self.admin else ()

    def topic(self, claims: Claims) -> Topic:
        """Return what a token with these ``claims`` opens here."""
        return self.everything or claims.login


SESSIONS = Listing("/api/list", "Sessions", "the sessions of the token's login", "Session", None)
ALL_SESSIONS = Listing(
    "/api/admin/session",
    "AllSessions",
    "the sessions of all logins",
    "Session",
    Everything.SESSIONS,
)
SERVERS = Listing("/api/admin/server", "Servers", "the servers", "Server", Everything.SERVERS)
LISTINGS = {listing.address: listing for listing in (SESSIONS, ALL_SESSIONS, SERVERS)}

PARAMS = "/api/params"
HISTORY = "/api/history"
ALL_HISTORY = "/api/admin/history"
EVENTS = "/api/events"
ALL_EVENTS = "/api/admin/events"
IN_PATH = "/<token>"  # behind each of these addresses

HEALTH = "/health"
READY = "/ready"
METRICS = "/metrics"
OPENAPI = "/api/openapi.json"
ASYNCAPI = "/api/asyncapi.json"


def with_token(blueprint: Blueprint, address: str, *methods: str) -> Callable[[Route], Route]:
    """Let a function answer at ``address`` and below it, where the token follows. It gets the
    ``token`` of the path, or ``None``."""

    def decorate(function: Route) -> Route:
        blueprint.route(address + IN_PATH, methods=methods)(function)
        return blueprint.route(address, methods=methods, defaults={"token": None})(function)

    return decorate


def bare_options(response: Response) -> Response:
    """Let the answer to ``OPTIONS`` name the methods of an address and be nothing else, where Flask
    makes it an empty page."""
    if request.method == "OPTIONS" and response.status_code == 200:
        response.headers.pop("Content-Type", None)
    return response
