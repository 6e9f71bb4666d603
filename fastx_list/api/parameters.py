"""Reads the parameters of a request, from its query string and its body, through a schema."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import parse_qsl

from flask import Request
from marshmallow import Schema
from marshmallow import ValidationError as SchemaError
from webargs.flaskparser import FlaskParser
from werkzeug.datastructures import MultiDict
from werkzeug.formparser import FormDataParser
from werkzeug.utils import cached_property

from fastx_list.errors import ApiError, PayloadTooLarge, ValidationError
from fastx_list.model.json import from_json
from fastx_list.model.query import Query, QuerySchema, describe

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MAX_KEPT_QUESTION = 512  # characters; what is asked again and again is shorter
_NO_QUESTION = Query()
_schema = QuerySchema()


class _Body:
    """The body of a request as it comes in. Whatever is wrong with how it is sent, its sender has
    to mend: servers say so with exceptions of their own."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except ApiError:
            raise
        except Exception:
            raise ValidationError("body: it is malformed, or ends too soon") from None


class _StrictForm(FormDataParser):
    """Refuses a form that is malformed or cut off, which would otherwise pass for one without
    fields. No body at all is one without fields."""

    def parse(
        self,
        stream: IO[bytes],
        mimetype: str,
        content_length: int | None,
        options: dict[str, str] | None = None,
    ) -> Any:
        # Of a body in chunks nothing says its length
        body = stream.read()
        self.silent = not body
        try:
            return super().parse(BytesIO(body), mimetype, len(body), options)
        except ValueError:
            raise ValidationError("body: it is not a well-formed form") from None


class ApiRequest(Request):
    """A request whose body is refused unless it is whole and well-formed."""

    form_data_parser_class = _StrictForm

    def __init__(self, environ: WSGIEnvironment, *args: Any, **kwargs: Any) -> None:
        super().__init__(environ, *args, **kwargs)
        environ["wsgi.input"] = _Body(environ["wsgi.input"])

    @cached_property
    def stream(self) -> IO[bytes]:
        """The whole body. Werkzeug would cut off one in chunks where it becomes too long."""
        body = super().stream.read()
        cut = self.content_length is None and len(body) == self.max_content_length
        if cut and self.environ["wsgi.input"].read(1):
            raise PayloadTooLarge()
        return BytesIO(body)

    def _get_file_stream(self, *args: Any, **kwargs: Any) -> IO[bytes]:
        # A file in a form is ignored, and no longer than a body: it needs none on disk
        return BytesIO()

    @cached_property
    def args(self) -> MultiDict[str, str]:
        """The pairs of the query string; werkzeug's own takes bytes that are not UTF-8 for a
        mistake of the server."""
        return self.parameter_storage_class(_pairs(self.query_string))


class Parser(FlaskParser):
    """Reads parameters from one of the places below, and says in our form which are wrong."""

    def handle_error(self, error: SchemaError, *args: Any, **kwargs: Any) -> NoReturn:
        raise ValidationError(describe(error)) from None


parser = Parser()


@parser.location_loader("anywhere")
def load_parameters(request: Request, schema: Schema) -> dict[str, Any]:
    """Return the parameters of the query string and the body: the body wins, filters of both
    hold."""
    merged = _plain(request.args)
    if request.method == "POST":
        body = _load_form_or_json(request)
        filters = [*_as_list(merged.get("filter")), *_as_list(body.get("filter"))]
        merged |= body
        if filters:
            merged["filter"] = filters
    return merged


@parser.location_loader("body")
def load_body(request: Request, schema: Schema) -> dict[str, Any]:
    """Return the JSON object in the body."""
    return json_object(request.mimetype, request.get_data())


def read_query(request: Request) -> Query:
    """Return what a request for a list asks; raises :class:`ValidationError`."""
    # Of a POST, too: what is wrong there is refused also where the body wins
    query = parse_query_string(request.query_string)
    if request.method == "POST":
        query = cast(Query, parser.parse(_schema, request, location="anywhere"))
    return query


def parse_query_string(query_string: bytes) -> Query:
    """Return what a query string asks of a list; raises :class:`ValidationError`."""
    if not query_string:
        return _NO_QUESTION
    # Without the others, so that a cache-buster costs little
    asked = tuple(pair for pair in _pairs(query_string) if pair[0] in _schema.fields)
    short = sum(len(value) for _, value in asked) <= MAX_KEPT_QUESTION
    return _parse_kept(asked) if short else _parse(asked)


def _pairs(query_string: bytes) -> list[tuple[str, str]]:
    return parse_qsl(
        query_string.decode("utf-8", "replace"), keep_blank_values=True, errors="replace"
    )


@lru_cache(maxsize=1024)
def _parse_kept(pairs: tuple[tuple[str, str], ...]) -> Query:
    # A portal asks the same question again and again; a question is a pure function of its text.
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


def _load_form_or_json(request: Request) -> dict[str, Any]:
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
