"""What launchers may say of a session: in a session file, and in ``session.json``."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from fastx_list.model.session import GEOMETRY, WINDOW_MODES


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
