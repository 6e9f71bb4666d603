"""JSON texts as RFC 8259 has them."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def to_json(value: object) -> str:
    """Return the compact JSON text of ``value``; raises ``ValueError`` for NaN and infinities,
    which JSON does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_json(text: str | bytes) -> Any:
    """Return what the JSON ``text`` says; bytes are UTF-8. A byte-order mark before it is ignored,
    as RFC 8259 section 8.1 lets parsers do.

    Raises ``ValueError`` if it is not well-formed as RFC 8259 has it (NaN and Infinity are Python's
    idea), ``RecursionError`` if it is nested too deep.
    """
    plain = text.decode("utf-8") if isinstance(text, bytes) else text
    return json.loads(plain.removeprefix("\ufeff"), parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
