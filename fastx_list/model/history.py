"""What the history takes beside the list's own parameters, and how it is written as CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from io import StringIO
from typing import Any, ClassVar

from marshmallow import ValidationError, fields

from fastx_list.model.json import to_json
from fastx_list.model.past import CourseSchema
from fastx_list.model.query import JsonSchema, Query, QuerySchema, Whole
from fastx_list.model.session import MEMBERS, MILLISECONDS, PUBLISHED

USUAL_LIMIT = 100
MAX_LIMIT = 10_000
MAX_MOMENT = 10**15 - 1
_UNIX_EPOCH = date(1970, 1, 1).toordinal()
_LEAP_YEAR = "(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)"
_DATE = (
    f"{_LEAP_YEAR}-02-29|[1-9][0-9]{{3}}-(?:02-(?:0[1-9]|1[0-9]|2[0-8])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01]))"
)
_ISO = re.compile(
    rf"(?P<date>{_DATE})"
    r"(?:[T ](?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9])(?::(?P<second>[0-5][0-9]))?"
    # In a query string that was not encoded a plus is a blank
    r"(?:Z|(?P<sign>[+ -])(?P<hours>[01][0-9]):(?P<minutes>[0-5][0-9]))?)?"
)


@dataclass
class HistoryQuery(Query):
    """What one request asks of the history."""

    since: int | None = None  # in ms since the Unix epoch, likewise
    until: int | None = None
    as_csv: bool = False

    @property
    def is_usual(self) -> bool:
        """Whether the order is that of the ends, and nothing is filtered."""
        return not self.filters and self.sort_by is None


def moment(text: str) -> int | None:
    """Return the moment that ``text`` names, in ms since the Unix epoch; ``None`` if it is none. It
    is such a number, or a time as ISO 8601 has it, of UTC unless it says otherwise."""
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    days = date.fromisoformat(found["date"]).toordinal() - _UNIX_EPOCH
    offset = int(found["hours"] or 0) * 60 + int(found["minutes"] or 0)
    minutes = days * 1440 + hour * 60 + minute - (-offset if found["sign"] == "-" else offset)
    return max(0, (minutes * 60 + second) * 1000)


class Moment(fields.Field[Any]):
    """A moment, in ms since the Unix epoch."""

    takes: ClassVar[list[JsonSchema]] = [
        {
            "type": "string",
            "pattern": f"^(?:[0-9]{{1,15}}|{re.sub('[?]P<[a-z]+>', '?:', _ISO.pattern)})$",
            "examples": ["1700000000000", "2026-11-27T03:12:00Z"],
        },
        {"type": "integer", "minimum": 0, "maximum": MAX_MOMENT},
    ]

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_MOMENT:
            return value
        found = moment(value) if isinstance(value, str) else None
        if found is None:
            raise ValidationError(
                f"takes {MILLISECONDS}, or a time such as 2026-11-27 or 2026-11-27T03:12:00Z"
            )
        return found


class _Format(fields.Field[str]):
    takes: ClassVar[list[JsonSchema]] = [{"type": "string", "enum": ["json", "csv"]}]

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        if value not in ("json", "csv"):
            raise ValidationError("takes json or csv")
        return str(value)


def paged(asked: Query) -> dict[str, Any]:
    """Return the attributes of a :class:`Query` that asks so, but for so many at most as one answer
    has."""
    limit = USUAL_LIMIT if asked.limit is None else min(asked.limit, MAX_LIMIT)
    return {
        "sort_by": asked.sort_by,
        "sort_reverse": asked.sort_reverse,
        "start": asked.start,
        "limit": limit,
        "filters": asked.filters,
    }


class HistorySchema(QuerySchema):
    """The parameters of a request for the history."""

    limit = Whole(
        metadata={
            "description": (
                f"how many to return at most; without it {USUAL_LIMIT}, and never more than"
                f" {MAX_LIMIT}"
            )
        }
    )
    since = Moment(
        metadata={
            "description": f"only what has ended since then or runs: {MILLISECONDS}, or ISO 8601"
        }
    )
    until = Moment(metadata={"description": "only what had ended before; likewise"})
    format = _Format(metadata={"description": "csv for a spreadsheet, with times in UTC"})

    def _make_query(self, data: dict[str, Any]) -> Query:
        return HistoryQuery(
            **paged(super()._make_query(data)),
            since=data.get("since"),
            until=data.get("until"),
            as_csv=data.get("format") == "csv",
        )


_COURSE = CourseSchema().fields
# What begins so is a formula to a spreadsheet (OWASP, "CSV Injection"), also behind what some take
# for the end of a cell
_FORMULA = re.compile('(^|[;\t\r\n])(?=[\t\r\n]|[" ]*[=+@\uff1d\uff0b\uff0d\uff20-])')
_TIMES = {name for name, member in MEMBERS.items() if member.unit == MILLISECONDS}
_TIMES |= {"began", "ended"}


def columns(hides_ours: bool) -> list[str]:
    """Return the names of what history says of a session, in the order of CSV's columns: of two
    spellings one."""
    members = PUBLISHED if hides_ours else MEMBERS
    return [name for name in members if MEMBERS[name].name == name] + list(_COURSE)


def to_csv(sessions: Iterable[Mapping[str, Any]], hides_ours: bool) -> str:
    """Return sessions of the history as CSV (RFC 4180). No spreadsheet takes anything in it for a
    formula."""
    return "".join(csv_lines(sessions, hides_ours))


def csv_of(items: Iterable[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return the members ``names`` of ``items`` as CSV, likewise."""
    lines = ([_cell(name, each.get(name)) for name in names] for each in items)
    return "".join(map(_csv_line, ([*names], *lines)))


def csv_lines(sessions: Iterable[Mapping[str, Any]], hides_ours: bool) -> Iterator[str]:
    """Yield what :func:`to_csv` returns: a line with the names, and one for each session."""
    names = columns(hides_ours)
    yield _csv_line(names)
    for session in sessions:
        yield _csv_line([_cell(name, session.get(name)) for name in names])


def _csv_line(cells: list[str]) -> str:
    out = StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _TIMES and isinstance(value, int):
        try:
            time = datetime.fromtimestamp(value / 1000, timezone.utc)
        except (ValueError, OverflowError, OSError):  # a year that no calendar has
            return str(value)
        return time.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = " ".join(value)
    if isinstance(value, int | float):
        return to_json(value)
    return _FORMULA.sub(r"\1'", value if isinstance(value, str) else to_json(value))
