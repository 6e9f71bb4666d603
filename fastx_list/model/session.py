"""The session: its members, what they mean, and their JSON form.

The members and their names are those of the published FastX page ``/api/list/:token``, in its
order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from marshmallow import Schema, fields, validate

from fastx_list.model.json import from_json, to_json

# Xvnc sizes run to five digits; the bound keeps a wrong number from a spool file out of every
# client.
GEOMETRY = r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}"
WINDOW_MODES = ("desktop", "rootless")


@dataclass(frozen=True)
class Session:
    """One remote desktop session. A fact that can't be known is ``None``.

    Times are milliseconds since the Unix epoch, UTC; ``video_ram`` is in kB, ``disconnect_timeout``
    in minutes. ``params`` as an agent gives them are those a launcher started the session with; the
    store keeps what the params call made of them.
    """

    id: str
    login: str
    server_id: str
    hostname: str
    server_pid: int | None = None
    geometry: str | None = None
    window_mode: str | None = None
    started: int | None = None
    last_connect: int | None = None
    last_disconnect: int | None = None
    command: str | None = None
    app_pid: int | None = None
    clients: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    display: int | None = None
    cpu_percentage: float | None = None
    video_ram: int | None = None
    sharing: bool | None = None
    disconnect_timeout: int | None = None

    @cached_property
    def digest(self) -> str:
        """A fingerprint of everything but ``params``: two views of a session with the same digest
        are the same."""
        return hashlib.blake2b(encode(self, {}).encode(), digest_size=16).hexdigest()


def fact(
    kind: type[fields.Field[Any]],
    attribute: str,
    description: str,
    check: Callable[[Any], Any] | None = None,
) -> Any:
    """Return a member that is always there, and ``null`` where it can't be known."""
    return kind(
        attribute=attribute,
        required=True,
        allow_none=True,
        validate=check,
        metadata={"description": description},
    )


class SessionSchema(Schema):
    """A session as the published page writes it. Dumped once per change of a session, never per
    request.

    Dumping asks neither ``required`` nor ``allow_none`` nor validators; they say what a reader can
    rely on.
    """

    id = fields.String(
        required=True,
        metadata={
            "description": "stable for the session's life; no other session of any server has it"
        },
    )
    serverPid = fact(fields.Integer, "server_pid", "pid of its display server")
    geometry = fact(
        fields.String,
        "geometry",
        "size of its screen as it is now, WIDTHxHEIGHT",
        validate.Regexp(GEOMETRY + r"\Z"),
    )
    windowMode = fact(
        fields.String,
        "window_mode",
        "a whole desktop, or single windows",
        validate.OneOf(WINDOW_MODES),
    )
    started = fact(fields.Integer, "started", "milliseconds since 1970-01-01 UTC")
    lastConnect = fact(
        fields.Integer,
        "last_connect",
        "milliseconds since 1970-01-01 UTC; null until a client connects",
    )
    lastDisconnect = fact(
        fields.Integer,
        "last_disconnect",
        "milliseconds since 1970-01-01 UTC; null until a client leaves",
    )
    command = fact(fields.String, "command", "what was executed when the session started")
    appPid = fact(fields.Integer, "app_pid", "pid of that command")
    clients = fact(fields.Integer, "clients", "how many clients are connected now")
    params = fields.Dict(
        keys=fields.String(),
        required=True,
        metadata={"description": "what was set with the params call"},
    )
    hostname = fields.String(required=True, metadata={"description": "the machine it runs on"})
    login = fields.String(required=True, metadata={"description": "the user whose session it is"})
    display = fact(fields.Integer, "display", "number of its X display")
    serverId = fields.String(
        attribute="server_id",
        required=True,
        metadata={"description": "the server whose agent found it"},
    )
    cpuPercentage = fact(fields.Float, "cpu_percentage", "as it was when the session started")
    videoRam = fact(fields.Integer, "video_ram", "in kB, as it was when the session started")
    sharing = fact(fields.Boolean, "sharing", "as it was when the session started")
    disconnectTimeout = fact(
        fields.Integer, "disconnect_timeout", "in minutes, as it was when the session started"
    )
    # The published page spells it so; portals read either.
    disconnectTImeout = fields.Integer(
        attribute="disconnect_timeout",
        required=True,
        allow_none=True,
        dump_only=True,
        metadata={"description": "the same as disconnectTimeout"},
    )


_schema = SessionSchema()
MEMBERS = frozenset(_schema.fields)
_ATTRIBUTES = {
    name: member.attribute or name
    for name, member in _schema.fields.items()
    if name != "disconnectTImeout"
}


def encode(session: Session, params: Mapping[str, Any]) -> str:
    """Return the JSON text of ``session`` with ``params`` as its params."""
    return to_json(_schema.dump(replace(session, params=params)))


def decode(text: str) -> Session:
    """Return the session whose JSON is ``text``, as :func:`encode` writes it. What another release
    left out is unknown."""
    members = from_json(text)
    return Session(**{attribute: members.get(name) for name, attribute in _ATTRIBUTES.items()})
