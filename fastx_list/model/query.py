"""The list's parameters ``sortBy``, ``sortReverse``, ``start``, ``limit`` and ``filter``: what they
take and what they do.

Names and the filter's form are those of the published page ``/api/list/:token``. Everything here is
a pure function of its arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, pre_load

from fastx_list.model.spelling import numbers, split_values
from fastx_list.text import FALSE, TRUE

MAX_FILTERS = 32
MAX_FILTER_BYTES = 4096
MAX_REVISION = 256  # characters; ours are much shorter

Members = Mapping[str, Any]


@dataclass(frozen=True)
class Filter:
    """``name==value1,value2``: the member ``name`` has one of ``values``: numbers compare by value,
    all else as text.

    Whatever the values are, a session costs one look-up among them.
    """

    name: str
    values: frozenset[str]

    @cached_property
    def _booleans(self) -> frozenset[bool]:
        texts = {text.lower() for text in self.values}
        return frozenset(value for value in (False, True) if str(value).lower() in texts)

    @cached_property
    def _numbers(self) -> tuple[frozenset[int], frozenset[float]]:
        # So that no session's number is written out: 4,000 digits take a millisecond
        return numbers(self.values)

    def matches(self, members: Members) -> bool:
        """Whether a session with these ``members`` passes."""
        value = look_up(members, self.name)
        if value is None:
            return "" in self.values
        if isinstance(value, bool):
            return value in self._booleans
        if isinstance(value, (int, float)):
            whole, floating = self._numbers
            return value in whole if isinstance(value, int) else value in floating
        if isinstance(value, tuple):
            return any(each.strip() in self.values for each in value or ("",))
        return isinstance(value, str) and value.strip() in self.values


# What a question asks, in the order of its members
Asked = tuple[str | None, bool, int, int | None, tuple[Filter, ...]]


@dataclass  # not frozen, as one is made for each request, in a third of the time
class Query:
    """What one request asks for. Nobody changes one."""

    sort_by: str | None = None
    sort_reverse: bool = False
    start: int = 0
    limit: int | None = None
    filters: tuple[Filter, ...] = ()

    @property
    def asked(self) -> Asked:
        """All of it, under which an answer can be kept for the next request that asks the same.
        Python hashes and compares it quicker than this."""
        return self.sort_by, self.sort_reverse, self.start, self.limit, self.filters

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        size = 200
        for each in self.filters:
            size += 400 + sum(200 + len(value) for value in each.values)
        return size


def look_up(members: Members, name: str) -> Any:
    """Return what ``name`` stands for: a member, else one of the ``params``; ``None`` if there is
    no such thing. A member that is several texts is a tuple of them.

    ``params.name`` reaches a param that a member of the same name hides.
    """
    if name in members:
        value = members[name]
        is_texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
        return tuple(value) if is_texts else value
    params = members.get("params") or {}
    if name in params:
        return params[name]
    return params.get(name[len("params.") :]) if name.startswith("params.") else None


def matches(members: Members, filters: Iterable[Filter]) -> bool:
    """Whether a session passes all ``filters``: repetition is AND."""
    return all(condition.matches(members) for condition in filters)


def sort_key(value: Any) -> tuple[int, Any] | None:
    """Return the place of ``value`` in an order; ``None`` for what comes last in both directions.

    Numbers (and booleans, as 0 and 1) come by value and before strings; strings come casefolded,
    and several texts of a member as one; ``null``, missing, other arrays and objects come last in
    both directions; ties come by ``id`` ascending in both directions.
    """
    if isinstance(value, (int, float)):
        return (0, value)
    if isinstance(value, tuple) and value:
        value = " ".join(value)
    if isinstance(value, str):
        return (1, value.casefold())
    return None


# Each field below says beside its code what it takes, for the API's documents: in a URL or a form
# the first of these, in JSON all.
JsonSchema = dict[str, Any]
_BLANK = r"\s\x1c-\x1f\x85"  # what strip() takes off; by itself \s means less to JavaScript
_FILTER: JsonSchema = {
    "type": "string",
    "pattern": rf"^[{_BLANK}]*([^{_BLANK}=]|=[^=])[\s\S]*==",
    "examples": ["clients==0"],
}


class Whole(fields.Field[int]):
    """A whole number of 0 or more, in decimal digits or as a JSON number."""

    takes: ClassVar[list[JsonSchema]] = [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": rf"^[{_BLANK}]*[0-9]{{1,1000}}[{_BLANK}]*$"},
    ]

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> int:
        if isinstance(value, str):
            digits = value.strip()  # which takes off more than int() does
            if digits.isascii() and digits.isdigit() and len(digits) <= 1000:
                return int(digits)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise ValidationError("takes a whole number, 0 or more")


class _Boolean(fields.Field[bool]):
    """``true`` or ``false``, or one of the other words and numbers that settings take, too."""

    takes: ClassVar[list[JsonSchema]] = [
        {"type": "string", "enum": [*TRUE, *FALSE]},
        {"type": "boolean"},
        {"type": "integer", "enum": [0, 1]},
    ]

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> bool:
        text = str(value).strip().lower() if isinstance(value, (str, bool, int)) else ""
        if text not in TRUE + FALSE:
            raise ValidationError(f"takes true or false (or one of {', '.join(TRUE + FALSE)})")
        return text in TRUE


class _Name(fields.Field[str]):
    takes: ClassVar[list[JsonSchema]] = [{"type": "string", "maxLength": 256}]

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        if not isinstance(value, str) or len(value) > 256:
            raise ValidationError(
                "takes the name of a member or of one of the params, at most 256 characters"
            )
        return value.strip()


class _Filters(fields.Field[tuple[Filter, ...]]):
    """One filter or an array of them."""

    takes: ClassVar[list[JsonSchema]] = [{"type": "array", "items": _FILTER}, _FILTER]

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[Filter, ...]:
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise ValidationError(
                "takes text of the form name==value1,value2, or an array of such texts"
            )
        if len(texts) > MAX_FILTERS:
            raise ValidationError(
                f"takes at most {MAX_FILTERS} filters, and this request has {len(texts)}"
            )
        if sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) > MAX_FILTER_BYTES:
            raise ValidationError(f"takes at most {MAX_FILTER_BYTES} bytes in all filters together")
        return tuple(_parse_filter(text) for text in texts)


def _parse_filter(text: str) -> Filter:
    name, separator, values = text.partition("==")
    if not separator or not name.strip():
        raise ValidationError(
            "takes name==value1,value2 (in a URL the two equals signs are %3D%3D)"
        )
    return Filter(name.strip(), split_values(values))


class QuerySchema(Schema):
    """The parameters of a list request. Unknown ones are ignored: portals add cache-busters."""

    class Meta:
        unknown = EXCLUDE

    sortBy = _Name(
        metadata={
            "description": "member, or one of the params, to sort by; without it started, then id"
        }
    )
    sortReverse = _Boolean(metadata={"description": "true sorts from last to first"})
    start = Whole(metadata={"description": "how many to pass over"})
    limit = Whole(metadata={"description": "how many to return at most; 0 returns none"})
    filter = _Filters(
        metadata={
            "description": (
                f"name==value1,value2; comma is OR, repetition is AND; at most {MAX_FILTERS}, of"
                f" {MAX_FILTER_BYTES} bytes"
            )
        }
    )

    @pre_load
    def drop_null(self, data: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """A JSON ``null`` is the same as leaving the parameter out."""
        return {name: value for name, value in data.items() if value is not None}

    @post_load
    def make_query(self, data: dict[str, Any], **kwargs: Any) -> Query:
        return self._make_query(data)

    def _make_query(self, data: dict[str, Any]) -> Query:
        return Query(
            sort_by=data.get("sortBy") or None,
            sort_reverse=data.get("sortReverse", False),
            start=data.get("start", 0),
            limit=data.get("limit"),
            filters=data.get("filter", ()),
        )


def describe(error: ValidationError) -> str:
    """Return one line that names each member or parameter that a schema refused, and what it
    takes."""
    refused: dict[str, Any] = error.messages_dict
    # Webargs' name for where it stood
    while len(refused) == 1 and isinstance(next(iter(refused.values())), dict):
        refused = next(iter(refused.values()))
    return "; ".join(f"{name}: {_flat(texts)}" for name, texts in refused.items())


def _flat(texts: Any) -> str:
    if isinstance(texts, dict):
        return " ".join(f"{name}: {_flat(inner)}" for name, inner in texts.items())
    return " ".join(map(str, texts)) if isinstance(texts, list) else str(texts)


class _Revision(fields.Field[str]):
    takes: ClassVar[list[JsonSchema]] = [{"type": "string", "maxLength": MAX_REVISION}]

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        # What it looks like is nobody's business: one that is none is one that nobody knows
        if not isinstance(value, str) or len(value) > MAX_REVISION:
            raise ValidationError(f"takes a revision, at most {MAX_REVISION} characters")
        return value


class LiveQuerySchema(Schema):
    """The parameters of the WebSocket. A change feed has no order and no pages."""

    class Meta:
        unknown = EXCLUDE

    filter = _Filters(
        load_default=(), metadata={"description": "as over HTTP; what stops matching gets null"}
    )
    snapshot = _Boolean(
        load_default=True, metadata={"description": "0 leaves out what there is on connecting"}
    )
    since = _Revision(
        load_default=None,
        metadata={
            "description": (
                "a revision: what has changed after it comes first, in place of what there is; of"
                ' one that is not known (any more) {"revision": null}, then what there is'
            )
        },
    )
    bookmarks = _Boolean(
        load_default=False,
        metadata={
            "description": (
                '1 adds messages {"revision": "…"}: that all has been sent up to there, first once'
                " that is so, then every few seconds if it is another one"
            )
        },
    )
