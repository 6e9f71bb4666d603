"""No history ends in what was not promised."""

from __future__ import annotations

import pytest

from tests.simulation.__main__ import explain, simulate
from tests.simulation.run import runner
from tests.simulation.steps import history

SEED, STEPS, WORKERS = 1, 20_000, 4
# Steps that do harm which is not mended yet
NOT_YET: tuple[str, ...] = ()


@pytest.mark.parametrize("worker", range(WORKERS))
def test_no_history_breaks_a_promise(worker: int) -> None:
    report = simulate(SEED, STEPS // WORKERS, NOT_YET, worker, WORKERS)
    with runner() as running:
        for seed in report.failures:
            pytest.fail(str(explain(running, seed, NOT_YET)))
    assert report.steps >= STEPS // WORKERS


def test_a_history_follows_from_its_seed() -> None:
    with runner() as running:
        for seed in range(100, 110):
            steps = history(seed, NOT_YET)
            assert steps == history(seed, NOT_YET) != history(seed + 1, NOT_YET)
            running.run(steps)
            turns = running.turns
            running.run(steps)
            assert running.turns == turns
