"""What the calls in the OpenAPI document have in common."""

from __future__ import annotations

from collections.abc import Iterator

from marshmallow import Schema

from fastx_list.web.schemas import SECURITY_SCHEMES, Document, as_text, json_schema

OF_EVERY_CALL = (400, 401, 408, 414, 417, 431, 500, 503)

HEADERS: dict[str, Document] = {
    "ETag": {
        "required": True,
        "schema": {"type": "string", "pattern": '^"[^"]+"$'},
        "description": (
            "names this answer; sent back in If-None-Match, it gets 304 if nothing has changed"
        ),
    },
    "X-Revision": {
        "required": True,
        "schema": {"type": "string"},
        "description": (
            "names the state of the list before filters and pages; given to a WebSocket as since,"
            " it is sent what has changed after it"
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
        "description": "110 while it is not known what runs now: this is the last known state",
    },
    "WWW-Authenticate": {
        "required": True,
        "schema": {"const": "Bearer"},
        "description": "a token is needed",
    },
}


def in_query(schema: type[Schema]) -> dict[str, Document]:
    """Return, by name, what stands in a query string as ``schema`` takes it."""
    return {
        name: {"in": "query", "description": member.pop("description"), "schema": member}
        for name, member in as_text(json_schema(schema)).items()
    }


def object_of(description: str, properties: Document) -> Document:
    """Return the JSON Schema of an object with these members, all of which it has."""
    return {
        "type": "object",
        "description": description,
        "required": list(properties),
        "properties": properties,
        "additionalProperties": True,
    }


def ref(schema: str) -> Document:
    """Return what stands for the schema of this name."""
    return {"$ref": f"#/components/schemas/{schema}"}


def addresses_of(address: str) -> Iterator[tuple[str, str, Document]]:
    """Yield the two addresses of a call, with what tells their operations' names apart and where
    each has its token."""
    yield f"{address}/{{token}}", "ByPath", {"parameters": ["token"], "security": []}
    yield address, "", {"parameters": [], "security": [{name: []} for name in SECURITY_SCHEMES]}


def success_of(what: str, schema: Document, envelope: bool, *headers: str) -> Document:
    """Return the answer of a call that lists ``what``, with ``envelope`` as ``{"result": …}``."""
    if envelope:
        schema = object_of(what, {"result": schema})
    return response_of(what, schema, "Cache-Control", *headers)


def response_of(description: str, schema: Document | None, *headers: str) -> Document:
    """Return an answer in JSON, or without a body."""
    content = {"content": {"application/json": {"schema": schema}}} if schema else {}
    return {"description": description, "headers": {name: name for name in headers}, **content}


def errors_of(*statuses: int) -> Document:
    """Return, by status, the errors that a call may answer."""
    return {str(status): f"Error{status}" for status in sorted(statuses)}
