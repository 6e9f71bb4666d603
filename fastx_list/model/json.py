"""JSON texts as RFC 8259 has them."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def to_json(value: object) -> str:
    """Return the compact JSON text of ``value``; raises ``ValueError`` for NaN and infinities,
    which JSON does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class DuplicateName(ValueError):
    """An object has two members with one name: parsers don't agree on which of them holds."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def from_json(text: str | bytes, unique: bool = False) -> Any:
    """Return what the JSON ``text`` says; bytes are UTF-8. A byte-order mark before it is ignored,
    as RFC 8259 section 8.1 lets parsers do.

    Raises ``ValueError`` if it is not well-formed as RFC 8259 has it (NaN and Infinity are Python's
    idea), ``RecursionError`` if it is nested too deep, and :class:`DuplicateName` if names are to
    be ``unique`` and are not.
    """
    plain = text.decode("utf-8") if isinstance(text, bytes) else text
    return json.loads(
        plain.removeprefix("\ufeff"),
        parse_constant=_refuse_constant,
        object_pairs_hook=_unique if unique else None,
    )


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        for name, _ in members:
            if name not in found:
                raise DuplicateName(name)
            del found[name]
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
