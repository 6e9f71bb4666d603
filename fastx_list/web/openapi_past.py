"""What the OpenAPI document says of the history and of events."""

from __future__ import annotations

from typing import NamedTuple

from marshmallow import Schema

from fastx_list.api.addresses import ALL_EVENTS, ALL_HISTORY, EVENTS, HISTORY
from fastx_list.api.request import FORMS
from fastx_list.model.event import EventsSchema, What
from fastx_list.model.history import HistorySchema
from fastx_list.web.operations import HEADERS, OF_EVERY_CALL, errors_of, in_query, ref, success_of
from fastx_list.web.schemas import Document, form_of, json_schema, past_item


class PastCall(NamedTuple):
    """A call that tells of what has happened."""

    address: str
    name: str  # of its operations
    tag: str  # and, before Query and Form, of what it takes
    schema: type[Schema]
    item: str  # the name of the schema of what it answers
    summary: str
    description: str
    refusals: tuple[int, ...] = ()


_HISTORY = (
    *("History", HistorySchema, "PastSession", "Tell of sessions that run and that have ended"),
    "Without sortBy the ones that run come first, then those that ended last.",
)
_EVENTS = (
    *("Events", EventsSchema, "Event", "Tell what has happened"),
    "In the order in which it has; an answer's X-Revision as since goes on from there.",
)
PAST_CALLS = (
    PastCall(HISTORY, "History", *_HISTORY),
    PastCall(ALL_HISTORY, "AllHistory", *_HISTORY, (403,)),
    PastCall(EVENTS, "Events", *_EVENTS),
    PastCall(ALL_EVENTS, "AllEvents", *_EVENTS, (403,)),
)


def past_schemas(session: Document) -> dict[str, Document]:
    """Return, by name, the JSON Schemas of what these calls take and answer, where that of a
    session is ``session``."""
    found = {"PastSession": past_item(session), "Event": _event(session["examples"][0])}
    for call in PAST_CALLS:
        schema = json_schema(call.schema)
        found[f"{call.tag}Query"] = {
            **schema,
            "description": "what to tell of; the token may stand in it, too",
        }
        found[f"{call.tag}Form"] = form_of(schema)
    return found


def _event(session: Document) -> Document:
    text, number = {"type": "string"}, {"type": "integer"}
    about = {"session": session["id"], "login": session["login"], "serverId": session["serverId"]}
    return {
        "type": "object",
        "description": "something that has happened",
        "required": ["id", "at", "event"],
        "properties": {
            "id": {**text, "description": "names it; no other has the same"},
            "at": {**number, "description": "when it happened (milliseconds since 1970-01-01 UTC)"},
            "event": {
                **text,
                "description": "what has happened: one of the examples, or a later one",
                "examples": [what.value for what in What],
            },
            "session": {**text, "description": "the id of the session that it is about, if any"},
            "login": {**text, "description": "whose that is, or the token"},
            "serverId": {**text, "description": "the server that it is about, if any"},
        },
        "additionalProperties": True,
        "examples": [
            {
                "id": "Hq3T-1f3bGm0yQm2nW8sKk5vOaPz7cRr4tYbUeXjLwA-0f1e2d3c4b5a6978",
                "at": session["lastConnect"],
                "event": What.CLIENT_CONNECTED.value,
                **about,
                "clients": 1,
                "addresses": ["192.0.2.7"],
            }
        ],
    }


def past_operations(call: PastCall, suffix: str, common: Document, envelope: bool) -> Document:
    """Return what can be done at one of the two addresses of ``call``."""
    success = success_of(
        call.summary, {"type": "array", "items": ref(call.item)}, envelope, "Warning"
    )
    errors = errors_of(*OF_EVERY_CALL, *call.refusals)
    if call.schema is HistorySchema:
        success["content"]["text/csv"] = {"schema": {"type": "string"}}
        count = {key: value for key, value in HEADERS["X-Total-Count"].items() if key != "required"}
        count["description"] += "; left out if they are too many to be counted"
        success["headers"]["X-Total-Count"] = count
        errors |= errors_of(404)
    else:
        success["headers"]["Warning"] = {
            "schema": {"type": "string", "pattern": "^(110|199) "},
            "description": "110 as elsewhere; 199: not all events are kept that followed since",
        }
        success["headers"]["X-Revision"] = {
            "schema": {"type": "string"},
            "description": "given as since, what has happened after this answer is told; left out"
            " with sortReverse, and if there is nothing to go on from",
        }
    query = [{"name": each, **parameter} for each, parameter in in_query(call.schema).items()]
    operation = {
        **common,
        "tags": [call.tag],
        "summary": call.summary,
        "description": call.description,
        "parameters": [*common["parameters"], *query],
    }
    body = {"application/json": f"{call.tag}Query", **dict.fromkeys(FORMS, f"{call.tag}Form")}
    return {
        "get": {
            **operation,
            "operationId": f"get{call.name}{suffix}",
            "responses": {"200": success, **errors},
        },
        "post": {
            **operation,
            "operationId": f"post{call.name}{suffix}",
            "responses": {"200": success, **errors, **errors_of(413, 415)},
            "requestBody": {
                "content": {kind: {"schema": ref(schema)} for kind, schema in body.items()}
            },
        },
    }
