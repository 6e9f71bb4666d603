"""What can go wrong: each fault is a function that breaks something, lets operations go on in its
``yield``, and mends it. What it may lead to it says before, in the truth's excuses; all else is
wrong.

``FAULTS`` is the table of all; importing this package fills it.
"""

from __future__ import annotations

from tests.chaos.faults import (
    backups,
    clocks,
    database,
    disk,
    files,
    limits,
    processes,
    redis,
    spool,
)
from tests.chaos.faults.table import FAULTS, Fault, fitting

__all__ = ["FAULTS", "Fault", "fitting"]

assert all((backups, clocks, database, disk, files, limits, processes, redis, spool))
