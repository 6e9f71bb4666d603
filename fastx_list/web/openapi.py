"""The OpenAPI document of the HTTP API, made from the schemas that requests are checked with and
sessions are written with.

It holds nothing of this host, and is made once, when it is first asked for.
"""

from __future__ import annotations

from functools import cache

from apispec import APISpec

from fastx_list.api.addresses import ASYNCAPI, HEALTH, LISTINGS, OPENAPI, PARAMS, READY, Listing
from fastx_list.errors import ERRORS
from fastx_list.model.params import ParamsSchema
from fastx_list.model.query import QuerySchema
from fastx_list.web.openapi_past import PAST_CALLS, past_operations, past_schemas
from fastx_list.web.operations import (
    HEADERS,
    OF_EVERY_CALL,
    addresses_of,
    errors_of,
    in_query,
    object_of,
    ref,
    response_of,
    success_of,
)
from fastx_list.web.schemas import (
    DESCRIPTION,
    NAME,
    SECURITY_SCHEMES,
    VERSION,
    Document,
    form_of,
    items,
    json_schema,
)


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
            f"Error{status}", response_of(error.meaning, ref("Error"), *headers)
        )

    for listing in LISTINGS.values():
        for path, suffix, common in addresses_of(listing.address):
            spec.path(path, operations=_list_operations(listing, suffix, common, envelope))
    for call in PAST_CALLS:
        for path, suffix, common in addresses_of(call.address):
            spec.path(path, operations=past_operations(call, suffix, common, envelope))
    for path, suffix, common in addresses_of(PARAMS):
        spec.path(path, operations=_params_operations("Params" + suffix, common, envelope))
    for path, operation in _about_itself().items():
        spec.path(path, operations={"get": operation})
    return dict(spec.to_dict())


def _schemas(hides_ours: bool) -> dict[str, Document]:
    query = json_schema(QuerySchema)
    listed = items(hides_ours)
    # No enum, since names are added, too
    names = sorted({error.name for error in ERRORS.values()})
    error = object_of(
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
        **past_schemas(listed["Session"]),
        "Query": {
            **query,
            "description": "what to list, in which order; the token may stand in it, too",
        },
        "QueryForm": form_of(query),
        "Params": {
            **json_schema(ParamsSchema),
            "description": "what to merge into the params of which session",
            "examples": [{key: listed["Session"]["examples"][0][key] for key in ("id", "params")}],
        },
        "Error": object_of("the one form of an error", {"error": error}),
        "Status": object_of("that all is well", {"status": {"const": "ok"}}),
    }


def _parameters() -> dict[str, Document]:
    return {
        "token": {
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": "the token",
        },
        **in_query(QuerySchema),
        "If-None-Match": {
            "in": "header",
            "schema": {"type": "string"},
            "description": "the ETag of the answer you have",
        },
    }


def _list_operations(listing: Listing, suffix: str, common: Document, envelope: bool) -> Document:
    array = {"type": "array", "items": ref(listing.item)}
    success = success_of(
        listing.what, array, envelope, "ETag", "X-Revision", "X-Total-Count", "Warning"
    )
    unchanged = response_of("nothing has changed", None, *success["headers"])
    operation = {
        **common,
        "tags": ["Lists"],
        "summary": f"List {listing.what}",
        "parameters": [*common["parameters"], *(name for name in _parameters() if name != "token")],
    }

    def responses(*errors: int) -> Document:
        return {"200": success, "304": unchanged, **errors_of(*errors, *listing.refusals)}

    return {
        "get": {
            **operation,
            "operationId": f"get{listing.name}{suffix}",
            "responses": responses(*OF_EVERY_CALL),
        },
        "post": {
            **operation,
            "operationId": f"post{listing.name}{suffix}",
            "responses": responses(*OF_EVERY_CALL, 413, 415),
            "description": (
                "Where body and query name the same parameter, the body wins, except that filters"
                " of both hold."
            ),
            "requestBody": {
                "content": {
                    "application/json": {"schema": ref("Query")},
                    "application/x-www-form-urlencoded": {"schema": ref("QueryForm")},
                    "multipart/form-data": {"schema": ref("QueryForm")},
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
                "content": {"application/json": {"schema": ref("Params")}},
            },
            "responses": {
                "200": success_of("the session as it is now", ref("Session"), envelope),
                **errors_of(*OF_EVERY_CALL, 404, 413, 415),
            },
        }
    }


def _about_itself() -> dict[str, Document]:
    document = response_of("the document", {"type": "object"}, "Cache-Control")
    well = response_of("it is so", ref("Status"))
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
            (READY, "getReady", "Whether the list is current", well, errors_of(503)),
            (OPENAPI, "getOpenapi", "This document", document, {}),
            (ASYNCAPI, "getAsyncapi", "The AsyncAPI document of the WebSockets", document, {}),
        )
    }
