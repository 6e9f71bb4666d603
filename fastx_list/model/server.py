"""The server: a machine that runs sessions, its members, what they mean, and their JSON form.

The members and their names are those of the published FastX page ``/api/admin/server/:token``, in
its order.
"""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import Schema, fields, validate

from fastx_list.model.json import to_json
from fastx_list.model.session import fact


@dataclass(frozen=True)
class Server:
    """One machine as its agent sees it. A fact that can't be known is ``None``.

    ``cpu`` is the load of all its processors together in percent, memory is in bytes, ``uptime`` in
    seconds; ``load`` are the load averages of one, five and fifteen minutes. ``logged_in_users``
    are the logins that have sessions there.
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
    """A server as the published page writes it. As to ``required`` and the like see
    :class:`fastx_list.model.session.SessionSchema`."""

    serverId = fields.String(
        attribute="id", required=True, dump_only=True, metadata={"description": "the same as id"}
    )
    id = fields.String(
        required=True,
        metadata={"description": "the server's name, which is its sessions' serverId"},
    )
    serverPool = fact(fields.String, "pool", "the pool that it belongs to")
    hostname = fields.String(required=True, metadata={"description": "the name of the machine"})
    url = fact(fields.String, "url", "where its users connect to it")
    cpu = fact(fields.Float, "cpu", "load of all its processors together, in percent")
    freemem = fact(fields.Integer, "free_memory", "memory that is free, in bytes")
    totalmem = fact(fields.Integer, "total_memory", "all its memory, in bytes")
    loggedInUsers = fields.Integer(
        attribute="logged_in_users",
        required=True,
        metadata={"description": "how many logins have sessions there"},
    )
    sessions = fields.Integer(required=True, metadata={"description": "how many sessions it has"})
    uptime = fact(fields.Integer, "uptime", "seconds since it was started")
    loadavg = fields.List(
        fields.Float(),
        attribute="load",
        required=True,
        allow_none=True,
        validate=validate.Length(equal=3),
        metadata={"description": "load averages of one, five and fifteen minutes"},
    )


_schema = ServerSchema()


def encode_server(server: Server) -> str:
    """Return the JSON text of ``server``."""
    return to_json(_schema.dump(server))
