"""What one process uses, as proc(5) tells it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fastx_list.agent.files import read_beginning
from fastx_list.agent.process import TICKS, Process

PAGE = os.sysconf("SC_PAGESIZE")
MAX_BYTES = 4096  # of a file of a process
# To add up its pages takes the kernel some ten milliseconds for each GiB
MAX_ADDED_UP = 4 * 1024**3
AS_IT_WAS = 0.05  # of what is resident, by which it may be another without being added up again
AFRESH = 10  # rounds, in one of which that is done all the same: others may share it or no more
SLICE_SECONDS = 0.004  # in which as many are read as can be
_PSS = re.compile(rb"^Pss: +([0-9]+) kB$", re.MULTILINE)
# What systemd makes for a login (pam_systemd(8)), and for a service or what somebody starts in one
_UNIT = re.compile(rb"0::(/.*/(?!init\.scope)[^/\n]+\.(?:scope|service))\n")


@dataclass(frozen=True)
class Usage:
    """What one process had used when that was read."""

    process: Process
    own: float  # seconds of processor time
    of_children: float  # the same of those that have ended, and that it has waited for
    resident: int  # bytes, with all that it shares
    memory: int  # bytes: its share of them (PSS) where it may be read
    display: int | None  # that it was started on
    unit: bytes | None  # its control group, where that is a login's or a service's


def read_slice(
    processes: Iterable[Process], known: Mapping[int, Usage], number: int
) -> list[Usage | None]:
    """Return what as many of ``processes`` use as there is time for, at least of one; ``None`` for
    one that is no more. ``known`` is what they used before, by pid, and ``number`` the round's."""
    until, found = time.monotonic() + SLICE_SECONDS, list[Usage | None]()
    for process in processes:
        if not process.has_told_display:
            process.read_display()
        found.append(read_usage(process, known.get(process.pid), number))
        if time.monotonic() > until:
            break
    return found


def read_usage(process: Process, before: Usage | None, number: int) -> Usage | None:
    """Return what ``process`` uses, as above."""
    data = _read(process.pid, "stat")
    try:
        fields = data[data.rindex(b")") + 2 :].split(None, 23)
        own, of_children = (sum(map(int, fields[first : first + 2])) / TICKS for first in (11, 13))
        start, resident = int(fields[19]), int(fields[21]) * PAGE
    except (ValueError, IndexError):
        return None
    if start != process.stat.start or fields[0] in (b"Z", b"X", b"x"):
        return None
    if before is None or before.process.stat.start != start:
        unit = _UNIT.search(_read(process.pid, "cgroup"))
        return Usage(
            *(process, own, of_children, resident),
            memory=_share(process.pid, resident),
            display=process.display if process.has_told_display else None,
            unit=unit[1] if unit else None,
        )
    is_same = abs(resident - before.resident) <= AS_IT_WAS * resident
    if is_same and (number + process.pid) % AFRESH:
        resident, memory = before.resident, before.memory
    else:
        memory = _share(process.pid, resident)
    return Usage(process, own, of_children, resident, memory, before.display, before.unit)


def _share(pid: int, resident: int) -> int:
    """Return its share of the memory that it has ``resident``; all of that, if we may not know."""
    found = _PSS.search(_read(pid, "smaps_rollup")) if resident <= MAX_ADDED_UP else None
    return int(found[1]) * 1024 if found else resident


def _read(pid: int, name: str) -> bytes:
    try:
        return read_beginning(f"/proc/{pid}/{name}", MAX_BYTES)
    except OSError:
        return b""
