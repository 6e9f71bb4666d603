"""``GET|POST /api/admin/session/<token>`` and ``…/admin/server/<token>``: the sessions of all
logins, and the servers they run on.

Both take a token with the ``admin`` claim, and every parameter of the list.
"""

from __future__ import annotations

from flask import Blueprint, Response

from fastx_list.api.services import services
from fastx_list.replica.replica import Everything, Topic
from fastx_list.web.list import answer

blueprint = Blueprint("admin", __name__)


@blueprint.route(
    "/api/admin/session", methods=["GET", "POST"], defaults={"token": None}, strict_slashes=False
)
@blueprint.route("/api/admin/session/<token>", methods=["GET", "POST"])
def list_sessions(token: str | None) -> Response:
    """Answer as the list does, over the sessions of all logins."""
    return _answer_admin(token, Everything.SESSIONS)


@blueprint.route(
    "/api/admin/server", methods=["GET", "POST"], defaults={"token": None}, strict_slashes=False
)
@blueprint.route("/api/admin/server/<token>", methods=["GET", "POST"])
def list_servers(token: str | None) -> Response:
    """Answer as the list does, over the servers."""
    return _answer_admin(token, Everything.SERVERS)


def _answer_admin(token: str | None, topic: Topic) -> Response:
    service = services()
    service.refresh()
    service.authenticate_admin(token)
    return answer(service, topic)
