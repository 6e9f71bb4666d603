"""What happens to sessions, tokens and servers, one JSON object each, and what may be asked of
that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple

from fastx_list.model.history import HistorySchema, Moment, paged
from fastx_list.model.json import to_json
from fastx_list.model.query import JsonSchema, Query, QuerySchema
from fastx_list.model.session import MILLISECONDS


class What(str, Enum):
    """The kinds of events, by their names in the JSON."""

    SESSION_BEGAN = "sessionBegan"
    CLIENT_CONNECTED = "clientConnected"
    CLIENT_LEFT = "clientLeft"
    SESSION_ENDED = "sessionEnded"
    PARAMS_SET = "paramsSet"
    TOKEN_ISSUED = "tokenIssued"
    TOKEN_REVOKED = "tokenRevoked"
    SERVER_CAME = "serverCame"
    SERVER_LOST = "serverLost"


class Event(NamedTuple):
    """Something that has happened."""

    id: str  # its place in the order of events, and a random name; no two have the same
    at: int  # milliseconds since the Unix epoch, by the clock of whoever wrote it
    what: str
    session: str | None = None  # the ids of what it is about
    login: str | None = None
    server_id: str | None = None
    more: Mapping[str, Any] = {}  # what else is to be said of it


def members_of(event: Event) -> dict[str, Any]:
    """Return the members of ``event`` in JSON. What it is not about is left out."""
    about = {"session": event.session, "login": event.login, "serverId": event.server_id}
    return (
        {"id": event.id, "at": event.at, "event": event.what}
        | {name: value for name, value in about.items() if value is not None}
        | dict(event.more)
    )


def encode_event(event: Event) -> str:
    """Return the JSON of ``event``."""
    return to_json(members_of(event))


@dataclass
class EventsQuery(Query):
    """What one request asks of the events."""

    after: str | None = None  # only those that followed the one with this id
    since: int | None = None  # in ms since the Unix epoch, likewise
    until: int | None = None


_ID = "[0-9A-Za-z_-]{1,64}-[0-9a-f]{16}"


def is_event_id(value: object) -> bool:
    """Whether ``value`` looks like the id of an event."""
    return isinstance(value, str) and re.fullmatch(_ID, value) is not None


class _Place(Moment):
    """A moment, or the id of an event."""

    takes: ClassVar[list[JsonSchema]] = [
        {
            "type": "string",
            "pattern": f"{Moment.takes[0]['pattern'][:-2]}|{_ID})$",
            "examples": Moment.takes[0]["examples"],
        },
        Moment.takes[1],
    ]

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if is_event_id(value):
            return value
        return super()._deserialize(value, attr, data, **kwargs)


class EventsSchema(HistorySchema):
    """The parameters of a request for events, which come in their own order."""

    class Meta(QuerySchema.Meta):
        exclude = ("sortBy", "format")

    since = _Place(
        metadata={
            "description": (
                f"only what has happened since then: {MILLISECONDS}, or ISO 8601; or only what"
                " followed the event with this id"
            )
        }
    )
    until = Moment(metadata={"description": "only what had happened before; a time"})

    def _make_query(self, data: dict[str, Any]) -> Query:
        since = data.get("since")
        return EventsQuery(
            **paged(QuerySchema._make_query(self, data)),
            after=since if isinstance(since, str) else None,
            since=since if isinstance(since, int) else None,
            until=data.get("until"),
        )
