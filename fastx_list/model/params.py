"""The params call: what it takes, how params are merged, and how much of them a session holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, Schema, fields, validate

from fastx_list.model.json import to_json

MAX_PARAMS = 64
MAX_PARAMS_BYTES = 8192
# Far from where a JSON parser gives up, in this process or in anyone's who reads the list
MAX_PARAMS_DEPTH = 32


class ParamsError(ValueError):
    """The params would be more than a session holds."""


def merge_params(params: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``params`` with ``patch`` merged in: a ``None`` removes a key (RFC 7396, at the top
    level only).

    Raises :class:`ParamsError` if the result has over 64 keys or its JSON text over 8 KiB.
    """
    merged = {key: value for key, value in {**params, **patch}.items() if value is not None}
    check_params(merged)
    return merged


def check_params(params: Mapping[str, Any]) -> None:
    """Raise :class:`ParamsError` if ``params`` are more than a session holds."""
    if is_deeper(params, MAX_PARAMS_DEPTH):
        raise ParamsError(
            f"params: takes arrays and objects nested at most {MAX_PARAMS_DEPTH} deep"
        )
    if len(params) > MAX_PARAMS:
        raise ParamsError(
            f"params: takes at most {MAX_PARAMS} keys in all, and this would make {len(params)}"
        )
    try:
        size = len(to_json(params).encode())
    # A lone surrogate, NaN, or no JSON at all: what can be neither stored nor sent
    except (ValueError, TypeError):
        raise ParamsError("params: takes Unicode text and finite numbers only") from None
    if size > MAX_PARAMS_BYTES:
        raise ParamsError(
            f"params: takes at most {MAX_PARAMS_BYTES} bytes of JSON in all, and this would make"
            f" {size}"
        )


def is_deeper(value: object, limit: int) -> bool:
    """Whether the arrays and objects of this JSON ``value`` are nested more than ``limit`` deep."""
    level = [value]
    for _ in range(limit + 1):
        if not level:
            return False
        inner = [
            item.values() if isinstance(item, Mapping) else item
            for item in level
            if isinstance(item, (Mapping, list))
        ]
        level = [value for values in inner for value in values]
    return bool(level)


_WRONG = ("required", "invalid", "null")
_ID = "takes the id of one of your sessions"
_PARAMS = "takes a JSON object; a null in it removes a param"


class ParamsSchema(Schema):
    """What the params call takes: a session's id, and what to merge into its params."""

    class Meta:
        unknown = EXCLUDE

    id = fields.String(
        required=True,
        validate=validate.Regexp(r"[!-~]{1,256}\Z", error=_ID),
        error_messages=dict.fromkeys(_WRONG, _ID),
        metadata={"description": _ID},
    )
    params = fields.Dict(
        required=True,
        error_messages=dict.fromkeys(_WRONG, _PARAMS),
        metadata={
            "description": (
                f"{_PARAMS}; in all a session holds at most {MAX_PARAMS}, and {MAX_PARAMS_BYTES}"
                " bytes of JSON"
            )
        },
    )
