"""``/health`` (this process answers) and ``/ready`` (it serves the present state), for a proxy,
systemd or a monitor."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from fastx_list import tokens
from fastx_list.api.addresses import HEALTH, READY
from fastx_list.api.counters import counters
from fastx_list.api.proxies import asks_directly
from fastx_list.api.services import STALE, services
from fastx_list.errors import Unavailable
from fastx_list.text import version
from fastx_list.values import THIS_MACHINE

blueprint = Blueprint("health", __name__)


@blueprint.get(HEALTH)
def health() -> Response:
    """Answer with 200 for as long as the process can answer, and with what it has counted. To
    ``?more``, asked on this machine as ``fastx-list doctor`` does, also with the release and which
    settings it runs with."""
    service = services()
    told: dict[str, object] = {}
    if request.query_string == b"more" and asks_directly(request, THIS_MACHINE):
        told = {"version": version(), "settings": tokens.fingerprint(service.settings)}
    counts = {name: counters.total(counted) for name, counted in service.tells.items()}
    return jsonify(status="ok", **counts, **told)


@blueprint.get(READY)
def ready() -> Response:
    """Answer with 200 if what lists show is the present state, else with 503: the store cannot be
    read, has lost what it had, or an agent has written nothing for longer than its lease."""
    service = services()
    service.refresh()
    if service.replica.problem:
        raise Unavailable(STALE)
    return jsonify(status="ok")
