"""Asks the list and the sidecar very many questions of every kind.

``python -m tests.fuzz --requests 1000000 --seed 1 --workers 2``; what it finds it prints with the
command that asks that again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.fuzz.grammar import RULES
from tests.fuzz.run import Fuzzer, Report


def fuzz(seed: int, first: int, requests: int, worker: int = 0, workers: int = 1) -> Report:
    """Ask every ``workers``-th of ``requests``, from number ``first`` on."""
    with tempfile.TemporaryDirectory() as directory:
        fuzzer = Fuzzer(Path(directory), seed)
        try:
            numbers = range(first + worker, first + requests, workers)
            fuzzer.run(numbers, partial(_tell, worker, len(numbers), time.monotonic()))
        finally:
            fuzzer.close()
    return fuzzer.report


def _tell(worker: int, requests: int, began: float, report: Report) -> None:
    seconds = time.monotonic() - began
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(report.answers.items()))
    print(
        f"worker {worker}: {report.requests} of {requests} in {seconds:.0f} s,"
        f" {report.requests / seconds:.0f}/s; {sum(report.found.values())} findings; {counts}",
        flush=True,
    )


def summary(report: Report) -> str:
    """Return what was asked and answered, and what was found, for people to read."""
    every = {each.name for rule in RULES.values() for each in rule}
    lines = [f"{report.requests} requests"]
    lines += [f"  {count:8} answers {kind}" for kind, count in sorted(report.answers.items())]
    lines.append(f"{len(every & report.productions.keys())} of {len(every)} alternatives taken")
    lines += [f"  never taken: {name}" for name in sorted(every - report.productions.keys())]
    lines += [
        f"  {name}: {' MiB, then '.join(f'{size / 2**20:.0f}' for size in sizes)} MiB"
        for name, sizes in sorted(report.memory.items())
    ]
    for key, finding in report.findings.items():
        lines.append(f"FOUND {key}, {report.found[key]} times: {finding}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first request")
    parser.add_argument("--workers", type=int, default=2, help="each with a product of its own")
    args = parser.parse_args()
    workers = max(1, min(args.workers, args.requests))
    report, began = Report(), time.monotonic()
    with ProcessPoolExecutor(workers) as pool:
        one = partial(fuzz, args.seed, args.first, args.requests, workers=workers)
        for part in [pool.submit(one, worker=worker) for worker in range(workers)]:
            report.add(part.result())
    print(summary(report))
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
