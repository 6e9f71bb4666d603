"""The session: its members, what they mean, who may say them, and their JSON form.

This is the one declaration of a member. The schemas, OpenAPI, the checks of session files, the
tables of the command line and of the page follow from it. Names are those of the published FastX
page ``/api/list/:token``. A fact that can't be known is ``None``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Annotated, Any, TypeVar

from marshmallow.validate import Length, OneOf, Range, Regexp

from fastx_list.model.addresses import Addresses
from fastx_list.model.json import from_json, to_json
from fastx_list.model.member import Member, check_members, declared, plain_form, writing_schema

# Xvnc sizes run to five digits; the bound keeps a wrong number from a spool file out of every
# client.
GEOMETRY = r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}"
WINDOW_MODES = ("desktop", "rootless")

# The members of the published page, in its order, with the right spelling of disconnectTImeout
# beside it. All others are ours: they are sent after these, or left out.
PUBLISHED = (
    *("id", "serverPid", "geometry", "windowMode", "started", "lastConnect", "lastDisconnect"),
    *("command", "appPid", "clients", "params", "hostname", "login", "display", "serverId"),
    *("cpuPercentage", "videoRam", "sharing", "disconnectTimeout", "disconnectTImeout"),
)

PERCENT, BYTES = "percent of one core", "bytes"
MILLISECONDS = "milliseconds since 1970-01-01 UTC"
_NUMBER = "takes a number, 0 or more"
_KILOBYTES = "takes a whole number of kB"
_MINUTES = "takes a whole number of minutes"
_PROCESS = Range(1, 2**31)


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a session was started with. ``session.json``, and a launcher through environment
    variables, may say it."""

    cpu_percentage: Annotated[
        float | None,
        Member(
            name="cpuPercentage",
            label="CPU percentage",
            description="as it was when the session started",
            unit="percent",
            limits=Range(0, error=_NUMBER),
            takes=_NUMBER,
        ),
    ] = None
    video_ram: Annotated[
        int | None,
        Member(
            name="videoRam",
            label="Video RAM",
            description="as it was when the session started",
            unit="kB",
            limits=Range(0, 2**53, error=_KILOBYTES),
            takes=_KILOBYTES,
        ),
    ] = None
    sharing: Annotated[
        bool | None,
        Member(
            name="sharing",
            label="Sharing",
            description="as it was when the session started",
            takes="takes true or false",
        ),
    ] = None
    disconnect_timeout: Annotated[
        int | None,
        Member(
            name="disconnectTimeout",
            also="disconnectTImeout",  # the published page spells it so; portals read either
            label="Disconnect timeout",
            description="as it was when the session started",
            unit="minutes",
            limits=Range(0, 2**53, error=_MINUTES),
            takes=_MINUTES,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Said(Start):
    """What the source that found a session, or a launcher in a session file, may say of it.

    ``params`` are those that the session was started with.
    """

    login: Annotated[
        str, Member("login", "Login", "the user whose session it is", limits=Length(1, 256))
    ]
    server_pid: Annotated[
        int | None,
        Member("serverPid", "Server's pid", "pid of its display server", limits=_PROCESS),
    ] = None
    geometry: Annotated[
        str | None,
        Member(
            "geometry",
            "Geometry",
            "size of its screen as it is now, WIDTHxHEIGHT",
            form=Regexp(GEOMETRY + r"\Z", error="takes WIDTHxHEIGHT, such as 1280x720"),
        ),
    ] = None
    window_mode: Annotated[
        str | None,
        Member(
            "windowMode", "Mode", "a whole desktop, or single windows", form=OneOf(WINDOW_MODES)
        ),
    ] = None
    started: Annotated[
        int | None,
        Member("started", "Started", "when it started", unit=MILLISECONDS, limits=Range(0, 2**53)),
    ] = None
    command: Annotated[
        str | None,
        Member(
            "command",
            "Command",
            "what was executed when the session started",
            limits=Length(0, 4096),
        ),
    ] = None
    app_pid: Annotated[
        int | None, Member("appPid", "Command's pid", "pid of that command", limits=_PROCESS)
    ] = None
    clients: Annotated[
        int | None,
        Member("clients", "Clients", "how many clients are connected now", limits=Range(0, 2**31)),
    ] = None
    params: Annotated[
        Mapping[str, Any], Member("params", "Params", "what was set with the params call")
    ] = field(default_factory=dict)
    display: Annotated[
        int | None, Member("display", "Display", "number of its X display", limits=Range(0, 65535))
    ] = None
    client_addresses: Annotated[
        tuple[str, ...] | None,
        Member(
            "clientAddresses",
            "From",
            "where its clients come from that are connected: IPv4, IPv6, or local (a unix socket)",
            limits=Addresses(),
        ),
    ] = None
    idle_since: Annotated[
        int | None,
        Member(
            "idleSince",
            "Idle since",
            "when its last keyboard or pointer event came, null while it is in use",
            unit=MILLISECONDS,
            limits=Range(0, 2**53),
        ),
    ] = None
    cpu: Annotated[
        int | None,
        Member(
            "cpu",
            "CPU",
            "what its processes have used over the last minute",
            unit=PERCENT,
            limits=Range(0, 2**31),
        ),
    ] = None
    memory: Annotated[
        int | None,
        Member("memory", "Memory", "what its processes use", unit=BYTES, limits=Range(0, 2**53)),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Session(Said):
    """One remote desktop session, with what the agent alone knows of it.

    The store keeps what the params call made of ``params``.
    """

    id: Annotated[
        str,
        Member("id", "Id", "stable for the session's life; no other session of any server has it"),
    ]
    server_id: Annotated[str, Member("serverId", "Server", "the server whose agent found it")]
    hostname: Annotated[str, Member("hostname", "Host", "the machine it runs on")]
    last_connect: Annotated[
        int | None,
        Member(
            "lastConnect",
            "Last connect",
            "when a client last connected, null until one does",
            unit=MILLISECONDS,
        ),
    ] = None
    last_disconnect: Annotated[
        int | None,
        Member(
            "lastDisconnect",
            "Last disconnect",
            "when a client last left, null until one does",
            unit=MILLISECONDS,
        ),
    ] = None
    kind: Annotated[
        str | None,
        Member("kind", "Kind", "what kind of session it is: the name of the source that found it"),
    ] = None

    @cached_property
    def digest(self) -> str:
        """A fingerprint of everything but ``params``: two editions of a session with the same
        digest are the same."""
        return hashlib.blake2b(encode(self, {}).encode(), digest_size=16).hexdigest()


S = TypeVar("S", bound=Start)

SessionSchema = writing_schema(Session, PUBLISHED)
_schema = SessionSchema()
_declared = declared(Session)
_SAID = [each.name for each in fields(Said)]
_STARTED = [each.name for each in fields(Start)]
_by_name = {
    name: each.member for each in _declared for name in (each.member.name, each.member.also)
}
MEMBERS = {name: _by_name[name] for name in _schema.fields}  # under all names, as they are sent

_ours = [name for name in MEMBERS if name not in PUBLISHED]

# What tables for people show, in this order, with its headings: members, and two columns that are
# made of several, or as it is shown
_MADE = {"name": "Session", "state": "State", "idleSince": "Idle"}
COLUMNS = {
    name: _MADE.get(name) or MEMBERS[name].label
    for name in (
        "name",
        "login",
        "state",
        "windowMode",
        "hostname",
        "display",
        "geometry",
        "started",
        "kind",
        "clientAddresses",
        "idleSince",
        "cpu",
        "memory",
    )
}


def complete(said: S, start: Start) -> S:
    """Return ``said`` with what it does not say of its start taken from ``start``."""
    missing = {
        name: getattr(start, name)
        for name in _STARTED
        if getattr(said, name) is None and getattr(start, name) is not None
    }
    return replace(said, **missing) if missing else said


def session_of(
    said: Said, *, id: str, server_id: str, hostname: str, kind: str | None = None
) -> Session:
    """Return the session of which a source or a launcher says what ``said`` does."""
    members = {name: getattr(said, name) for name in _SAID}
    return Session(id=id, server_id=server_id, hostname=hostname, kind=kind, **members)


def encode(session: Session, params: Mapping[str, Any]) -> str:
    """Return the JSON text of ``session`` with ``params`` as its params. Done once per change of a
    session, never per request."""
    return to_json(_schema.dump(replace(session, params=params)))


def decode(text: str) -> Session:
    """Return the session whose JSON is ``text``, as :func:`encode` writes it. What another release
    left out is unknown."""
    members = from_json(text)
    return Session(
        **{each.attribute: _decoded(members.get(each.member.name)) for each in _declared}
    )


def _decoded(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# The end of the JSON of a session as it is written as a rule. In a text of JSON quotes are escaped,
# so that it stands nowhere else.
_OURS = re.compile("," + plain_form(_declared, _ours) + r"\}")
_FIRST_OF_OURS = f',"{_ours[0]}":'


def published_part(text: str) -> str:
    """Return the JSON of a session without the members that are ours: what it would be if there
    were none."""
    start = text.rfind(_FIRST_OF_OURS)
    if start >= 0 and _OURS.fullmatch(text, start):
        return text[:start] + "}"
    return to_json({name: value for name, value in from_json(text).items() if name in PUBLISHED})


# The JSON of a session as it is written as a rule, with its id, login and serverId
PLAIN = re.compile(r"\{" + plain_form(_declared, MEMBERS, ("id", "login", "serverId")) + r"\}")
_STARTED_AT = b',"started":'


def started_of(text: bytes) -> int | None:
    """Return when the session whose JSON is ``text`` started, if a look at its beginning tells."""
    found = text.find(_STARTED_AT)
    # In a text of JSON quotes are escaped; so it is a member's name, of the session unless another
    # object has begun
    if found < 0 or text.find(b"{", 1, found) >= 0:
        return None
    found += len(_STARTED_AT)
    digits = text[found : text.find(b",", found)]
    return int(digits) if digits.isdigit() and len(digits) < 16 else None


def check_session(members: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if ``members``, which a store holds, are not a session's."""
    check_members(members, _declared)
