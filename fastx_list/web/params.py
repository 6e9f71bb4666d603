"""``POST /api/params/<token>``: put a portal's own data on a session."""

from __future__ import annotations

from typing import Any, cast

from flask import Blueprint, Request, Response, request
from marshmallow import Schema

from fastx_list.api.services import services
from fastx_list.errors import NotFound, Unavailable, ValidationError
from fastx_list.model.params import ParamsError, ParamsSchema
from fastx_list.store import StoreError
from fastx_list.web.list import json_object, parser

blueprint = Blueprint("params", __name__)

_schema = ParamsSchema()


@parser.location_loader("body")
def load_body(request: Request, schema: Schema) -> dict[str, Any]:
    """Return the JSON object in the body."""
    return json_object(request.mimetype, request.get_data())


@blueprint.route("/api/params", methods=["POST"], defaults={"token": None}, strict_slashes=False)
@blueprint.route("/api/params/<token>", methods=["POST"])
def set_params(token: str | None) -> Response:
    """Merge ``params`` into the session's own and answer with the session. Someone else's session
    does not exist."""
    service = services()
    service.refresh()
    claims = service.authenticate(token)
    asked = cast(dict[str, Any], parser.parse(_schema, request, location="body"))
    try:
        text = service.store.set_params(asked["id"], claims.login, asked["params"])
    except ParamsError as error:
        raise ValidationError(str(error)) from None
    except StoreError:
        raise Unavailable("the change could not be kept; try again soon") from None
    if text is None:
        raise NotFound("id: you have no session with this id")
    body = f'{{"result":{text}}}' if service.settings.result_envelope else text
    return Response(body, headers={"Cache-Control": "no-store"}, mimetype="application/json")
