"""Makes every error of an application leave in the one form, as an HTTP response."""

from __future__ import annotations

import logging

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from fastx_list.api.protocol import WEBSOCKET_VERSION
from fastx_list.errors import ERRORS, ApiError, AuthError, error_body

log = logging.getLogger(__name__)


def register(app: Flask) -> None:
    """Make every error of ``app`` leave in the one form."""
    app.register_error_handler(ApiError, _api_error)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, _unexpected)


def error_response(status: int, message: str) -> Response:
    """Return the response to what failed with this HTTP ``status``."""
    response = Response(error_body(status, message), status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    if status == 401:
        # RFC 9110 section 11.6.1: a 401 names a challenge
        response.headers["WWW-Authenticate"] = "Bearer"
    if status == 415:
        # RFC 9110 section 15.5.16: what would have been taken
        response.headers["Accept-Encoding"] = "identity"
    if status == 426:
        # RFC 9110 section 15.5.22 and RFC 6455 section 4.4: to what, and to which version of it
        response.headers.update(
            {
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec-WebSocket-Version": WEBSOCKET_VERSION,
            }
        )
    return response


def _api_error(error: ApiError) -> Response:
    response = error_response(error.status, error.message)
    if isinstance(error, AuthError) and not error.is_guess:
        # For nginx, which limits guesses (docs/deploy/nginx)
        response.headers["X-Token-Guessed"] = "no"
    return response


def http_error(error: HTTPException) -> Response:
    """Return the response to what Flask refuses."""
    status = error.code or 500
    ours = ERRORS[status].message if status in ERRORS else ""
    response = error_response(status, ours or error.description or "")
    if status == 405:
        response.headers["Allow"] = dict(error.get_headers()).get("Allow", "")
    return response


def _unexpected(error: Exception) -> Response:
    log.exception("unexpected error")
    return error_response(500, ERRORS[500].message)
