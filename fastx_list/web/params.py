"""``POST /api/params/<token>``: put a portal's own data on a session."""

from __future__ import annotations

from typing import Any, cast

from flask import Blueprint, Response, request

from fastx_list.api.addresses import PARAMS, with_token
from fastx_list.api.authentication import authenticate
from fastx_list.api.parameters import parser
from fastx_list.api.services import services
from fastx_list.errors import NotFound, Unavailable, ValidationError
from fastx_list.model.params import ParamsError, ParamsSchema
from fastx_list.model.session import published_part
from fastx_list.store import StoreError

blueprint = Blueprint("params", __name__)

_schema = ParamsSchema()


@with_token(blueprint, PARAMS, "POST")
def set_params(token: str | None) -> Response:
    """Merge ``params`` into the session's own and answer with the session. Someone else's session
    does not exist."""
    service = services()
    service.refresh()
    claims = authenticate(service, token)
    asked = cast(dict[str, Any], parser.parse(_schema, request, location="body"))
    try:
        text = service.store.set_params(asked["id"], claims.login, asked["params"])
    except ParamsError as error:
        raise ValidationError(str(error)) from None
    except StoreError:
        raise Unavailable("the change could not be kept; try again soon") from None
    if text is None:
        service.refresh()  # what the store has lost may come back, or be back by now
        is_there = asked["id"] in service.replica.entries(claims.login)
        if is_there or service.replica.problem is not None:
            raise Unavailable("nobody can tell now whether there is such a session; try again soon")
        raise NotFound("id: you have no session with this id")
    if service.settings.hides_ours:
        text = published_part(text)
    body = f'{{"result":{text}}}' if service.settings.envelope else text
    return Response(body, headers={"Cache-Control": "no-store"}, mimetype="application/json")
