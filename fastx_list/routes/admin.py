"""``GET|POST /api/admin/session/<token>``: the list over all logins, for tokens with the ``admin`` claim."""

from __future__ import annotations

from flask import Blueprint, Response

from fastx_list.routes.list import answer
from fastx_list.services import services

blueprint = Blueprint("admin", __name__)


@blueprint.route("/api/admin/session", methods=["GET", "POST"], defaults={"token": None}, strict_slashes=False)
@blueprint.route("/api/admin/session/<token>", methods=["GET", "POST"])
def list_all_sessions(token: str | None) -> Response:
    """Answer as the list does, over the sessions of all logins."""
    service = services()
    service.refresh()
    service.authenticate_admin(token)
    return answer(service, None)
