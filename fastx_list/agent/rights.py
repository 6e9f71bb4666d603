"""What the agent may see of other users."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

# capabilities(7), by number
_CAPABILITIES = {"CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_SYS_PTRACE": 19}
_STATUS = Path("/proc/self/status")


def rights() -> tuple[str, ...]:
    """Return the capabilities of this process that let it look into other users' processes and
    files."""
    status = _STATUS.read_text(encoding="utf-8")
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    effective = int(match[1], 16) if match else 0
    return tuple(name for name, number in _CAPABILITIES.items() if effective >> number & 1)


def missing(rights: Collection[str]) -> tuple[str, ...]:
    """Return the capabilities that whoever has ``rights`` lacks to see all of every user's
    sessions: as root, as a rule, one has them."""
    reads_files = {"CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"}.intersection(rights)
    lacks = [] if reads_files else ["CAP_DAC_READ_SEARCH"]
    return (*lacks, *(name for name in ("CAP_SYS_PTRACE",) if name not in rights))
