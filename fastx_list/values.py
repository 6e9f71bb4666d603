"""How a setting is declared, and what its text means: one reader a kind of value.

A reader raises ``ValueError`` with the words that follow "takes" in the error.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from fastx_list.model.session import MEMBERS
from fastx_list.store import address
from fastx_list.text import FALSE, TRUE

MIN_SECRET_BYTES = 32  # RFC 7518 section 3.2: a key for HS256 has at least 256 bits
UNIX = "unix"  # among the trusted proxies: whoever connects over a Unix socket

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
THIS_MACHINE: frozenset[Network | str] = frozenset(
    (UNIX, ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1"))
)
Environment = Mapping[str, str]
T = TypeVar("T")


class Declared(NamedTuple):
    """What is said of a setting: how its value is read, and its columns of the documentation."""

    read: Callable[[str], Any]
    find: Callable[[Environment], Any] | None  # the default, where it is not always the same
    default: str
    takes: str


def setting(
    read: Callable[[str], T],
    default: T,
    takes: str,
    shown: str | None = None,
    is_secret: bool = False,
) -> T:
    """Declare a setting that is ``default`` unless it is set; ``shown`` says that to people."""
    declared = Declared(read, None, shown or _shown(default), takes)
    return field(default=default, metadata={"": declared}, repr=not is_secret)


def found(
    read: Callable[[str], T],
    find: Callable[[Environment], T],
    takes: str,
    shown: str,
    is_secret: bool = False,
) -> T:
    """Declare a setting whose default is looked up."""
    declared: T = field(metadata={"": Declared(read, find, shown, takes)}, repr=not is_secret)
    return declared


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"{default:g}" if isinstance(default, int | float) else "none"


def text(value: str) -> str:
    return value


def matching(pattern: str, takes: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{takes}, not {value!r}")
        return value

    return read


def hook(value: str) -> str:
    try:
        parts = urlsplit(value)
        host = (parts.hostname or "").encode("idna")
        is_one = bool(host) and parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or parts.username is not None or not re.fullmatch("[!-~]+", value):
        # It is not repeated: a part of it may be secret
        raise ValueError("a URL such as https://example.org/hook, percent-encoded and without user")
    return value


# Schemes whose addresses a browser runs or reads itself
_NO_LINK = ("javascript", "data", "vbscript", "file", "blob", "about", "filesystem", "view-source")


def link(value: str) -> str:
    """Return the template of a link to a session. It holds names of members in braces."""
    scheme, _, rest = value.partition(":")
    names = re.findall(r"\{([^{}]*)\}", rest)
    left = re.sub(r"\{[^{}]*\}", "", rest)
    if (
        re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme)
        and scheme.lower() not in _NO_LINK
        and re.fullmatch(r"[!-~]*", value)
        and not set('{}<>"\\^`|') & set(left)
        and (scheme.lower() not in ("http", "https") or re.match(r"//[^/]", rest))
        and all(name in MEMBERS and name != "params" for name in names)
        and rest
    ):
        return value
    raise ValueError(
        "a URL with names of members in braces, such as https://portal.example.org/{display}, of"
        f" http, https or an application's own scheme, not {value!r}"
    )


def path(value: str) -> Path:
    return Path(value).expanduser().absolute()


def file(value: str) -> Path:
    try:
        is_file = stat.S_ISREG(os.stat(value).st_mode)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"the path of a file; at {value!r}: {reason}") from None
    if not is_file:
        raise ValueError(f"the path of a file; there is none at {value!r}")
    return Path(value)


def store(value: str) -> str:
    address.parse(value)
    return value


def secret(value: str) -> str:
    if len(value.encode("utf-8", "replace")) < MIN_SECRET_BYTES or not value.isprintable():
        raise ValueError(f"at least {MIN_SECRET_BYTES} bytes; make one with: openssl rand -hex 32")
    return value


def boolean(value: str) -> bool:
    if value.lower() not in TRUE + FALSE:
        raise ValueError(f"true or false, not {value.lower()!r}")
    return value.lower() in TRUE


def number(low: float, high: float) -> Callable[[str], float]:
    def read(value: str) -> float:
        # Not float's own forms, such as nan and 1e9
        if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", value) and low <= float(value) <= high:
            return float(value)
        raise ValueError(f"a number from {low:g} to {high:g}, not {value!r}")

    return read


def whole(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if re.fullmatch(r"[0-9]{1,15}(\.0{1,15})?", value) and low <= float(value) <= high:
            return int(float(value))
        raise ValueError(f"a whole number from {low:g} to {high:g}, not {value!r}")

    return read


def port(value: str) -> int | None:
    return whole(0, 65535)(value) or None


def names(value: str) -> tuple[str, ...] | None:
    return tuple(value.replace(",", " ").split()) or None


def origins(value: str) -> tuple[str, ...]:
    origins = names(value) or ()
    for origin in origins:
        if not re.fullmatch(r"https?://[^/\s*]+", origin):
            raise ValueError(f"origins such as https://portal.example.org, not {origin!r}")
    return origins


def proxies(value: str) -> frozenset[Network | str]:
    try:
        return frozenset(
            each if each == UNIX else ipaddress.ip_network(each) for each in names(value) or ()
        )
    except ValueError as error:
        raise ValueError(f"addresses, networks such as 10.0.0.0/8, and unix: {error}") from None
