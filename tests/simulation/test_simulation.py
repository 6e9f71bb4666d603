"""No history ends in what was not promised."""

from __future__ import annotations

import pytest

from tests.simulation.__main__ import simulate
from tests.simulation.faults import FAULTS, Fault, look_for
from tests.simulation.run import explain, runner
from tests.simulation.steps import history

SEED, STEPS, WORKERS = 1, 1_000_000, 8
FEW = 10_000
ENOUGH = 20_000  # from the seed of a history that finds a planted fault


def _run(seed: int, steps: int, worker: int = 0) -> None:
    report = simulate(seed, steps, (), worker, WORKERS)
    with runner() as running:
        for failed in report.failures:
            pytest.fail(str(explain(running, failed)))
    assert report.steps >= steps


def test_no_history_of_a_few_breaks_a_promise() -> None:
    _run(SEED, FEW)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.programs  # not that it starts any: it takes minutes of a processor
@pytest.mark.parametrize("worker", range(WORKERS))
def test_no_history_breaks_a_promise(worker: int) -> None:
    _run(SEED, STEPS // WORKERS, worker)


def test_a_history_follows_from_its_seed() -> None:
    with runner() as running:
        for seed in range(100, 110):
            steps = history(seed)
            assert steps == history(seed) != history(seed + 1)
            running.run(steps)
            turns = running.turns
            running.run(steps)
            assert running.turns == turns


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.programs
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_planted_fault_is_found(fault: Fault) -> None:
    assert look_for(fault, fault.seed, ENOUGH).failures
