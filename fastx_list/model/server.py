"""The server: a machine that runs sessions, its members, what they mean, and their JSON form.

The members and their names are those of the published FastX page ``/api/admin/server/:token``, in
its order. A fact that can't be known is ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastx_list.model.json import from_json, to_json
from fastx_list.model.member import Member, check_members, declared, writing_schema
from fastx_list.model.session import MILLISECONDS


@dataclass(frozen=True)
class Server:
    """One machine as its agent sees it."""

    id: Annotated[
        str, Member("id", "Server", "its name, which is its sessions' serverId", also="serverId")
    ]
    hostname: Annotated[str, Member("hostname", "Host", "the name of the machine")]
    pool: Annotated[str | None, Member("serverPool", "Pool", "the pool that it belongs to")] = None
    url: Annotated[str | None, Member("url", "URL", "where its users connect to it")] = None
    cpu: Annotated[
        float | None, Member("cpu", "CPU", "load of all its processors together", unit="percent")
    ] = None
    free_memory: Annotated[
        int | None, Member("freemem", "Free memory", "memory that is free", unit="bytes")
    ] = None
    total_memory: Annotated[
        int | None, Member("totalmem", "Memory", "all its memory", unit="bytes")
    ] = None
    logged_in_users: Annotated[
        int, Member("loggedInUsers", "Logins", "how many logins have sessions there")
    ] = 0
    sessions: Annotated[int, Member("sessions", "Sessions", "how many sessions it has")] = 0
    uptime: Annotated[
        int | None, Member("uptime", "Up", "for how long it has been up", unit="seconds")
    ] = None
    load: Annotated[
        tuple[float, float, float] | None,
        Member("loadavg", "Load", "load averages of one, five and fifteen minutes"),
    ] = None
    problems: Annotated[
        tuple[str, ...], Member("problems", "Problems", "what keeps its agent from seeing all, now")
    ] = ()
    version: Annotated[
        str | None, Member("version", "Version", "the release of fastx-list that its agent is of")
    ] = None
    rights: Annotated[
        tuple[str, ...],
        Member(
            "rights", "Rights", "the capabilities by which its agent sees other users' sessions"
        ),
    ] = ()
    settings: Annotated[
        str | None,
        Member("settings", "Settings", "a fingerprint of the settings that its agent runs with"),
    ] = None
    last_look: Annotated[
        int | None,
        Member("lastLook", "Last look", "when its agent had last looked", unit=MILLISECONDS),
    ] = None
    look_seconds: Annotated[
        float | None, Member("lookSeconds", "Look", "how long that look took", unit="seconds")
    ] = None


ServerSchema = writing_schema(Server, order=("serverId", "id", "serverPool"))
# What is sent also where only what was published is wanted, as release 0.1.0 sent it
FIRST = tuple(
    name
    for name in ServerSchema().fields
    if name not in ("version", "rights", "settings", "lastLook", "lookSeconds")
)
_schema = ServerSchema()
_declared = declared(Server)


def encode_server(server: Server) -> str:
    """Return the JSON text of ``server``."""
    return to_json(_schema.dump(server))


def first_part(text: str) -> str:
    """Return the JSON of a server without what was added to it later."""
    return to_json({name: value for name, value in from_json(text).items() if name in FIRST})


def check_server(members: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if ``members``, which a store holds, are not a server's."""
    check_members(members, _declared)
