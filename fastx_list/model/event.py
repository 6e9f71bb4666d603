"""What happens to sessions, tokens and servers, one JSON object each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from fastx_list.model.json import to_json


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


def encode_event(event: Event) -> str:
    """Return the JSON of ``event``. What it is not about is left out."""
    about = {"session": event.session, "login": event.login, "serverId": event.server_id}
    return to_json(
        {"id": event.id, "at": event.at, "event": event.what}
        | {name: value for name, value in about.items() if value is not None}
        | dict(event.more)
    )
