"""``GET|POST /api/events/<token>`` and ``…/admin/events/<token>``: what has happened to the
sessions and tokens of the token's login, or to all and to servers."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace

from flask import Blueprint, Response, request

from fastx_list.api.addresses import ALL_EVENTS, EVENTS, with_token
from fastx_list.api.authentication import authenticate
from fastx_list.api.parameters import read_past_query
from fastx_list.api.services import services
from fastx_list.model.event import EventsQuery, EventsSchema, is_event_id
from fastx_list.model.json import to_json
from fastx_list.replica.past import NOT_ALL_KEPT, events_page
from fastx_list.tokens import Tokens
from fastx_list.web.history import answered, work_out

_PLACE_BYTES, _SIGN_BYTES = 24, 8  # of what a login is told of an event's place; room to spare
blueprint = Blueprint("events", __name__)


@with_token(blueprint, EVENTS, "GET", "POST")
def own_events(token: str | None) -> Response:
    """Answer with what has happened to the sessions and tokens of the token's login."""
    return _respond(token, admin=False)


@with_token(blueprint, ALL_EVENTS, "GET", "POST")
def all_events(token: str | None) -> Response:
    """Answer with all that has happened."""
    return _respond(token, admin=True)


def _respond(token: str | None, admin: bool) -> Response:
    service = services()
    service.refresh()
    login = authenticate(service, token, admin).login
    query = read_past_query(request, EventsSchema(), EventsQuery)
    ids = None if admin else OwnIds(service.tokens, login)
    if ids is not None and query.after is not None:
        query = replace(query, after=ids.meant(query.after))
    whose, shown = (None, str) if ids is None else (login, ids.shown)
    found = work_out(whose, events_page(service.store.archive, whose, query, shown))
    warnings = (f'199 - "{NOT_ALL_KEPT}"',) if found.has_gap else ()
    answer = answered(service, to_json(found.items), *warnings)
    place = shown(found.place or "")
    if is_event_id(place):  # anybody may have written it
        answer.headers["X-Revision"] = place
    return answer


class OwnIds:
    """The ids of events as a login is told them: those of the store count what happens to all."""

    def __init__(self, tokens: Tokens, login: str) -> None:
        self._tokens, self._login = tokens, login

    def shown(self, event_id: str) -> str:
        """Return what the login is told of an event's id, which is a place and a random name."""
        place, _, name = event_id.rpartition("-")
        plain = place.encode()[:_PLACE_BYTES].ljust(_PLACE_BYTES) + self._sign(place, name)
        return f"{urlsafe_b64encode(self._mixed(plain, name)).decode().rstrip('=')}-{name}"

    def meant(self, event_id: str) -> str:
        """Return of which event the login was told this; of none it is the id of none."""
        text, _, name = event_id.rpartition("-")
        try:
            plain = self._mixed(urlsafe_b64decode(text + "=" * (-len(text) % 4)), name)
            place = plain[:_PLACE_BYTES].decode("ascii").rstrip()
        except ValueError:
            return "-"
        is_ours = hmac.compare_digest(plain[_PLACE_BYTES:], self._sign(place, name))
        return f"{place}-{name}" if is_ours else "-"

    def _sign(self, place: str, name: str) -> bytes:
        return self._tokens.digest(f"sign {place} {name} {self._login}")[:_SIGN_BYTES]

    def _mixed(self, plain: bytes, name: str) -> bytes:
        key = self._tokens.digest(f"mix {name} {self._login}")
        return bytes(one ^ other for one, other in zip(plain, key, strict=False))
