"""``GET|POST /api/history/<token>`` and ``…/admin/history/<token>``: sessions that run and that
have ended, of the token's login or of all."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from typing import TypeVar

from flask import Blueprint, Response, request

from fastx_list.api.addresses import ALL_HISTORY, HISTORY, with_token
from fastx_list.api.authentication import authenticate
from fastx_list.api.parameters import read_history_query
from fastx_list.api.services import STALE, services
from fastx_list.errors import NotFound, Unavailable, ValidationError
from fastx_list.model.history import csv_lines
from fastx_list.replica.past import PART, PastPage, TooMany, past_page
from fastx_list.store import StoreError
from fastx_list.web.turns import in_parts

T = TypeVar("T")
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
        working = _answer(
            past_page(service.store.archive, login, query, settings.hides_ours, now),
            query.as_csv,
            settings.hides_ours,
        )
        total, text = _result(login, working)
    except TooMany as error:
        raise ValidationError(str(error)) from None
    except StoreError:
        raise Unavailable("the history cannot be read now; try again soon") from None
    headers = {"Cache-Control": "no-store"}
    if total is not None:
        headers["X-Total-Count"] = str(total)
    if service.replica.problem:
        headers["Warning"] = f'110 - "{STALE}"'
    if query.as_csv:
        headers["Content-Disposition"] = 'attachment; filename="sessions.csv"'
        return Response(text, headers=headers, content_type="text/csv; charset=utf-8")
    body = f'{{"result":{text}}}' if settings.envelope else text
    return Response(body, headers=headers, mimetype="application/json")


def _answer(
    working: Generator[None, None, PastPage], as_csv: bool, hides_ours: bool
) -> Generator[None, None, tuple[int | None, str]]:
    """Work out in parts, and return, how many sessions there are and the text of the answer."""
    page = yield from working
    if not as_csv:
        return page.total, f"[{','.join(page.texts)}]"
    lines: list[str] = []
    for line in csv_lines(map(json.loads, page.texts), hides_ours):
        lines.append(line)
        if len(lines) % PART == 0:
            yield
    return page.total, "".join(lines)


def _result(whose: str | None, working: Generator[None, None, T]) -> T:
    """Return what ``working`` works out, in parts between which others have their turn."""
    result: list[T] = []

    def parts() -> Iterator[None]:
        result.append((yield from working))

    steps = parts()
    in_parts(("history", whose), steps)
    for _ in steps:  # where nobody waits for a turn it is still to be done
        pass
    return result[0]
