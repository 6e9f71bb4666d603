"""The errors that callers are told of, in one table: their statuses, names and texts.

Every error has one form, ``{"error": {"name": …, "message": …}}``, and its HTTP status.
"""

from __future__ import annotations

import json
from typing import ClassVar, NamedTuple


class ErrorKind(NamedTuple):
    """The errors with one HTTP status."""

    name: str  # by which programs tell them apart
    meaning: str  # for the API's documents
    message: str = ""  # where whoever refuses has no better one


ERRORS = {
    400: ErrorKind(
        "ValidationError", "a parameter or a body is wrong; the message names it and what it takes"
    ),
    401: ErrorKind(
        "AuthError",
        "no token, or one that is malformed, forged, expired, revoked, or for something else",
    ),
    403: ErrorKind(
        "Forbidden",
        "the token is not an administrator's, or the page that asks is of a foreign origin",
    ),
    404: ErrorKind(
        "NotFound",
        "no such address, or no such session of yours",
        "there is nothing at this address; the list is at /api/list/<token>",
    ),
    405: ErrorKind(
        "MethodNotAllowed",
        "the header Allow names the methods that are taken",
        "this address does not take that method; the Allow header names those it takes",
    ),
    408: ErrorKind(
        "RequestTimeout",
        "a request that does not arrive within 20 s, or that waits while too many others do",
        "the request did not arrive in time; try again",
    ),
    413: ErrorKind(
        "PayloadTooLarge",
        "a body of over 64 KiB",
        "the request body is too long; it takes at most 64 KiB",
    ),
    414: ErrorKind("ValidationError", "an address of over 8 KiB: longer questions go into a body"),
    415: ErrorKind("UnsupportedMediaType", "a body with a Content-Encoding"),
    417: ErrorKind(
        "ValidationError", "a header Expect that is not 100-continue", "Expect: takes 100-continue"
    ),
    426: ErrorKind("UpgradeRequired", "a WebSocket handshake of a version that is not 13"),
    429: ErrorKind("TooManyRequests", "too many WebSockets of one login"),
    431: ErrorKind("ValidationError", "a header of over 8 KiB"),
    500: ErrorKind(
        "InternalError",
        "a mistake of ours; our log says more",
        "the server made a mistake; its log says more",
    ),
    501: ErrorKind(
        "ValidationError",
        "a Transfer-Encoding that is not chunked",
        "Transfer-Encoding: takes chunked, and nothing besides",
    ),
    503: ErrorKind("Unavailable", "the list cannot be read or a change not be kept, for now"),
}


class ApiError(Exception):
    """An error that the caller is told about; ``message`` says what to do differently and never
    holds a token."""

    status: ClassVar[int]

    def __init_subclass__(cls, status: int) -> None:
        cls.status = status

    def __init__(self, message: str = "") -> None:
        self.message = message or ERRORS[self.status].message
        super().__init__(self.message)


class ValidationError(ApiError, status=400):
    """A parameter or a body is wrong."""


class AuthError(ApiError, status=401):
    """There is no token, or one that does not hold."""

    def __init__(self, message: str, is_guess: bool = True) -> None:
        """``is_guess`` is false without a token, and of one whose signature is good, which nobody
        can have made up."""
        super().__init__(message)
        self.is_guess = is_guess


class Forbidden(ApiError, status=403):
    """Whoever asks may not see this."""


class NotFound(ApiError, status=404):
    """There is no such thing, or it is somebody else's."""


class RequestTimeout(ApiError, status=408):
    """A request does not arrive in time."""


class PayloadTooLarge(ApiError, status=413):
    """A request is too long."""


class UnsupportedMediaType(ApiError, status=415):
    """A body is compressed."""


class UpgradeRequired(ApiError, status=426):
    """The handshake of a WebSocket names another version of the protocol."""


class TooManyRequests(ApiError, status=429):
    """A login has too many WebSockets."""


class NotImplementedCoding(ApiError, status=501):
    """A body is transferred in another coding than in chunks."""


class Unavailable(ApiError, status=503):
    """It cannot be done now, and may be possible soon."""


def error_body(status: int, message: str) -> bytes:
    """Return the JSON of an error with this HTTP ``status``, which may also be one that Flask or
    gunicorn gives for a reason of its own."""
    name = (ERRORS.get(status) or ERRORS[400 if status < 500 else 500]).name
    return json.dumps({"error": {"name": name, "message": message}}, ensure_ascii=False).encode()
