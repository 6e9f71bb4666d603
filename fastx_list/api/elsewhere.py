"""Where the other process is, for whoever asks the wrong one: the list takes no WebSockets, and the
sidecar nothing else."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Response, request
from flask.globals import request_ctx
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from fastx_list.api.addresses import LISTINGS, SESSIONS
from fastx_list.api.error_response import error_response, http_error
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


def is_live(error: HTTPException) -> Response:
    """Answer a WebSocket's handshake with the list."""
    if not _is_handshake():
        return http_error(error)
    there = _address("ws", services().settings.live_port)
    what = f"this address takes no WebSockets; the sidecar does, {there}"
    return _with_methods(error_response(error.code or 400, what), error)


def is_list(error: HTTPException) -> Response:
    """Answer with the sidecar what finds nothing there."""
    status = error.code or 400
    if _is_handshake():
        wrong = "this address takes no WebSockets" if status == 400 else _WRONG[status]
        what = f"{wrong}; a WebSocket is a GET of {_listing()}?token=…"
    else:
        there = _address("http", services().settings.list_port)
        what = f"{_WRONG[status]}; the list over HTTP is another process, {there}"
    return _with_methods(error_response(status, what), error)


def _is_handshake() -> bool:
    adapter = request_ctx.url_adapter
    return adapter is not None and adapter.websocket


def _with_methods(response: Response, error: HTTPException) -> Response:
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(error.valid_methods or ())
    return response


def _address(scheme: str, port: int | None) -> str:
    """Return where what was asked for is at the other ``port`` of this host, in words."""
    host = host_of_request()
    if not port or not host:
        return "at a port of its own"
    scheme += "s" if request.is_secure else ""
    return f"at {scheme}://{host}:{port}{_listing()}"


def _listing() -> str:
    """Return the address of a list that was asked for, or nearly. What follows it, which may be a
    token, is not repeated."""
    under = (each for each in LISTINGS if f"{request.path}/".startswith(f"{each}/"))
    return next(under, SESSIONS.address)
