"""``GET|POST /api/list/<token>``: the sessions of the token's login."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import parse_qsl

from flask import Blueprint, Request, Response, request
from marshmallow import Schema
from marshmallow import ValidationError as SchemaError
from webargs.flaskparser import FlaskParser
from werkzeug.datastructures import MultiDict

from fastx_list.api.services import Services, services
from fastx_list.errors import ValidationError
from fastx_list.model.json import from_json
from fastx_list.model.query import Query, QuerySchema, describe
from fastx_list.replica.replica import Everything, Page, Topic

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Where a token in the path is followed by nothing else, and what is listed there: nothing means the
# sessions of its login.
_ADDRESSES = (
    ("/api/list/", None),
    ("/api/admin/session/", Everything.SESSIONS),
    ("/api/admin/server/", Everything.SERVERS),
)
_NO_QUESTION = Query()
MAX_KEPT_QUESTION = 512  # characters; what is asked again and again is shorter

blueprint = Blueprint("list", __name__)
_schema = QuerySchema()


class Parser(FlaskParser):
    """Reads a request's parameters, wherever they stand, through one schema."""

    def handle_error(self, error: SchemaError, *args: Any, **kwargs: Any) -> NoReturn:
        raise ValidationError(describe(error)) from None


parser = Parser()


@parser.location_loader("anywhere")
def load_parameters(request: Request, schema: Schema) -> dict[str, Any]:
    """Return the parameters of the query string and the body: the body wins, filters of both
    hold."""
    merged = _plain(request.args)
    if request.method == "POST":
        body = _load_body(request)
        filters = [*_as_list(merged.get("filter")), *_as_list(body.get("filter"))]
        merged |= body
        if filters:
            merged["filter"] = filters
    return merged


@blueprint.route(
    "/api/list", methods=["GET", "POST"], defaults={"token": None}, strict_slashes=False
)
@blueprint.route("/api/list/<token>", methods=["GET", "POST"])
def list_sessions(token: str | None) -> Response:
    """Answer with a JSON array of sessions, or with 304 if the client has it already."""
    service = services()
    service.refresh()
    return answer(service, service.authenticate(token).login)


def answer(service: Services, topic: Topic) -> Response:
    """Return what this request asks of ``topic``."""
    # Of a POST, too: what is wrong there is refused also where the body wins
    query = _parse_query_string(request.query_string)
    if request.method == "POST":
        query = cast(Query, parser.parse(_schema, request, location="anywhere"))
    page = service.replica.page(topic, query)
    body, headers = _answer(service, page)
    if service.replica.problem:
        # RFC 7234 section 5.5.1
        headers.append(
            ("Warning", '110 - "the store cannot be read; this is its last known state"')
        )
    if "If-None-Match" in request.headers and request.if_none_match.contains_weak(page.etag):
        return Response(status=304, headers=headers)
    return Response(body, headers=[*headers, ("Content-Type", "application/json")])


def short_cut(application: WSGIApplication, service: Services) -> WSGIApplication:
    """Answer what portals ask all day, a GET with a known token in the path, before Flask, which
    would take most of the time.

    All else goes on to ``application``: other requests, and those that are to be refused. Both
    answer alike.
    """

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        token, everything = next(
            ((path[len(start) :], what) for start, what in _ADDRESSES if path.startswith(start)),
            ("", None),
        )
        if (
            environ["REQUEST_METHOD"] != "GET"
            or "HTTP_ORIGIN" in environ
            or not service.tokens.knows(token)
        ):
            return application(environ, start_response)
        try:
            service.replica.refresh()
            claims = service.tokens.verify(token, service.replica.revoked)
            if everything and not claims.admin:
                return application(environ, start_response)
            # PEP 3333: bytes as latin-1
            query = _parse_query_string(environ.get("QUERY_STRING", "").encode("latin-1"))
            body, headers = _answer(
                service, service.replica.page(everything or claims.login, query)
            )
        # Whatever it is, the application meets it again and says it in its own form
        except Exception:
            return application(environ, start_response)
        condition = environ.get("HTTP_IF_NONE_MATCH")
        if service.replica.problem or condition not in (None, headers[0][1]):
            return application(environ, start_response)
        if condition is not None:
            start_response("304 NOT MODIFIED", headers)
            return []
        start_response(
            "200 OK",
            [*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
        )
        return [body]

    return serve


def _answer(service: Services, page: Page) -> tuple[bytes, list[tuple[str, str]]]:
    body = b'{"result":%s}' % page.body if service.settings.result_envelope else page.body
    return body, [
        ("ETag", f'"{page.etag}"'),
        ("Cache-Control", "private, no-cache"),
        ("X-Total-Count", str(page.total)),
    ]


def _parse_query_string(query_string: bytes) -> Query:
    if not query_string:
        return _NO_QUESTION
    pairs = parse_qsl(
        query_string.decode("utf-8", "replace"), keep_blank_values=True, errors="replace"
    )
    # So that a cache-buster costs little
    return _parse_pairs(tuple(pair for pair in pairs if pair[0] in _schema.fields))


def _parse_pairs(pairs: tuple[tuple[str, str], ...]) -> Query:
    # A portal asks the same question again and again; a question is a pure function of its text.
    return (
        _parse_short(pairs)
        if sum(len(value) for _, value in pairs) <= MAX_KEPT_QUESTION
        else _parse(pairs)
    )


@lru_cache(maxsize=1024)
def _parse_short(pairs: tuple[tuple[str, str], ...]) -> Query:
    return _parse(pairs)


def _parse(pairs: tuple[tuple[str, str], ...]) -> Query:
    try:
        query: Query = _schema.load(_plain(MultiDict(pairs)))
    except SchemaError as error:
        raise ValidationError(describe(error)) from None
    return query


def _plain(values: MultiDict[str, str]) -> dict[str, Any]:
    plain: dict[str, Any] = values.to_dict()
    if "filter" in plain:
        plain["filter"] = values.getlist("filter")
    return plain


def _load_body(request: Request) -> dict[str, Any]:
    if request.mimetype in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return _plain(request.form)
    body = request.get_data()
    if not body:
        return {}
    return json_object(request.mimetype, body)


def json_object(mimetype: str, body: bytes) -> dict[str, Any]:
    """Return the JSON object that ``body`` is; raises :class:`ValidationError`."""
    if mimetype != "application/json":
        raise ValidationError(
            "Content-Type: takes application/json, application/x-www-form-urlencoded or"
            " multipart/form-data"
        )
    try:
        value = from_json(body)
    except (ValueError, RecursionError):
        raise ValidationError("body: it is not well-formed JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise ValidationError("body: takes a JSON object, such as {}")
    return value


def _as_list(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
