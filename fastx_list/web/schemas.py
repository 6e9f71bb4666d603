"""What the OpenAPI and the AsyncAPI document have in common: what the API is, where its token
stands, and the JSON Schemas of what requests are checked with and sessions are written with."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema
from marshmallow.fields import Field

from fastx_list.model.json import to_json
from fastx_list.model.past import CourseSchema, Past, encode_past
from fastx_list.model.server import FIRST, Server, ServerSchema, encode_server, first_part
from fastx_list.model.session import PUBLISHED, Session, SessionSchema, encode, published_part

Document = dict[str, Any]

NAME, VERSION = "fastx-list", version("fastx-list")
DESCRIPTION = (
    "Which remote desktop sessions are running, whose they are, and who is connected. A token is a"
    " JSON Web Token (RFC 7519) with the claims sub (the login whose sessions are listed), aud"
    ' ("api") and exp, and admin if it is an administrator\'s. Unknown parameters are ignored.'
)

SECURITY_SCHEMES: dict[str, Document] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "in Authorization: Bearer",
    },
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-FASTX-TOKEN",
        "description": "in the header X-FASTX-TOKEN",
    },
    "query": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "in token of the query",
    },
}

_SESSION = Session(
    id="6f1c2a9e04b75d38a1f09c4e7b2d5a63",
    login="alice",
    server_id="node7",
    hostname="node7.example.org",
    server_pid=4711,
    geometry="1280x720",
    window_mode="desktop",
    started=1_700_000_000_000,
    last_connect=1_700_000_060_000,
    last_disconnect=1_700_003_600_000,
    command="startxfce4",
    app_pid=4712,
    clients=0,
    params={"name": "Thesis"},
    display=10,
    client_addresses=(),
    idle_since=1_700_003_590_000,
    cpu=3,
    memory=420 * 2**20,
    kind="xrdp",
)
_PAST = Past(
    began=1_700_000_000_000, ended=1_700_028_800_000, connected=14_400_000, addresses=("192.0.2.7",)
)
_SERVER = Server(
    id="node7",
    hostname="node7.example.org",
    cpu=12.5,
    free_memory=24 * 2**30,
    total_memory=32 * 2**30,
    logged_in_users=3,
    sessions=4,
    uptime=86_400,
    load=(0.5, 0.25, 0.25),
    version="1.0.0",
    rights=("CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"),
    settings="8f14e45fceea167a",
    last_look=1_700_003_600_000,
    look_seconds=0.012,
)


def json_schema(schema: type[Schema]) -> Document:
    """Return the JSON Schema (2020-12) of the JSON that ``schema`` writes or takes.

    It is open, since members are added (docs/api.md), and unknown ones in a request are ignored.
    """
    return {**_converter().schema2jsonschema(schema), "additionalProperties": True}


def form_of(query: Document) -> Document:
    """Return the JSON Schema of a form that asks what JSON of the schema ``query`` does."""
    return {
        "type": "object",
        "description": "the same as a form; the token may stand in it, too",
        "properties": as_text(query),
        "propertyNames": {"pattern": r"^[^\x00-\x1f\x7f]*$"},
        "additionalProperties": True,
    }


def items(hides_ours: bool) -> dict[str, Document]:
    """Return, by name, the JSON Schemas of what is listed; with ``hides_ours`` without the members
    that are not published."""
    session, server = encode(_SESSION, _SESSION.params), encode_server(_SERVER)
    members, of_server = json_schema(SessionSchema), json_schema(ServerSchema)
    if hides_ours:
        session, server = published_part(session), first_part(server)
        for document, kept in ((members, PUBLISHED), (of_server, FIRST)):
            document["properties"] = {name: document["properties"][name] for name in kept}
            document["required"] = [name for name in document["required"] if name in kept]
    return {
        "Session": {
            **members,
            "description": "a remote desktop session",
            "examples": [json.loads(session)],
        },
        "Server": {
            **of_server,
            "description": "a machine that has sessions",
            "examples": [json.loads(server)],
        },
    }


def past_item(session: Document) -> Document:
    """Return the JSON Schema of what history says of a session, whose own is ``session``."""
    course, example = json_schema(CourseSchema), to_json(session["examples"][0])
    return {
        **session,
        "properties": {**session["properties"], **course["properties"]},
        "required": [*session["required"], *course["required"]],
        "description": "the last state of a session that runs or has ended, and its course",
        "examples": [json.loads(encode_past(example, _PAST, _PAST.began))],
    }


def as_text(schema: Document) -> dict[str, Document]:
    """Return, by name, the JSON Schemas of the members of ``schema`` where they stand in a URL or
    in a form.

    All is text there, so the first of the ways in which JSON may say a value is the only one, and
    an empty text is as if it were absent. A default would be JSON's.
    """
    return {
        name: {
            **_or_empty(member["anyOf"][0]),
            **{key: value for key, value in member.items() if key not in ("anyOf", "default")},
        }
        for name, member in schema["properties"].items()
    }


def _or_empty(schema: Document) -> Document:
    if "items" in schema:
        return {**schema, "items": _or_empty(schema["items"])}
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], ""]}
    return {**schema, "pattern": f"^$|{schema['pattern']}"} if "pattern" in schema else schema


@cache
def _converter() -> OpenAPIConverter:
    plugin = MarshmallowPlugin()
    APISpec("", "", "3.1.0", [plugin])
    converter = plugin.converter
    assert converter is not None
    converter.add_attribute_function(_what_json_may_say)
    converter.add_attribute_function(_whole_pattern)
    return converter


def _what_json_may_say(self: OpenAPIConverter, field: Field[Any], ret: Document) -> Document:
    """Let a field of ours say what it takes; ``null`` is the same as leaving it out."""
    takes = getattr(field, "takes", None)
    return {"anyOf": [*takes, {"type": "null"}]} if takes else {}


def _whole_pattern(self: OpenAPIConverter, field: Field[Any], ret: Document) -> Document:
    r"""Say in JSON Schema, which searches, what Python means, which begins at the start and ends at
    ``\Z``."""
    pattern = ret.get("pattern", "")
    return {"pattern": f"^{pattern[:-2]}$"} if pattern.endswith(r"\Z") else {}
