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
from fastx_list.api.parameters import read_past_query
from fastx_list.api.services import STALE, Services, services
from fastx_list.errors import NotFound, Unavailable, ValidationError
from fastx_list.model.history import HistoryQuery, HistorySchema, csv_lines
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
    query = read_past_query(request, HistorySchema(), HistoryQuery)
    settings = service.settings
    if not settings.history:
        raise NotFound("no history is kept here (FASTX_LIST_HISTORY=0)")
    login = None if admin else claims.login
    now = round(time.time() * 1000)
    working = _answer(
        past_page(service.store.archive, login, query, settings.hides_ours, now),
        query.as_csv,
        settings.hides_ours,
    )
    total, text = work_out(login, working)
    answer = answered(service, text)
    if total is not None:
        answer.headers["X-Total-Count"] = str(total)
    if query.as_csv:
        answer.set_data(text)
        answer.headers["Content-Disposition"] = 'attachment; filename="sessions.csv"'
        answer.headers["Content-Type"] = "text/csv; charset=utf-8"
    return answer


def answered(service: Services, text: str, *warnings: str) -> Response:
    """Return the answer that the JSON ``text`` is, of what has happened."""
    body = f'{{"result":{text}}}' if service.settings.envelope else text
    answer = Response(body, headers={"Cache-Control": "no-store"}, mimetype="application/json")
    for warning in ((f'110 - "{STALE}"',) if service.replica.problem else ()) + warnings:
        answer.headers.add("Warning", warning)
    return answer


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


def work_out(whose: str | None, working: Generator[None, None, T]) -> T:
    """Return what ``working`` works out, in parts between which others have their turn; of each
    ``whose`` one after the other."""
    result: list[T] = []

    def parts() -> Iterator[None]:
        result.append((yield from working))

    steps = parts()
    try:
        in_parts(("history", whose), steps)
        for _ in steps:  # where nobody waits for a turn it is still to be done
            pass
    except TooMany as error:
        raise ValidationError(str(error)) from None
    except StoreError:
        raise Unavailable("what has happened cannot be read now; try again soon") from None
    return result[0]
