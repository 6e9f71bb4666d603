"""Release 0.1.0, as the history of this repository has it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

COMMIT = "2fceedabe6c9c4d145fd7a1c6fbd9a33c51e4432"
ROOT = Path(__file__).parents[1]


def unpack(tree: Path, commit: str = COMMIT) -> None:
    """Write all files of ``commit`` into the directory ``tree``; skip the test if they are not
    there."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip("the history that release 0.1.0 is in is not there (git fetch --unshallow)")
    subprocess.run(["tar", "x", "-C", tree], input=archive.stdout, check=True)
