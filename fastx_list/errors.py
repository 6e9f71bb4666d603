"""The one form of an error: ``{"error": {"name": …, "message": …}}`` with its HTTP status."""

from __future__ import annotations

import json
import logging

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

WEBSOCKET_VERSION = "13"  # RFC 6455

log = logging.getLogger(__name__)


class ApiError(Exception):
    """An error that the caller is told about; ``message`` says what to do differently and never
    holds a token."""

    status = 500
    name = "InternalError"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ValidationError(ApiError):
    status, name = 400, "ValidationError"


class AuthError(ApiError):
    status, name = 401, "AuthError"


class Forbidden(ApiError):
    status, name = 403, "Forbidden"


class NotFound(ApiError):
    status, name = 404, "NotFound"


class UpgradeRequired(ApiError):
    status, name = 426, "UpgradeRequired"


class TooManyRequests(ApiError):
    status, name = 429, "TooManyRequests"


class Unavailable(ApiError):
    status, name = 503, "Unavailable"


_HTTP_ERRORS = {
    404: ("NotFound", "there is nothing at this address; the list is at /api/list/<token>"),
    405: (
        "MethodNotAllowed",
        "this address does not take that method; the Allow header names those it takes",
    ),
    413: ("PayloadTooLarge", "the request body is too long; it takes at most 64 KiB"),
}


def error_response(status: int, name: str, message: str) -> Response:
    """Return the JSON error response with this HTTP ``status``."""
    body = json.dumps({"error": {"name": name, "message": message}}, ensure_ascii=False)
    response = Response(body, status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    if status == 401:
        # RFC 9110 section 11.6.1: a 401 names a challenge
        response.headers["WWW-Authenticate"] = "Bearer"
    # RFC 9110 section 15.5.22 and RFC 6455 section 4.4: it says to what, and to which version of
    # that
    if status == 426:
        response.headers.update(
            {
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec-WebSocket-Version": WEBSOCKET_VERSION,
            }
        )
    return response


def register(app: Flask) -> None:
    """Make every error of ``app`` leave in the one form."""
    app.register_error_handler(ApiError, _api_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _api_error(error: ApiError) -> Response:
    return error_response(error.status, error.name, error.message)


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:  # a redirect is no error
        return Response(error.get_body(), status, error.get_headers())
    name, message = _HTTP_ERRORS.get(
        status, ("ValidationError" if status < 500 else "InternalError", error.description or "")
    )
    response = error_response(status, name, message)
    if status == 405:
        response.headers["Allow"] = dict(error.get_headers()).get("Allow", "")
    return response


def _unexpected(error: Exception) -> Response:
    log.exception("unexpected error")
    return error_response(500, "InternalError", "the server made a mistake; its log says more")
