"""The OpenAPI document of the HTTP API, made from the schemas that requests are checked with and
sessions are written with.

It holds nothing of this host, and is made once, when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from apispec import APISpec
from marshmallow import Schema

from fastx_list.api.addresses import (
    ALL_HISTORY,
    ASYNCAPI,
    HEALTH,
    HISTORY,
    LISTINGS,
    OPENAPI,
    PARAMS,
    READY,
    Listing,
)
from fastx_list.api.request import FORMS
from fastx_list.errors import ERRORS
from fastx_list.model.history import HistorySchema
from fastx_list.model.params import ParamsSchema
from fastx_list.model.query import QuerySchema
from fastx_list.web.schemas import (
    DESCRIPTION,
    NAME,
    SECURITY_SCHEMES,
    VERSION,
    Document,
    as_text,
    items,
    json_schema,
    past_item,
)

_OF_EVERY_CALL = (400, 401, 408, 414, 431, 500, 503)

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


@cache
def openapi(envelope: bool, hides_ours: bool) -> Document:
    """Return the document; ``envelope`` says whether every success is ``{"result": …}``, and
    ``hides_ours`` whether sessions have the published members alone."""
    spec = APISpec(NAME, VERSION, "3.1.0", info={"description": DESCRIPTION})
    for schema_name, schema in _schemas(hides_ours).items():
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
    for address, name, refusals in ((HISTORY, "History", ()), (ALL_HISTORY, "AllHistory", (403,))):
        for path, suffix, common in _addresses(address):
            operations = _history_operations(name + suffix, common, refusals, envelope)
            spec.path(path, operations=operations)
    for path, suffix, common in _addresses(PARAMS):
        spec.path(path, operations=_params_operations("Params" + suffix, common, envelope))
    for path, operation in _about_itself().items():
        spec.path(path, operations={"get": operation})
    return dict(spec.to_dict())


def _schemas(hides_ours: bool) -> dict[str, Document]:
    query, history = json_schema(QuerySchema), json_schema(HistorySchema)
    listed = items(hides_ours)
    # No enum, since names are added, too
    names = sorted({error.name for error in ERRORS.values()})
    error = _object(
        "what went wrong",
        {
            "name": {
                "type": "string",
                "examples": names,
                "description": "what kind of error it is: one of the examples, or a later one",
            },
            "message": {"type": "string", "description": "what to do differently"},
        },
    )
    return {
        **listed,
        "PastSession": past_item(listed["Session"]),
        "HistoryQuery": {
            **history,
            "description": "what to tell of the history; the token may stand in it, too",
        },
        "HistoryForm": {
            "type": "object",
            "description": "the same as a form; the token may stand in it, too",
            "properties": as_text(history),
            "additionalProperties": True,
        },
        "Query": {
            **query,
            "description": "what to list, in which order; the token may stand in it, too",
        },
        "QueryForm": {
            "type": "object",
            "description": "the same as a form; the token may stand in it, too",
            "properties": as_text(query),
            "additionalProperties": True,
        },
        "Params": {
            **json_schema(ParamsSchema),
            "description": "what to merge into the params of which session",
            "examples": [{key: listed["Session"]["examples"][0][key] for key in ("id", "params")}],
        },
        "Error": _object("the one form of an error", {"error": error}),
        "Status": _object("that all is well", {"status": {"const": "ok"}}),
    }


def _in_query(schema: type[Schema]) -> dict[str, Document]:
    """Return, by name, what stands in a query string as ``schema`` takes it."""
    return {
        name: {"in": "query", "description": member.pop("description"), "schema": member}
        for name, member in as_text(json_schema(schema)).items()
    }


def _parameters() -> dict[str, Document]:
    return {
        "token": {
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": "the token",
        },
        **_in_query(QuerySchema),
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
        "additionalProperties": True,
    }


def _ref(schema: str) -> Document:
    return {"$ref": f"#/components/schemas/{schema}"}


def _addresses(address: str) -> Iterator[tuple[str, str, Document]]:
    """Yield the two addresses of a call, with what tells their operations' names apart and where
    each has its token."""
    yield f"{address}/{{token}}", "ByPath", {"parameters": ["token"], "security": []}
    yield address, "", {"parameters": [], "security": [{name: []} for name in SECURITY_SCHEMES]}


def _history_operations(
    name: str, common: Document, refusals: tuple[int, ...], envelope: bool
) -> Document:
    array = {"type": "array", "items": _ref("PastSession")}
    success = _success("sessions that run and that have ended", array, envelope, "Warning")
    success["content"]["text/csv"] = {"schema": {"type": "string"}}
    count = {key: value for key, value in HEADERS["X-Total-Count"].items() if key != "required"}
    count["description"] += "; left out if they are too many to be counted"
    success["headers"]["X-Total-Count"] = count
    query = [{"name": each, **parameter} for each, parameter in _in_query(HistorySchema).items()]
    operation = {
        **common,
        "tags": ["History"],
        "summary": "Tell of sessions that run and that have ended",
        "description": "Without sortBy the ones that run come first, then those that ended last.",
        "parameters": [*common["parameters"], *query],
    }
    errors = _errors(*_OF_EVERY_CALL, *refusals, 404)
    body = {"application/json": "HistoryQuery", **dict.fromkeys(FORMS, "HistoryForm")}
    return {
        "get": {**operation, "operationId": f"get{name}", "responses": {"200": success, **errors}},
        "post": {
            **operation,
            "operationId": f"post{name}",
            "responses": {"200": success, **errors, **_errors(413, 415)},
            "requestBody": {
                "content": {kind: {"schema": _ref(schema)} for kind, schema in body.items()}
            },
        },
    }


def _list_operations(listing: Listing, suffix: str, common: Document, envelope: bool) -> Document:
    array = {"type": "array", "items": _ref(listing.item)}
    success = _success(
        listing.what, array, envelope, "ETag", "X-Revision", "X-Total-Count", "Warning"
    )
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
            "responses": responses(*_OF_EVERY_CALL, 413, 415),
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
                **_errors(*_OF_EVERY_CALL, 404, 413, 415),
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
