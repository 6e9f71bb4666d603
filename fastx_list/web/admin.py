"""``GET|POST /api/admin/session/<token>`` and ``…/admin/server/<token>``: the sessions of all
logins, and the servers they run on.

Both take a token with the ``admin`` claim, and every parameter of the list.
"""

from __future__ import annotations

from flask import Blueprint, Response

from fastx_list.api.addresses import ALL_SESSIONS, SERVERS, with_token
from fastx_list.web.list import respond

blueprint = Blueprint("admin", __name__)


@with_token(blueprint, ALL_SESSIONS.address, "GET", "POST")
def list_sessions(token: str | None) -> Response:
    """Answer as the list does, over the sessions of all logins."""
    return respond(ALL_SESSIONS, token)


@with_token(blueprint, SERVERS.address, "GET", "POST")
def list_servers(token: str | None) -> Response:
    """Answer as the list does, over the servers."""
    return respond(SERVERS, token)
