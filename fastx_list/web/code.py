"""``POST /code``, the page's own: changes the code of a link for a token, once.

A link stays in the history that a browser keeps on disk. What it holds is of use for a minute, and
to the first who comes with it.
"""

from __future__ import annotations

import logging
from typing import Any, cast

from flask import Blueprint, Response, request
from marshmallow import EXCLUDE, Schema, fields, validate

from fastx_list.api.parameters import parser
from fastx_list.api.services import services
from fastx_list.errors import AuthError, Unavailable
from fastx_list.model.event import What
from fastx_list.model.json import to_json
from fastx_list.store import StoreError
from fastx_list.tokens import MAX_TOKEN_LENGTH

log = logging.getLogger(__name__)
blueprint = Blueprint("code", __name__)

_CODE = "takes the code of a link"


class CodeSchema(Schema):
    """What changes a code for a token."""

    class Meta:
        unknown = EXCLUDE

    code = fields.String(
        required=True,
        validate=validate.Length(1, MAX_TOKEN_LENGTH, error=_CODE),
        error_messages=dict.fromkeys(("required", "invalid", "null"), _CODE),
        metadata={"description": _CODE},
    )


_schema = CodeSchema()


@blueprint.post("/code")
def change() -> Response:
    """Answer with a token. Of all who come with the same code, at whichever worker, the first gets
    one."""
    service = services()
    service.refresh()
    asked = cast(dict[str, Any], parser.parse(_schema, request, location="body"))
    code = service.tokens.read_code(asked["code"])
    try:
        is_first = service.store.revoke({code.jti: code.expires}) == 1
    except StoreError:
        raise Unavailable("the code cannot be changed for a token now; try again soon") from None
    if not is_first:
        raise AuthError("code: it has been used; get a new link", is_guess=False)
    token = service.tokens.issue(code.login, code.ttl, code.admin)
    claims = service.tokens.verify(token, ())
    more = {"token": claims.jti, "expires": claims.expires, "admin": claims.admin}
    try:
        service.store.archive.note(What.TOKEN_ISSUED, claims.login, more)
    except StoreError as error:  # the code is used, and nobody could try again
        log.warning("no event says that a token was issued: %s", error)
    body: dict[str, Any] = {"token": token}
    text = to_json({"result": body} if service.settings.envelope else body)
    return Response(text, headers={"Cache-Control": "no-store"}, mimetype="application/json")
