"""Has the kernel tell only of the TCP sockets at some local ports: sock_diag(7), inet_diag.c."""

from __future__ import annotations

import struct
from collections.abc import Iterable

MAX_RANGES = 64  # of ports, which the kernel compares one after the other
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
_BYTECODE = 1  # INET_DIAG_REQ_BYTECODE
_OP = struct.Struct("=BBH")  # inet_diag_bc_op: code, yes, no
_GO_ON, _AT_LEAST, _AT_MOST = 1, 2, 3  # INET_DIAG_BC_JMP, _S_GE, _S_LE
_RANGE_BYTES = 5 * _OP.size


def only_at(ports: Iterable[int]) -> bytes:
    """Return the attribute of a question that lets the kernel tell only of sockets at local
    ``ports``, and at some that are between them."""
    return _program(ranges(ports, MAX_RANGES))


def ranges(ports: Iterable[int], most: int) -> list[tuple[int, int]]:
    """Return at most ``most`` ranges, from and to, in which all ``ports`` are."""
    found = [(port, port) for port in sorted(set(ports))]
    if len(found) <= most:
        return found
    # The widest gaps are those that are left
    gaps = sorted(range(1, len(found)), key=lambda each: found[each - 1][1] - found[each][0])
    begins = [0, *sorted(gaps[: most - 1])]
    ends = [*(begin - 1 for begin in begins[1:]), len(found) - 1]
    return [(found[begin][0], found[end][1]) for begin, end in zip(begins, ends, strict=True)]


def _program(allowed: list[tuple[int, int]]) -> bytes:
    """Return a program of tests whether a port is in one of the ``allowed`` ranges, each with how
    far to go on if so and if not: to the end is yes, and beyond it is no."""
    program = b""
    for number, (lowest, highest) in enumerate(allowed):
        left = _RANGE_BYTES * (len(allowed) - number)
        beyond = _OP.size if number == len(allowed) - 1 else 0
        program += _OP.pack(_AT_LEAST, 2 * _OP.size, _RANGE_BYTES + beyond) + _OP.pack(0, 0, lowest)
        otherwise = _RANGE_BYTES - 2 * _OP.size + beyond
        program += _OP.pack(_AT_MOST, 2 * _OP.size, otherwise) + _OP.pack(0, 0, highest)
        program += _OP.pack(_GO_ON, _OP.size, left - 4 * _OP.size)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(program), _BYTECODE) + program
