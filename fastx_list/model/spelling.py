"""How portals' libraries spell parameters, and how a filter spells its values.

What is only nearly a parameter is refused: a filter that were ignored would show everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from marshmallow import ValidationError

from fastx_list.model.json import from_json
from fastx_list.text import printable

MAX_SHOWN = 40  # characters of a name that is refused
MAX_KEPT_NAME = 64
SEPARATOR = "takes & between them, and not ; (in a value that is %3B)"

_FILTERS = re.compile(r"filter(?:\[[0-9]*\])?")
_WORDS = re.compile(r"[A-Za-z](?:[ _-]?[A-Za-z])*")
_QUOTED = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?:,|\Z)')
_NO_TEXT = re.compile(r"[\udc80-\udcff]")  # as surrogateescape leaves bytes
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # RFC 8259 section 6


def asked_for(said: Iterable[tuple[str, Any]], known: frozenset[str]) -> dict[str, Any]:
    """Return what these names and values say of the parameters ``known``: of several with one name
    the first, and all filters, as a list. A JSON ``null`` is the same as leaving it out.

    Raises marshmallow's ``ValidationError`` for a name that is nearly one of them, or stands where
    nobody would look for it, and for a value that is no text; bytes stand for a file. Other names
    are ignored, since portals add cache-busters.
    """
    asked: dict[str, Any] = {}
    for name, value in said:
        meant = meaning(name, known)
        if value is None:
            continue
        if meant is None:
            _look_into(name, value, known)
            continue
        if isinstance(value, str) and not value.isascii() and _NO_TEXT.search(value):
            raise ValidationError({meant: ["takes text in UTF-8"]})
        if isinstance(value, bytes):
            raise ValidationError({meant: ["takes text, and no file: send it without a filename"]})
        if meant == "filter":
            asked.setdefault(meant, []).extend(value if isinstance(value, list) else [value])
        else:
            asked.setdefault(meant, value)
    return asked


def meaning(name: str, known: frozenset[str]) -> str | None:
    """Return which of the parameters ``known`` is meant by ``name``, if any.

    ``filter[]`` and ``filter[0]`` are ``filter``, as PHP, jQuery, axios and qs spell a list. What
    else differs from a parameter in case, brackets and the like only raises marshmallow's
    ``ValidationError``.
    """
    if name in known:
        return name
    return _meaning(name, known) if len(name) <= MAX_KEPT_NAME else _look_at(name, known)


def _look_at(name: str, known: frozenset[str]) -> str | None:
    if "filter" in known and _FILTERS.fullmatch(name):
        return "filter"
    meant_by = _near(known)
    for word in _WORDS.findall(name):
        meant = meant_by.get(re.sub("[^a-z]", "", word.lower()))
        if meant is not None:
            raise _misspelt(name, meant)
    return None


_meaning = lru_cache(maxsize=1024)(_look_at)


@lru_cache
def _near(known: frozenset[str]) -> dict[str, str]:
    """Return which of the parameters ``known`` is meant by which letters."""
    near = {}
    for name in known:
        letters = name.lower()
        for each in (f"{letters}s", letters.removesuffix("s"), f"{letters}by"):
            near[each] = name
    return near | {name.lower(): name for name in known}


def _misspelt(name: str, meant: str) -> ValidationError:
    if name.startswith(";"):
        return ValidationError({"parameters": [SEPARATOR]})
    form = "filter=name==value1,value2" if meant == "filter" else meant
    why = "; the = behind it is not encoded" if name.startswith(f"{meant}=") else ""
    return ValidationError({meant: [f"is spelt {form}, and not {_shown(name)}{why}"]})


def _look_into(name: str, value: Any, known: frozenset[str]) -> None:
    """Refuse a ``value`` that holds one of the parameters ``known``, as libraries' options do that
    were taken for the body. JSON in a text may be anybody's, and holds a filter at most."""
    if isinstance(value, str):
        if not name and (meant := meaning(value.partition("=")[0], known)) is not None:
            raise _misspelt(f"={value}", meant)
        if "{" not in value:
            return
        known &= {"filter"}
        try:
            value = from_json(value)
        except (ValueError, RecursionError):
            return
    inner: list[Any] = [value]
    while inner:
        each = inner.pop()
        if isinstance(each, dict):
            for key in each:
                meant = meaning(key, known)
                if meant is not None:
                    raise ValidationError({meant: [f"stands beside {_shown(name)}, and not in it"]})
            inner += each.values()
        elif isinstance(each, list):
            inner += each


def _shown(name: str) -> str:
    return printable(name[:MAX_SHOWN])


def split_values(text: str) -> frozenset[str]:
    """Return the values in ``text``, which has commas between them.

    One that has a comma itself stands in double quotes, in which two of them stand for one (RFC
    4180 section 2). Around one without a comma they are a part of it.
    """
    if '"' not in text:
        return frozenset(value.strip() for value in text.split(","))
    values, place = set(), 0
    while place <= len(text):
        quoted = _QUOTED.match(text, place)
        if quoted and "," in quoted[1]:
            value, end = quoted[1].replace('""', '"'), quoted.end()
            after = end if text[end - 1] == "," else len(text) + 1
        else:
            end = text.find(",", place)
            end = len(text) if end < 0 else end
            value, after = text[place:end], end + 1
        values.add(value.strip())
        place = after
    return frozenset(values)


def numbers(texts: Iterable[str]) -> tuple[frozenset[int], frozenset[float]]:
    """Return the numbers among ``texts``, as JSON writes them: the whole ones exactly, and all as
    floating-point numbers. In a query string that was not encoded a plus is a blank."""
    whole, floating = set(), set()
    for text in (each.replace(" ", "+") for each in texts):
        found = _NUMBER.fullmatch(text)
        if found is None:
            continue
        value = float(text)
        floating.add(value)
        if found[1] is found[2] is None:
            whole.add(int(text))
        elif value.is_integer():
            # Beyond 2**53 the float may be another number than the one that is written
            try:
                exact = Decimal(text)
            except InvalidOperation:
                continue
            if exact == exact.to_integral_value():
                whole.add(int(exact))
    return frozenset(whole), frozenset(floating)
