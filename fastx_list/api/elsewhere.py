"""Where the other process is, for whoever asks the wrong one: the list takes no WebSockets, and the
sidecar nothing else."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import WebsocketMismatch

from fastx_list.api.addresses import LISTINGS, SESSIONS
from fastx_list.api.error_response import error_response
from fastx_list.api.services import services

_WRONG = {
    400: "this address takes WebSockets only",
    404: "there is nothing at this address",
    405: "this address does not take that method",
}


def host_of_request() -> str:
    """Return the host that was asked, without a port, as it stands in a URL; ``""`` if nobody can
    be asked there."""
    try:
        host = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:  # such as of http://[
        host = ""
    return f"[{host}]" if ":" in host else host


def is_live(error: WebsocketMismatch) -> Response:
    """Answer a WebSocket's handshake with the list."""
    there = _address("ws", services().settings.live_port)
    return error_response(400, f"this address takes no WebSockets; the sidecar does, {there}")


def is_list(error: HTTPException) -> Response:
    """Answer what is no WebSocket's handshake with the sidecar, and finds nothing there."""
    status = error.code or 400
    there = _address("http", services().settings.list_port)
    response = error_response(
        status, f"{_WRONG[status]}; the list over HTTP is another process, {there}"
    )
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(error.valid_methods or ())
    return response


def _address(scheme: str, port: int | None) -> str:
    """Return where what was asked for is at the other ``port`` of this host, in words. What follows
    the address, which may be a token, is not repeated."""
    host = host_of_request()
    if not port or not host:
        return "at a port of its own"
    scheme += "s" if request.is_secure else ""
    under = (each for each in LISTINGS if f"{request.path}/".startswith(f"{each}/"))
    return f"at {scheme}://{host}:{port}{next(under, SESSIONS.address)}"
