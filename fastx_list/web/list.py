"""``GET|POST /api/list/<token>``: the sessions of the token's login. What is listed elsewhere is
answered in the same way."""

from __future__ import annotations

import re

from flask import Blueprint, Response, request
from werkzeug.http import parse_etags

from fastx_list.api.addresses import SESSIONS, Listing, with_token
from fastx_list.api.authentication import authenticate
from fastx_list.api.parameters import read_query
from fastx_list.api.revisions import list_tag
from fastx_list.api.services import STALE, Services, services
from fastx_list.model.query import Query
from fastx_list.replica.topics import Topic
from fastx_list.web.turns import in_parts, request_began

blueprint = Blueprint("list", __name__)
# What proxies that compress put behind our entity tag, such as Apache's -gzip and Jetty's --gzip
_CODING = re.compile(r'[-;:]{1,2}(?:gzip|br|deflate|zstd)"')


@with_token(blueprint, SESSIONS.address, "GET", "POST")
def list_sessions(token: str | None) -> Response:
    """Answer with a JSON array of sessions, or with 304 if the client has it already."""
    return respond(SESSIONS, token)


def respond(listing: Listing, token: str | None) -> Response:
    """Answer this request for ``listing``; ``token`` is that of its path."""
    service = services()
    service.refresh(request_began())
    claims = authenticate(service, token, listing.admin)
    query = read_query(request)
    condition = request.headers.get("If-None-Match")
    return Response(*answer(service, listing.topic(claims), query, condition))


def answer(
    service: Services, topic: Topic, query: Query, condition: str | None
) -> tuple[bytes, int, list[tuple[str, str]]]:
    """Return what ``query`` asks of ``topic``: the body, the HTTP status and the headers.

    The status is 304 if ``condition``, the If-None-Match of the request, says that the client has
    it already.
    """
    if service.replica.takes_long(topic, query):
        in_parts(topic, service.replica.prepare(topic, query))
    step = service.replica.trail.revision(topic)  # first, so that the page is at least as new
    page, settings = service.replica.page(topic, query), service.settings
    etag = f"{page.etag}-result" if settings.envelope else page.etag
    headers = [
        ("ETag", f'"{etag}"'),
        ("X-Revision", step + list_tag(topic, query.filters, settings.hides_ours)),
        ("Cache-Control", "private, no-cache"),
        ("X-Total-Count", str(page.total)),
    ]
    if service.replica.problem:
        headers.append(("Warning", f'110 - "{STALE}"'))  # RFC 7234 section 5.5.1
    # As a rule it is what we sent, word for word
    if condition is not None and (
        condition == headers[0][1] or parse_etags(_CODING.sub('"', condition)).contains_weak(etag)
    ):
        return b"", 304, headers
    headers.append(("Content-Type", "application/json"))
    body = b'{"result":%s}' % page.body if settings.envelope else page.body
    return body, 200, headers
