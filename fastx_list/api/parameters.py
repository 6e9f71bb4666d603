"""Reads the parameters of a request, from its query string and its body, through a schema."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NoReturn, TypeVar, cast

from flask import Request
from marshmallow import Schema
from marshmallow import ValidationError as SchemaError
from webargs.flaskparser import FlaskParser

from fastx_list.api.request import ApiRequest, Pair, json_object, pairs_of
from fastx_list.errors import ValidationError
from fastx_list.model.query import Query, QuerySchema, describe
from fastx_list.model.spelling import asked_for

MAX_KEPT_QUESTION = 512  # characters; what is asked again and again is shorter
_NO_QUESTION = Query()
Q = TypeVar("Q", bound=Query)
_schema = QuerySchema()
_NAMES = frozenset(_schema.fields)


class Parser(FlaskParser):
    """Reads parameters from one of the places below, and says in our form which are wrong."""

    def handle_error(self, error: SchemaError, *args: Any, **kwargs: Any) -> NoReturn:
        raise ValidationError(describe(error)) from None


parser = Parser()


@parser.location_loader("anywhere")
def load_parameters(request: Request, schema: Schema) -> dict[str, Any]:
    """Return the parameters of the query string and the body: the body wins, filters of both
    hold."""
    names = frozenset(schema.fields)
    merged = asked_for(cast(ApiRequest, request).query_pairs, names)
    if request.method == "POST":
        body = asked_for(cast(ApiRequest, request).body_pairs, names)
        filters = merged.get("filter", []) + body.get("filter", [])
        merged |= body
        if filters:
            merged["filter"] = filters
    return merged


@parser.location_loader("body")
def load_body(request: Request, schema: Schema) -> dict[str, Any]:
    """Return the JSON object in the body."""
    return json_object(request.mimetype, request.get_data(), takes=())


def read_query(request: Request) -> Query:
    """Return what a request for a list asks; raises :class:`ValidationError`."""
    # Of a POST, too: what is wrong there is refused also where the body wins
    return _with_body(request, _schema, parse_query_string(request.query_string))


def read_past_query(request: Request, schema: QuerySchema, kind: type[Q]) -> Q:
    """Return what a request for the history, or for events, asks, which ``schema`` makes a ``kind``
    of; raises :class:`ValidationError`."""
    return _with_body(
        request, schema, cast(Q, load_pairs(schema, cast(ApiRequest, request).query_pairs))
    )


def load_pairs(schema: Schema, pairs: Iterable[Pair]) -> Any:
    """Return what ``schema`` makes of ``pairs`` of a query string; raises
    :class:`ValidationError`."""
    try:
        return schema.load(asked_for(pairs, frozenset(schema.fields)))
    except SchemaError as error:
        raise ValidationError(describe(error)) from None


def _with_body(request: Request, schema: Schema, asked: Q) -> Q:
    """Return what a request asks whose address has ``asked`` that."""
    if request.method == "POST":
        return cast(Q, parser.parse(schema, request, location="anywhere"))
    if cast(ApiRequest, request).has_body:
        raise ValidationError("body: only a POST has one; send the parameters in the address")
    return asked


def parse_query_string(query_string: bytes) -> Query:
    """Return what a query string asks of a list; raises :class:`ValidationError`."""
    if not query_string:
        return _NO_QUESTION
    try:
        asked = asked_for(pairs_of(query_string), _NAMES)
        return _query_of(asked) if len(query_string) <= MAX_KEPT_QUESTION else _load(asked)
    except SchemaError as error:
        raise ValidationError(describe(error)) from None


def _query_of(asked: dict[str, Any]) -> Query:
    # Of a new question most values were asked before, and the schema takes longer than all the rest
    try:
        values = {
            name: _filters(tuple(said)) if name == "filter" else _value(name, said)
            for name, said in asked.items()
        }
    except SchemaError:
        return _load(asked)  # which names all faults
    query: Query = _schema.make_query(values)
    return query


@lru_cache(maxsize=1024)
def _value(name: str, text: str) -> Any:
    return _schema.fields[name].deserialize(text)


@lru_cache(maxsize=1024)
def _filters(texts: tuple[str, ...]) -> Any:
    return _schema.fields["filter"].deserialize([*texts])


def _load(asked: dict[str, Any]) -> Query:
    query: Query = _schema.load(asked)
    return query
