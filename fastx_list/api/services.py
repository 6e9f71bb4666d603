"""What the routes of one application work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO, Any

from flask import Request, current_app, request
from werkzeug.formparser import FormDataParser

from fastx_list.config import Settings
from fastx_list.errors import AuthError, Forbidden, Unavailable, ValidationError
from fastx_list.replica.replica import Replica
from fastx_list.store import Store, StoreError
from fastx_list.tokens import Claims, Tokens

EXTENSION = "fastx-list"


@dataclass(frozen=True)
class Services:
    """The settings, and what was made from them.

    With ``follows`` somebody in this process follows the store for all requests. ``counts`` is what
    ``/health`` tells of it.
    """

    settings: Settings
    store: Store
    replica: Replica
    tokens: Tokens
    follows: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    def refresh(self) -> None:
        """Bring the replica up to date; raises :class:`Unavailable` if there never was a store to
        read."""
        try:
            if not self.follows:
                self.replica.refresh()
        except StoreError:
            pass
        if not self.replica.loaded:
            raise Unavailable("the list cannot be read yet; try again soon")

    def authenticate(self, token: str | None) -> Claims:
        """Return what the request's token says; raises :class:`AuthError`.

        It stands in the path, in ``Authorization: Bearer`` (RFC 6750), in ``X-FASTX-TOKEN``, or is
        ``token`` in the query or in the form of a POST.
        """
        return self.tokens.verify(token or _find_token(), self.replica.revoked)

    def authenticate_admin(self, token: str | None) -> Claims:
        """The same for what only administrators may see; raises also :class:`Forbidden`."""
        claims = self.authenticate(token)
        if not claims.admin:
            raise Forbidden('token: this takes an administrator\'s, with the claim "admin"')
        return claims


class _StrictForm(FormDataParser):
    """Refuses a form that is malformed or cut off, which would otherwise pass for one without
    fields."""

    def parse(
        self,
        stream: IO[bytes],
        mimetype: str,
        content_length: int | None,
        options: dict[str, str] | None = None,
    ) -> Any:
        self.silent = not content_length
        try:
            return super().parse(stream, mimetype, content_length, options)
        except ValueError:
            raise ValidationError("body: it is not a well-formed form") from None


class ApiRequest(Request):
    """A request as the routes read it."""

    form_data_parser_class = _StrictForm


def services() -> Services:
    """Return the services of the application that serves this request."""
    found: Services = current_app.extensions[EXTENSION]
    return found


def _find_token() -> str:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    token = request.headers.get("X-FASTX-TOKEN") or request.args.get("token")
    # What else asks has no body, and may say that it has one which never comes
    if not token and request.method == "POST":
        token = request.form.get("token")
    if not token:
        raise AuthError(
            "token: there is none; it goes into the path, Authorization: Bearer, X-FASTX-TOKEN, or"
            " token in query or form"
        )
    return token
