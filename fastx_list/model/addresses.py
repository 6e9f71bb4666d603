"""Where clients come from, as text: an IPv4 or IPv6 address (RFC 5952), or ``local`` for a client
of a unix socket."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from marshmallow import ValidationError
from marshmallow.validate import Validator

LOCAL = "local"
MAX_ADDRESSES = 100  # of one session


def address_in(packed: bytes) -> str:
    """Return the address whose 4 or 16 bytes these are. One of IPv4 that stands in one of IPv6
    (RFC 4291, 2.5.5.2) is one of IPv4."""
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def in_order(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return ``addresses`` sorted, each once, and no more than a session may have."""
    return tuple(sorted(set(addresses))[:MAX_ADDRESSES])


class Addresses(Validator):
    """Takes a list of such texts."""

    def __call__(self, value: Any) -> Any:
        if len(value) > MAX_ADDRESSES or not all(map(_is_address, value)):
            raise ValidationError(
                f'takes at most {MAX_ADDRESSES} addresses of IPv4 or IPv6, or "{LOCAL}"'
            )
        return value


def _is_address(text: str) -> bool:
    try:
        return text == LOCAL or (len(text) < 64 and bool(ipaddress.ip_address(text)))
    except ValueError:
        return False
