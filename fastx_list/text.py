"""Facts as people say them, and safe to print: a session's texts are other users' making."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import cache
from importlib import metadata

# What settings and parameters take for true and for false, in any case
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def printable(value: object) -> str:
    """Return ``value`` as text that cannot steer a terminal; a dash stands for ``None``."""
    text = "–" if value is None else str(value)
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def duration(seconds: float | None) -> str:
    """Return a time in the largest unit that fits, such as ``3 h``."""
    if seconds is None:
        return "–"
    for limit, unit, name in (
        (60, 1, "s"),
        (3600, 60, "min"),
        (86400, 3600, "h"),
        (float("inf"), 86400, "d"),
    ):
        if seconds < limit:
            return f"{int(seconds // unit)} {name}"
    raise AssertionError("every number is below infinity")


def ago(milliseconds: int | None, now: float | None = None) -> str:
    """Return how long ago a time in milliseconds since the Unix epoch was, such as ``3 h ago``."""
    if milliseconds is None:
        return "–"
    seconds = (time.time() if now is None else now) - milliseconds / 1000
    return "now" if seconds < 1 else f"{duration(seconds)} ago"


def amount(count: int, what: str) -> str:
    """Return how many of ``what`` there are, such as ``1 session`` and ``2 processes``."""
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{count} {what if count == 1 else plural}"


def size(count: int) -> str:
    """Return a number of bytes in the largest unit that fits, such as ``7.7 GiB``."""
    number, units = float(count), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    for larger in units:
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"


def state(members: Mapping[str, object]) -> str:
    """Return whether anybody is connected to the session with these members."""
    clients, left = members.get("clients"), members.get("lastDisconnect")
    if clients is None:
        return "unknown"
    if clients:
        return f"connected ({clients} clients)" if clients != 1 else "connected"
    if isinstance(left, int):
        return f"disconnected {ago(left)}"
    return "never connected" if members.get("lastConnect") is None else "disconnected"


def seconds_in(duration: str) -> int | None:
    """Return how many seconds a ``duration`` such as ``30m``, ``8h`` or ``7d`` has; ``None`` if it
    is none."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", duration)
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    return int(match[1]) * units[match[2]] if match else None


@cache
def version() -> str | None:
    """Return which release this is; ``None`` if it was never installed."""
    try:
        return metadata.version("fastx-list")
    except metadata.PackageNotFoundError:
        return None
