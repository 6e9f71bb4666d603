"""Random operations and faults on the product as it runs: ``python -m tests.chaos --rounds 1000
--store sqlite --seed 7`` (as root).

A round is ten operations around one fault. After it every subscriber's state, built from its
messages alone, equals the list of every worker, which equals the truth; and nothing that anybody
was told meanwhile was wrong. docs/reliability.md has what is promised.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time

import pytest

from tests.chaos.agreement import PATIENCE_SECONDS
from tests.chaos.faults import FAULTS
from tests.chaos.namespace import enter
from tests.chaos.run import run


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--seed", type=int, help="another one each time, unless it is given")
    parser.add_argument("--faults", default="", help="only these, joined with commas")
    parser.add_argument("--quick", action="store_true", help="no faults that last long")
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE_SECONDS,
        help="seconds in which all have to agree after a round (%(default)s)",
    )
    parser.add_argument("--list", action="store_true", help="print the faults' names, and no more")
    options = parser.parse_args()
    if options.list:
        for name, fault in FAULTS.items():
            print(f"{name:45} {', '.join(fault.stores)}")
        return 0
    try:
        enter()
    except pytest.skip.Exception as reason:
        print(f"it cannot be run: {reason}", file=sys.stderr)
        return 2
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    print(f"{options.store}, seed {seed}, {options.rounds} rounds", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was made is removed
    began = time.monotonic()
    try:
        figures = run(
            options.store,
            seed,
            options.rounds,
            lambda text: print(text, flush=True),
            names=[name for name in options.faults.split(",") if name],
            is_quick=options.quick,
            patience=options.patience,
        )
    except AssertionError as error:
        print(error, file=sys.stderr)
        return 1
    for name, seconds in sorted(figures.faults.items()):
        print(f"{name:45} {len(seconds):4} times, {statistics.median(seconds):6.1f} s each")
    for text in figures.silences:
        print(text)
    print(
        f"all agreed after each of {options.rounds} rounds: {figures.operations} operations,"
        f" {sum(map(len, figures.faults.values()))} faults, {figures.messages} messages to"
        f" subscribers, {sum(figures.answers.values())} answers"
        f" in {time.monotonic() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
