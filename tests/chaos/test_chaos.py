"""Random operations and faults. ``python -m tests.chaos`` does the same for as long as you like."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.faults import fitting
from tests.support import Processes, needs_root

STORES = ("sqlite", "redis")
ROUNDS = 20
SEED = 1
MOST_SECONDS = 1200.0  # generous, since nothing here is about speed


class Chaos:
    """The runs of all stores at once, each in a part of the machine of its own: most of the time
    they wait, for leases to end."""

    def __init__(self, logs: Path) -> None:
        self.processes = Processes(logs)
        command = [sys.executable, "-m", "tests.chaos", "--quick", "--rounds", str(ROUNDS)]
        command += ["--seed", str(SEED), "--store"]
        root = Path(__file__).parents[2]
        self.runs = {
            store: self.processes.start([*command, store], store, cwd=root) for store in STORES
        }


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    needs_root()
    made = Chaos(tmp_path_factory.mktemp("chaos"))
    yield made
    made.processes.stop()


@pytest.mark.parametrize("store", STORES)
def test_whatever_happens_every_worker_and_every_subscriber_says_the_truth(
    chaos: Chaos, store: str
) -> None:
    code = chaos.runs[store].wait(MOST_SECONDS)
    said = chaos.processes.log(store)
    if code == 2:
        pytest.skip(said)
    assert code == 0, said


@pytest.mark.parametrize("store", STORES)
def test_each_store_has_faults_of_its_own_and_all_that_are_common(store: str) -> None:
    names = {fault.name for fault in fitting(store)}
    assert {"agent_killed", "sidecar_killed", "list_killed", "all_stopped_for_long"} < names
    prefix = "redis_" if store == "redis" else "database_"
    assert any(name.startswith(prefix) for name in names)
