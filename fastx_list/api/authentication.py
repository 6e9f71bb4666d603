"""Whose request it is: finds the token of a request, wherever it stands, and verifies it."""

from __future__ import annotations

from typing import cast

from flask import Request
from flask.globals import request_ctx

from fastx_list.api.local import claims_of_peer
from fastx_list.api.request import ApiRequest
from fastx_list.api.services import Services
from fastx_list.errors import AuthError, Forbidden, ValidationError
from fastx_list.model.spelling import SEPARATOR
from fastx_list.tokens import Claims


def authenticate(service: Services, token: str | None, admin: bool = False) -> Claims:
    """Return what ``token``, or without it that of this request, says; without any, who asks over
    the socket that users of this machine may open.

    Raises :class:`AuthError` if there is none or it does not hold, and :class:`Forbidden` if an
    ``admin`` is asked for and it is not an administrator's.
    """
    request = request_ctx.request  # in itself, as each use of Flask's proxy looks it up once more
    token = token or find_token(request)
    claims = claims_of_peer(request) if token is None else None
    if claims is not None:
        if admin and not claims.admin:
            raise Forbidden("this is for administrators: run it as root, or send such a token")
        return claims
    if token is None:
        raise AuthError(
            "token: there is none; it goes into the path, Authorization: Bearer, X-FASTX-TOKEN, or"
            " token in query or body",
            is_guess=False,
        )
    claims = service.tokens.verify(token, service.replica.revoked)
    if admin and not claims.admin:
        raise Forbidden('token: this takes an administrator\'s, with the claim "admin"')
    return claims


def find_token(request: Request) -> str | None:
    """Return the token in ``Authorization: Bearer`` (RFC 6750), in ``X-FASTX-TOKEN``, or in
    ``token`` of the query or of the body of a POST; ``None`` if there is none."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    token = request.headers.get("X-FASTX-TOKEN")
    if not token and ";" in (token := request.args.get("token", "")):
        raise ValidationError(f"parameters: {SEPARATOR}")
    # What else asks has no body, and may say that it has one which never comes
    if not token and request.method == "POST":
        pairs = cast(ApiRequest, request).body_pairs
        token = next((str(value) for name, value in pairs if name == "token" and value), "")
    return token or None
