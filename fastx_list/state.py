"""The state directory: made closed, and usable by the service that owns it also when root got there
first."""

from __future__ import annotations

import os
from pathlib import Path


def make_state_dir(path: Path) -> None:
    """Make the state directory, closed to other users, if there is none."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def give_to_owner_of(directory: Path, path: Path) -> None:
    """Give what root made at ``path`` to the owner of ``directory``; for other users, who own what
    they make, do nothing."""
    if os.geteuid() == 0:
        owner, made = directory.stat(), path.stat()
        # A confined root may not even change it to the same
        if (made.st_uid, made.st_gid) != (owner.st_uid, owner.st_gid):
            os.chown(path, owner.st_uid, owner.st_gid)
