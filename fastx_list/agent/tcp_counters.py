"""Counters of proc(5) that show whether TCP connections have come or gone, for far less than the
table of all of them costs: the kernel walks through that, used or not, and it is as long as the
machine is large."""

from __future__ import annotations

import re

from fastx_list.agent.files import read_beginning

MAX_BYTES = 8192
_IN_USE = re.compile(rb"^TCP6?: inuse ([0-9]+)", re.MULTILINE)


def connections_made(pid: int | None) -> tuple[bytes, ...] | None:
    """Return how many connections over TCP were made from and to the network namespace of process
    ``pid``, or ours, and how many there are now (SNMP's ``ActiveOpens``, ``PassiveOpens`` and
    ``CurrEstab``, RFC 4022); ``None`` if they cannot be known."""
    lines = [line.split() for line in _read(pid, "snmp").splitlines() if line[:5] == b"Tcp: "]
    if len(lines) != 2 or len(lines[0]) != len(lines[1]):
        return None
    counters = dict(zip(*lines, strict=True))
    try:
        return counters[b"ActiveOpens"], counters[b"PassiveOpens"], counters[b"CurrEstab"]
    except KeyError:
        return None


def sockets_in_use(pid: int | None) -> tuple[bytes, ...]:
    """Return how many sockets there are, those that listen included, for each family."""
    return tuple(_IN_USE.findall(_read(pid, "sockstat") + _read(pid, "sockstat6")))


def _read(pid: int | None, name: str) -> bytes:
    try:
        return read_beginning(f"/proc/{pid or 'self'}/net/{name}", MAX_BYTES)
    except OSError:  # such as sockstat6 without IPv6
        return b""
