"""What the published page and the design say about a list request, written down a second time.

It shares nothing with the product, is slow, and goes through the rules one after the other, so that
the two agree only if both are right. Where the design is silent, the public docstrings decide:
booleans sort as 0 and 1, arrays and objects sort as ``null`` does, a number is one however it was
written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cmp_to_key
from typing import Any

Members = dict[str, Any]

# The published order, the second spelling of the last one, and ours.
MEMBERS = (
    "id",
    "serverPid",
    "geometry",
    "windowMode",
    "started",
    "lastConnect",
    "lastDisconnect",
    "command",
    "appPid",
    "clients",
    "params",
    "hostname",
    "login",
    "display",
    "serverId",
    "cpuPercentage",
    "videoRam",
    "sharing",
    "disconnectTimeout",
    "disconnectTImeout",
    "clientAddresses",
    "idleSince",
    "cpu",
    "memory",
    "kind",
)
YES = ("1", "true", "yes", "on")
NO = ("0", "false", "no", "off")


class Refused(Exception):
    """The request gets an error; the argument is the parameter it names."""


def expected(sessions: Sequence[Members], parameters: dict[str, Any]) -> tuple[list[Members], int]:
    """Return the page that a request with these raw parameters gets, and how many sessions there
    are before paging."""
    filters = read_filters(parameters.get("filter"))
    sort_by = read_name(parameters.get("sortBy"))
    backwards = read_boolean("sortReverse", parameters.get("sortReverse"))
    start = read_whole("start", parameters.get("start"))
    limit = read_whole("limit", parameters.get("limit"))

    found = []
    for session in sessions:
        if all(passes(session, name, values) for name, values in filters):
            found.append(session)

    def compare(one: Members, other: Members) -> int:
        if sort_by == "":
            result = compare_values(one["started"], other["started"], backwards)
        else:
            result = compare_values(sorted_by(one, sort_by), sorted_by(other, sort_by), backwards)
        if result != 0:
            return result
        return -1 if one["id"] < other["id"] else 1 if one["id"] > other["id"] else 0

    found.sort(key=cmp_to_key(compare))

    page: list[Members] = []
    for place, session in enumerate(found):
        if start is not None and place < start:
            continue
        if limit is not None and len(page) >= limit:
            break
        page.append(session)
    return page, len(found)


def find(session: Members, name: str) -> Any:
    """Return what a name stands for: a member, then a param, then a param behind ``params.``."""
    if name in MEMBERS:
        return session[name]
    if name in session["params"]:
        return session["params"][name]
    if name.startswith("params."):
        return session["params"].get(name[7:])
    return None


def sorted_by(session: Members, name: str) -> Any:
    """Return what is sorted by: the addresses of clients are one text."""
    value = find(session, name)
    return " ".join(value) or None if name == "clientAddresses" and value else value


def passes(session: Members, name: str, values: list[str]) -> bool:
    value = find(session, name)
    if name in MEMBERS and isinstance(value, list):
        return any(each.strip() in values for each in value) or (value == [] and "" in values)
    for wanted in values:
        if wanted == "" and value is None:
            return True
        if value is True and wanted.lower() == "true":
            return True
        if value is False and wanted.lower() == "false":
            return True
        if isinstance(value, str) and value.strip() == wanted:
            return True
        if (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and is_number(wanted.replace(" ", "+"))
            and same(value, wanted.replace(" ", "+"))
        ):
            return True
    return False


def is_number(text: str) -> bool:
    """Whether a text is a number as JSON writes it."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    is_plain = text[-1].isdigit() and (text[0] == "-" or text[0].isdigit())
    return is_plain and isinstance(found, (int, float))


def same(value: float, wanted: str) -> bool:
    """Whether a number is the one that a text says: a whole one exactly, and any other as far as
    numbers with a fraction go."""
    if isinstance(value, float):
        return value == float(wanted)
    if not math.isfinite(float(wanted)):
        return wanted == str(value)
    return Fraction(value) == Fraction(wanted)


def kind(value: Any) -> str:
    if isinstance(value, (bool, int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "nothing to sort by"


def compare_values(one: Any, other: Any, backwards: bool) -> int:
    """Return -1 if ``one`` comes first, 1 if ``other`` does, 0 if neither."""
    if kind(one) == "nothing to sort by" and kind(other) == "nothing to sort by":
        return 0
    if kind(one) == "nothing to sort by":  # last, and last too when sorting backwards
        return 1
    if kind(other) == "nothing to sort by":
        return -1
    if kind(one) != kind(other):
        result = -1 if kind(one) == "number" else 1
    elif kind(one) == "number":
        result = -1 if one < other else 1 if one > other else 0
    else:
        result = (
            -1
            if one.casefold() < other.casefold()
            else 1
            if one.casefold() > other.casefold()
            else 0
        )
    return -result if backwards else result


def read_filters(raw: Any) -> list[tuple[str, list[str]]]:
    if raw is None:
        return []
    if not isinstance(raw, list):
        raw = [raw]
    if (
        len(raw) > 32
        or not all(isinstance(one, str) for one in raw)
        or len("".join(raw).encode()) > 4096
    ):
        raise Refused("filter")
    filters = []
    for one in raw:
        place = one.find("==")
        if place == -1 or one[:place].strip() == "":
            raise Refused("filter")
        filters.append((one[:place].strip(), read_values(one[place + 2 :])))
    return filters


def read_values(text: str) -> list[str]:
    """Return what a filter asks for: what is between commas, but for those in double quotes."""
    rest, values = text.split(","), []
    while rest:
        for size in range(2, len(rest) + 1):
            quoted = ",".join(rest[:size]).strip()
            inside = quoted[1:-1].replace('""', "")
            if len(quoted) > 2 and quoted[0] == quoted[-1] == '"' and '"' not in inside:
                values.append(quoted[1:-1].replace('""', '"').strip())
                rest = rest[size:]
                break
        else:
            values.append(rest.pop(0).strip())
    return values


def read_name(raw: Any) -> str:
    if raw is None:
        return ""
    if not isinstance(raw, str) or len(raw) > 256:
        raise Refused("sortBy")
    return raw.strip()


def read_boolean(parameter: str, raw: Any) -> bool:
    if raw is None or raw is False:
        return False
    if raw is True:
        return True
    if isinstance(raw, (int, str)) and str(raw).lower() in YES:
        return True
    if isinstance(raw, (int, str)) and str(raw).lower() in NO:
        return False
    raise Refused(parameter)


def read_whole(parameter: str, raw: Any) -> int | None:
    if raw is None:
        return None
    if (
        isinstance(raw, (int, float))
        and not isinstance(raw, bool)
        and raw >= 0
        and Fraction(raw).denominator == 1
    ):
        return int(raw)
    if isinstance(raw, str) and raw != "" and all(character in "0123456789" for character in raw):
        return int(raw)
    raise Refused(parameter)
