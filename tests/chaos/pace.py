"""How fast this machine is just now, by which the lengths of leases are chosen: a process that is
started again at once has to be back well within its lease, whatever else runs here."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import cache

LEAST_SECONDS = 2.0
STARTS_PER_LEASE = 6
MEASUREMENTS = 3  # of which the quickest counts


@cache
def lease_seconds() -> float:
    """Return a length of leases that suits the machine: what an agent takes to start, times six."""
    quickest = min(_start() for _ in range(MEASUREMENTS))
    return max(LEAST_SECONDS, round(STARTS_PER_LEASE * quickest, 1))


def _start() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import fastx_list.agent.keep"], check=True)
    return time.monotonic() - began
