"""Believes what a proxy says of its client (``X-Forwarded-For``, ``-Proto``, ``-Host``,
``-Prefix``), and nobody else."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

from fastx_list.api.local import FORWARDED, local_uid
from fastx_list.values import UNIX, Network

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Request


def is_among(peer: str, networks: frozenset[Network | str]) -> bool:
    """Whether the address of a ``peer`` is in one of ``networks``. Raises ``ValueError`` if it is
    no address."""
    if not peer:  # gunicorn has no address for the peer on a Unix socket
        return UNIX in networks
    address = ipaddress.ip_address(peer)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(not isinstance(network, str) and address in network for network in networks)


def asks_directly(request: Request, allowed: frozenset[Network | str]) -> bool:
    """Whether ``request`` comes from one of ``allowed``, and no proxy passes it on."""
    if any(name in request.headers for name in FORWARDED):
        return False
    if local_uid(request.environ) not in (None, 0):  # any user, and not who may open our sockets
        return False
    try:
        return is_among(request.environ.get("REMOTE_ADDR", ""), allowed)
    except ValueError:
        return False


def behind_proxies(
    application: WSGIApplication, trusted: frozenset[Network | str]
) -> WSGIApplication:
    """Return ``application`` as it is seen through the ``trusted`` proxies, which are the peers
    that connect to it."""
    if not trusted:
        return application
    forwarded = ProxyFix(application, x_for=1, x_proto=1, x_host=1, x_prefix=1)

    @lru_cache(maxsize=1024)
    def is_trusted(peer: str) -> bool:
        return is_among(peer, trusted)

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        is_proxy = is_trusted(environ.get("REMOTE_ADDR", "")) and local_uid(environ) is None
        return (forwarded if is_proxy else application)(environ, start_response)

    return serve
