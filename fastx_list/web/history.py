"""``GET|POST /api/history/<token>`` and ``…/admin/history/<token>``: sessions that run and that
have ended, of the token's login or of all."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator

from flask import Blueprint, Response, request

from fastx_list.api.addresses import ALL_HISTORY, HISTORY, with_token
from fastx_list.api.authentication import authenticate
from fastx_list.api.parameters import read_history_query
from fastx_list.api.services import STALE, services
from fastx_list.errors import NotFound, Unavailable, ValidationError
from fastx_list.model.history import to_csv
from fastx_list.replica.past import PastPage, TooMany, past_page
from fastx_list.store import StoreError
from fastx_list.web.turns import in_parts

blueprint = Blueprint("history", __name__)


@with_token(blueprint, HISTORY, "GET", "POST")
def own_history(token: str | None) -> Response:
    """Answer with the sessions of the token's login."""
    return _respond(token, admin=False)


@with_token(blueprint, ALL_HISTORY, "GET", "POST")
def all_history(token: str | None) -> Response:
    """Answer with the sessions of all logins."""
    return _respond(token, admin=True)


def _respond(token: str | None, admin: bool) -> Response:
    service = services()
    service.refresh()
    claims = authenticate(service, token, admin)
    query = read_history_query(request)
    settings = service.settings
    if not settings.history:
        raise NotFound("no history is kept here (FASTX_LIST_HISTORY=0)")
    login = None if admin else claims.login
    now = round(time.time() * 1000)
    try:
        page = _result(
            login, past_page(service.store.archive, login, query, settings.hides_ours, now)
        )
    except TooMany as error:
        raise ValidationError(str(error)) from None
    except StoreError:
        raise Unavailable("the history cannot be read now; try again soon") from None
    headers = {"Cache-Control": "no-store"}
    if page.total is not None:
        headers["X-Total-Count"] = str(page.total)
    if service.replica.problem:
        headers["Warning"] = f'110 - "{STALE}"'
    if query.as_csv:
        headers["Content-Disposition"] = 'attachment; filename="sessions.csv"'
        text = to_csv(map(json.loads, page.texts), settings.hides_ours)
        return Response(text, headers=headers, content_type="text/csv; charset=utf-8")
    body = f"[{','.join(page.texts)}]"
    body = f'{{"result":{body}}}' if settings.envelope else body
    return Response(body, headers=headers, mimetype="application/json")


def _result(whose: str | None, working: Generator[None, None, PastPage]) -> PastPage:
    """Return what ``working`` works out, in parts between which others have their turn."""
    result: list[PastPage] = []

    def parts() -> Iterator[None]:
        result.append((yield from working))

    steps = parts()
    in_parts(("history", whose), steps)
    for _ in steps:  # where nobody waits for a turn it is still to be done
        pass
    return result[0]
