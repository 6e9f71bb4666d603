"""The server: a machine that runs sessions, its members, what they mean, and their JSON form.

The members and their names are those of the published FastX page ``/api/admin/server/:token``, in its order.
"""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import Schema, fields

from fastx_list.session import to_json


@dataclass(frozen=True)
class Server:
    """One machine as its agent sees it. A fact that can't be known is ``None``.

    ``cpu`` is the load of all its processors together in percent, memory is in bytes, ``uptime`` in seconds; ``load`` are the load
    averages of one, five and fifteen minutes. ``logged_in_users`` are the logins that have sessions there.
    """

    id: str
    hostname: str
    pool: str | None = None
    url: str | None = None
    cpu: float | None = None
    free_memory: int | None = None
    total_memory: int | None = None
    logged_in_users: int = 0
    sessions: int = 0
    uptime: int | None = None
    load: tuple[float, float, float] | None = None


class ServerSchema(Schema):
    """A server as the published page writes it."""

    serverId = fields.Function(lambda server: server.id)
    id = fields.String()
    serverPool = fields.String(attribute="pool")
    hostname = fields.String()
    url = fields.String()
    cpu = fields.Float()
    freemem = fields.Integer(attribute="free_memory")
    totalmem = fields.Integer(attribute="total_memory")
    loggedInUsers = fields.Integer(attribute="logged_in_users")
    sessions = fields.Integer()
    uptime = fields.Integer()
    loadavg = fields.List(fields.Float(), attribute="load")


_schema = ServerSchema()


def encode_server(server: Server) -> str:
    """Return the JSON text of ``server``."""
    return to_json(_schema.dump(server))
