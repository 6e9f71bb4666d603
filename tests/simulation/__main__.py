"""Runs very many histories, or one again.

``python -m tests.simulation --steps 100000000 --workers 2 --seed 1``; a history that fails is made
short and printed. ``python -m tests.simulation --history SEED`` repeats one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from itertools import count

from tests.simulation.run import Report, explain, runner

TELL_SECONDS = 60.0
MOST_FAILURES = 10  # of one worker, after which it is enough


def simulate(
    seed: int,
    steps: int,
    without: Collection[str] = (),
    worker: int = 0,
    workers: int = 1,
    tells: bool = False,
) -> Report:
    """Run every ``workers``-th history from ``seed`` on, without these kinds of steps, until they
    make ``steps``, or too many fail."""
    report, seeds, began = Report(), count(seed + worker, workers), time.monotonic()
    told = began
    with runner() as running:
        while report.steps < steps and len(report.failures) < MOST_FAILURES:
            some = running.run_seeds(seeds, min(20_000, steps - report.steps), without)
            report.add(some)
            if tells and some.failures:
                print(f"worker {worker}: {some.failures}", flush=True)
            if tells and (now := time.monotonic()) - told > TELL_SECONDS:
                told = now
                print(f"worker {worker}: {_rate(report, now - began)}", flush=True)
    return report


def _rate(report: Report, seconds: float) -> str:
    return (
        f"{report.steps} steps in {report.histories} histories and {seconds:.0f} s,"
        f" {report.steps / seconds:.0f} steps/s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first history")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--history", type=int, help="the seed of one that is run again")
    parser.add_argument(
        "--without", action="append", default=[], help="a kind of step to leave out"
    )
    args = parser.parse_args()
    if args.history is not None:
        seeds = [args.history]
    else:
        began = time.monotonic()
        report = Report()
        each = -(-args.steps // args.workers)
        with ProcessPoolExecutor(args.workers) as pool:
            parts = [
                pool.submit(simulate, args.seed, each, args.without, worker, args.workers, True)
                for worker in range(args.workers)
            ]
            for part in parts:
                report.add(part.result())
        print(_rate(report, time.monotonic() - began))
        seeds = list(report.failures)
    failed = False
    with runner() as running:
        for seed in seeds:
            if explanation := explain(running, seed, args.without):
                failed = True
                print(explanation)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
