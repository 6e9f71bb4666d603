"""Random operations and faults. ``python -m tests.chaos`` does the same for as long as you like."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.faults import fitting
from tests.support import needs_root

ROUNDS = 20
SEED = 1
MOST_SECONDS = 1200.0  # generous, since nothing here is about speed


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_whatever_happens_every_worker_and_every_subscriber_says_the_truth(store: str) -> None:
    needs_root()
    command = [sys.executable, "-m", "tests.chaos", "--quick", "--store", store]
    done = subprocess.run(
        [*command, "--rounds", str(ROUNDS), "--seed", str(SEED)],
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        cwd=Path(__file__).parents[2],
    )
    if done.returncode == 2:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_each_store_has_faults_of_its_own_and_all_that_are_common(store: str) -> None:
    names = {fault.name for fault in fitting(store)}
    assert {"agent_killed", "sidecar_killed", "list_killed", "all_stopped_for_long"} < names
    prefix = "redis_" if store == "redis" else "database_"
    assert any(name.startswith(prefix) for name in names)
