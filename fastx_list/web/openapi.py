"""The OpenAPI document of the HTTP API, made from the schemas that requests are checked with and
sessions are written with.

It holds nothing of this host, and is made once, when it is first asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema
from marshmallow.fields import Field

from fastx_list.api.addresses import ASYNCAPI, HEALTH, LISTINGS, OPENAPI, PARAMS, READY, Listing
from fastx_list.errors import ERRORS
from fastx_list.model.params import ParamsSchema
from fastx_list.model.query import QuerySchema
from fastx_list.model.server import Server, ServerSchema, encode_server
from fastx_list.model.session import Session, SessionSchema, encode

Document = dict[str, Any]

NAME, VERSION = "fastx-list", version("fastx-list")
DESCRIPTION = (
    "Which remote desktop sessions are running, whose they are, and who is connected. A token is a"
    " JSON Web Token (RFC 7519) with the claims sub (the login whose sessions are listed), aud"
    ' ("api") and exp, and admin if it is an administrator\'s. Unknown parameters are ignored.'
)


_OF_EVERY_CALL = (400, 401, 414, 431, 500, 503)

HEADERS: dict[str, Document] = {
    "ETag": {
        "required": True,
        "schema": {"type": "string", "pattern": '^"[^"]+"$'},
        "description": (
            "names this answer; sent back in If-None-Match, it gets 304 if nothing has changed"
        ),
    },
    "X-Total-Count": {
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
        "description": "how many there are after filtering, before start and limit",
    },
    "Cache-Control": {
        "required": True,
        "schema": {"type": "string"},
        "description": "nothing in between keeps the answer",
    },
    "Warning": {
        "schema": {"type": "string", "pattern": "^110 "},
        "description": "110 while the store cannot be read: this is its last known state",
    },
    "WWW-Authenticate": {
        "required": True,
        "schema": {"const": "Bearer"},
        "description": "a token is needed",
    },
}

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
)


@cache
def openapi(envelope: bool) -> Document:
    """Return the document; ``envelope`` says whether every success is ``{"result": …}``."""
    spec = APISpec(NAME, VERSION, "3.1.0", info={"description": DESCRIPTION})
    for schema_name, schema in _schemas().items():
        spec.components.schema(schema_name, schema)
    for parameter_name, parameter in _parameters().items():
        spec.components.parameter(parameter_name, parameter["in"], parameter)
    for scheme_name, scheme in SECURITY_SCHEMES.items():
        spec.components.security_scheme(scheme_name, scheme)
    for header_name, header in HEADERS.items():
        spec.components.header(header_name, header)
    for status, error in ERRORS.items():
        headers = ("WWW-Authenticate",) if status == 401 else ()
        spec.components.response(
            f"Error{status}", _response(error.meaning, _ref("Error"), *headers)
        )

    for listing in LISTINGS.values():
        for path, suffix, common in _addresses(listing.address):
            spec.path(path, operations=_list_operations(listing, suffix, common, envelope))
    for path, suffix, common in _addresses(PARAMS):
        spec.path(path, operations=_params_operations("Params" + suffix, common, envelope))
    for path, operation in _about_itself().items():
        spec.path(path, operations={"get": operation})
    return dict(spec.to_dict())


def json_schema(schema: type[Schema]) -> Document:
    """Return the JSON Schema (2020-12) of the JSON that ``schema`` writes or takes."""
    return dict(_converter().schema2jsonschema(schema))


def items() -> dict[str, Document]:
    """Return, by name, the JSON Schemas of what is listed."""
    session, server = encode(_SESSION, _SESSION.params), encode_server(_SERVER)
    return {
        "Session": {
            **json_schema(SessionSchema),
            "description": "a remote desktop session",
            "examples": [json.loads(session)],
        },
        "Server": {
            **json_schema(ServerSchema),
            "description": "a machine that has sessions",
            "examples": [json.loads(server)],
        },
    }


def as_text(schema: Document) -> dict[str, Document]:
    """Return, by name, the JSON Schemas of the members of ``schema`` where they stand in a URL or
    in a form.

    All is text there, so the first of the ways in which JSON may say a value is the only one. A
    default would be JSON's.
    """
    return {
        name: {
            **member["anyOf"][0],
            **{key: value for key, value in member.items() if key not in ("anyOf", "default")},
        }
        for name, member in schema["properties"].items()
    }


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


def _schemas() -> dict[str, Document]:
    query = json_schema(QuerySchema)
    names = sorted({error.name for error in ERRORS.values()})
    error = _object(
        "what went wrong",
        {
            "name": {"type": "string", "enum": names, "description": "what kind of error it is"},
            "message": {"type": "string", "description": "what to do differently"},
        },
    )
    return {
        **items(),
        "Query": {**query, "description": "what to list, in which order"},
        "QueryForm": {
            "type": "object",
            "description": "the same as a form; the token may stand in it, too",
            "properties": as_text(query),
        },
        "Params": {
            **json_schema(ParamsSchema),
            "description": "what to merge into the params of which session",
        },
        "Error": _object("the one form of an error", {"error": error}),
        "Status": _object("that all is well", {"status": {"const": "ok"}}),
    }


def _parameters() -> dict[str, Document]:
    query = {
        name: {"in": "query", "description": schema.pop("description"), "schema": schema}
        for name, schema in as_text(json_schema(QuerySchema)).items()
    }
    return {
        "token": {
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": "the token",
        },
        **query,
        "If-None-Match": {
            "in": "header",
            "schema": {"type": "string"},
            "description": "the ETag of the answer you have",
        },
    }


def _object(description: str, properties: Document) -> Document:
    return {
        "type": "object",
        "description": description,
        "required": list(properties),
        "properties": properties,
    }


def _ref(schema: str) -> Document:
    return {"$ref": f"#/components/schemas/{schema}"}


def _addresses(address: str) -> Iterator[tuple[str, str, Document]]:
    """Yield the two addresses of a call, with what tells their operations' names apart and where
    each has its token."""
    yield f"{address}/{{token}}", "ByPath", {"parameters": ["token"], "security": []}
    yield address, "", {"parameters": [], "security": [{name: []} for name in SECURITY_SCHEMES]}


def _list_operations(listing: Listing, suffix: str, common: Document, envelope: bool) -> Document:
    array = {"type": "array", "items": _ref(listing.item)}
    success = _success(listing.what, array, envelope, "ETag", "X-Total-Count", "Warning")
    unchanged = _response("nothing has changed", None, *success["headers"])
    operation = {
        **common,
        "tags": ["Lists"],
        "summary": f"List {listing.what}",
        "parameters": [*common["parameters"], *(name for name in _parameters() if name != "token")],
    }

    def responses(*errors: int) -> Document:
        return {"200": success, "304": unchanged, **_errors(*errors, *listing.refusals)}

    return {
        "get": {
            **operation,
            "operationId": f"get{listing.name}{suffix}",
            "responses": responses(*_OF_EVERY_CALL),
        },
        "post": {
            **operation,
            "operationId": f"post{listing.name}{suffix}",
            "responses": responses(*_OF_EVERY_CALL, 413),
            "description": (
                "Where body and query name the same parameter, the body wins, except that filters"
                " of both hold."
            ),
            "requestBody": {
                "content": {
                    "application/json": {"schema": _ref("Query")},
                    "application/x-www-form-urlencoded": {"schema": _ref("QueryForm")},
                    "multipart/form-data": {"schema": _ref("QueryForm")},
                }
            },
        },
    }


def _params_operations(name: str, common: Document, envelope: bool) -> Document:
    return {
        "post": {
            **common,
            "operationId": f"post{name}",
            "tags": ["Params"],
            "summary": "Merge into the params of a session of yours",
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _ref("Params")}},
            },
            "responses": {
                "200": _success("the session as it is now", _ref("Session"), envelope),
                **_errors(*_OF_EVERY_CALL, 404, 413),
            },
        }
    }


def _about_itself() -> dict[str, Document]:
    document = _response("the document", {"type": "object"}, "Cache-Control")
    well = _response("it is so", _ref("Status"))
    return {
        path: {
            "operationId": name,
            "tags": ["Service"],
            "summary": summary,
            "security": [],
            "responses": {"200": answer, **errors},
        }
        for path, name, summary, answer, errors in (
            (HEALTH, "getHealth", "Whether the process answers", well, {}),
            (READY, "getReady", "Whether the list is current", well, _errors(503)),
            (OPENAPI, "getOpenapi", "This document", document, {}),
            (ASYNCAPI, "getAsyncapi", "The AsyncAPI document of the WebSockets", document, {}),
        )
    }


def _success(what: str, schema: Document, envelope: bool, *headers: str) -> Document:
    if envelope:
        schema = _object(what, {"result": schema})
    return _response(what, schema, "Cache-Control", *headers)


def _response(description: str, schema: Document | None, *headers: str) -> Document:
    content = {"content": {"application/json": {"schema": schema}}} if schema else {}
    return {"description": description, "headers": {name: name for name in headers}, **content}


def _errors(*statuses: int) -> Document:
    return {str(status): f"Error{status}" for status in sorted(statuses)}
