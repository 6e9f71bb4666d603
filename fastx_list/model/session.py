"""The session: its members, what they mean, and their JSON form.

The members and their names are those of the published FastX page ``/api/list/:token``, in its
order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NoReturn

from marshmallow import EXCLUDE, Schema, fields, validate

MAX_PARAMS = 64
MAX_PARAMS_BYTES = 8192
# Far from where a JSON parser gives up, in this process or in anyone's who reads the list
MAX_PARAMS_DEPTH = 32
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


def to_json(value: object) -> str:
    """Return the compact JSON text of ``value``; raises ``ValueError`` for NaN and infinities,
    which JSON does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_json(text: str | bytes) -> Any:
    """Return what the JSON ``text`` says.

    Raises ``ValueError`` if it is not well-formed as RFC 8259 has it (NaN and Infinity are Python's
    idea), ``RecursionError`` if it is nested too deep.
    """
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


class ParamsError(ValueError):
    """The params would be more than a session holds."""


def merge_params(params: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``params`` with ``patch`` merged in: a ``None`` removes a key (RFC 7396, at the top
    level only).

    Raises :class:`ParamsError` if the result has over 64 keys or its JSON text over 8 KiB.
    """
    merged = {key: value for key, value in {**params, **patch}.items() if value is not None}
    check_params(merged)
    return merged


def check_params(params: Mapping[str, Any]) -> None:
    """Raise :class:`ParamsError` if ``params`` are more than a session holds."""
    if is_deeper(params, MAX_PARAMS_DEPTH):
        raise ParamsError(
            f"params: takes arrays and objects nested at most {MAX_PARAMS_DEPTH} deep"
        )
    if len(params) > MAX_PARAMS:
        raise ParamsError(
            f"params: takes at most {MAX_PARAMS} keys in all, and this would make {len(params)}"
        )
    try:
        size = len(to_json(params).encode())
    # A lone surrogate, NaN, or no JSON at all: what can be neither stored nor sent
    except (ValueError, TypeError):
        raise ParamsError("params: takes Unicode text and finite numbers only") from None
    if size > MAX_PARAMS_BYTES:
        raise ParamsError(
            f"params: takes at most {MAX_PARAMS_BYTES} bytes of JSON in all, and this would make"
            f" {size}"
        )


def is_deeper(value: object, limit: int) -> bool:
    """Whether the arrays and objects of this JSON ``value`` are nested more than ``limit`` deep."""
    level = [value]
    for _ in range(limit + 1):
        if not level:
            return False
        inner = [
            item.values() if isinstance(item, Mapping) else item
            for item in level
            if isinstance(item, (Mapping, list))
        ]
        level = [value for values in inner for value in values]
    return bool(level)


_WRONG = ("required", "invalid", "null")
_ID = "takes the id of one of your sessions"
_PARAMS = "takes a JSON object; a null in it removes a param"


class ParamsSchema(Schema):
    """What the params call takes: a session's id, and what to merge into its params."""

    class Meta:
        unknown = EXCLUDE

    id = fields.String(
        required=True,
        validate=validate.Regexp(r"[!-~]{1,256}\Z", error=_ID),
        error_messages=dict.fromkeys(_WRONG, _ID),
        metadata={"description": _ID},
    )
    params = fields.Dict(
        keys=fields.String(),
        required=True,
        error_messages=dict.fromkeys(_WRONG, _PARAMS),
        metadata={
            "description": (
                f"{_PARAMS}; in all a session holds at most {MAX_PARAMS}, and {MAX_PARAMS_BYTES}"
                " bytes of JSON"
            )
        },
    )


class StartSchema(Schema):
    """What a session is started with, as ``session.json`` and launchers say it; ``null`` where
    nobody has."""

    cpuPercentage = fields.Float(
        attribute="cpu_percentage",
        allow_none=True,
        validate=validate.Range(0, error="takes a number, 0 or more"),
        error_messages={"invalid": "takes a number, 0 or more"},
    )
    videoRam = fields.Integer(
        attribute="video_ram",
        strict=True,
        allow_none=True,
        validate=validate.Range(0, 2**53, error="takes a whole number of kB"),
        error_messages={"invalid": "takes a whole number of kB"},
    )
    sharing = fields.Boolean(allow_none=True, error_messages={"invalid": "takes true or false"})
    disconnectTimeout = fields.Integer(
        attribute="disconnect_timeout",
        strict=True,
        allow_none=True,
        validate=validate.Range(0, 2**53, error="takes a whole number of minutes"),
        error_messages={"invalid": "takes a whole number of minutes"},
    )


class SpoolSchema(StartSchema):
    """A session file in the spool directory: what a launcher may say of a session that it registers
    itself.

    Unknown members are refused rather than ignored, since a misspelt one would otherwise silently
    be missing.
    """

    login = fields.String(required=True, validate=validate.Length(1, 256))
    serverPid = fields.Integer(
        attribute="server_pid", strict=True, allow_none=True, validate=validate.Range(1, 2**31)
    )
    geometry = fields.String(
        allow_none=True,
        validate=validate.Regexp(GEOMETRY + r"\Z", error="takes WIDTHxHEIGHT, such as 1280x720"),
    )
    windowMode = fields.String(
        attribute="window_mode", allow_none=True, validate=validate.OneOf(WINDOW_MODES)
    )
    started = fields.Integer(strict=True, allow_none=True, validate=validate.Range(0, 2**53))
    command = fields.String(allow_none=True, validate=validate.Length(0, 4096))
    appPid = fields.Integer(
        attribute="app_pid", strict=True, allow_none=True, validate=validate.Range(1, 2**31)
    )
    clients = fields.Integer(strict=True, allow_none=True, validate=validate.Range(0, 2**31))
    params = fields.Dict(keys=fields.String())
    display = fields.Integer(strict=True, allow_none=True, validate=validate.Range(0, 65535))
