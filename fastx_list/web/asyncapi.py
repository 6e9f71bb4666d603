"""The AsyncAPI document of the WebSockets, made from the same schemas as the OpenAPI document of
the HTTP API."""

from __future__ import annotations

from functools import cache

from fastx_list.api.addresses import LISTINGS, Listing
from fastx_list.api.protocol import CloseCode
from fastx_list.errors import ERRORS
from fastx_list.model.query import LiveQuerySchema
from fastx_list.web.schemas import (
    DESCRIPTION,
    NAME,
    SECURITY_SCHEMES,
    VERSION,
    Document,
    as_text,
    items,
    json_schema,
)

REFUSALS = {
    str(status): ERRORS[status].meaning for status in (400, 401, 403, 408, 426, 429, 500, 503)
}


_REVISION: Document = {
    "summary": "for who asks for since or bookmarks: up to where all has been sent",
    "payload": {
        "type": "object",
        "required": ["revision"],
        "properties": {
            "revision": {
                "type": ["string", "null"],
                "description": (
                    "to be given as since on connecting again; null: the one that was given is not"
                    " known (any more), so what the client has is to be dropped, and what there is"
                    " comes next"
                ),
            }
        },
        "additionalProperties": True,
    },
    "examples": [
        {"name": "bookmark", "payload": {"revision": "9f86d081884c7d65"}},
        {"name": "unknown", "payload": {"revision": None}},
    ],
}


@cache
def asyncapi(hides_ours: bool) -> Document:
    """Return the document; with ``hides_ours`` sessions have the published members alone."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": NAME, "version": VERSION, "description": DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {listing.name: _channel(listing) for listing in LISTINGS.values()},
        "operations": {f"send{listing.name}": _operation(listing) for listing in LISTINGS.values()},
        "components": {
            "schemas": items(hides_ours),
            "messages": {
                **{
                    name: _message(name, each["examples"][0])
                    for name, each in items(hides_ours).items()
                },
                "Revision": _REVISION,
            },
            "securitySchemes": {
                name: _security_scheme(scheme) for name, scheme in SECURITY_SCHEMES.items()
            },
        },
    }


def _channel(listing: Listing) -> Document:
    return {
        "address": listing.address,
        "description": (
            f"On connecting there is one message for each of {listing.what}, then one for every"
            " change. If a client reads too slowly, states in between may be skipped, and what has"
            " begun and ended meanwhile; the last state always arrives. A refused connection gets"
            " an error over HTTP. The token may also stand in the path, behind the address."
        ),
        "messages": {
            name: {"$ref": f"#/components/messages/{name}"} for name in (listing.item, "Revision")
        },
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {"type": "object", "properties": as_text(json_schema(LiveQuerySchema))},
            }
        },
        "x-close-codes": {str(code.value): code.meaning for code in CloseCode},
        "x-refusals": REFUSALS,
    }


def _operation(listing: Listing) -> Document:
    channel = f"#/channels/{listing.name}"
    return {
        "action": "send",
        "summary": f"Send {listing.what}, then every change",
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in (listing.item, "Revision")],
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in SECURITY_SCHEMES],
    }


def _message(item: str, example: Document) -> Document:
    data = {
        "description": "all its members; null once it has ended, or no longer passes the filters",
        "anyOf": [{"$ref": f"#/components/schemas/{item}"}, {"type": "null"}],
    }
    return {
        "summary": "one of them as it is now, or that it has ended",
        "payload": {
            "type": "object",
            "required": ["id", "data"],
            "properties": {"id": {"type": "string", "description": "its id"}, "data": data},
            "additionalProperties": True,
        },
        "examples": [
            {"name": "changed", "payload": {"id": example["id"], "data": example}},
            {"name": "ended", "payload": {"id": example["id"], "data": None}},
        ],
    }


def _security_scheme(scheme: Document) -> Document:
    return {**scheme, "type": "httpApiKey"} if scheme["type"] == "apiKey" else scheme
