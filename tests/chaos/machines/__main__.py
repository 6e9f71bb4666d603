"""A site of several machines and what can happen to it: a seeded sequence of steps, after each of
which all has to agree.

``python -m tests.chaos.machines --rounds 1000 --seed 7`` (as root) is the long run. After every
step each subscriber's state equals each list equals the truth, nothing of another login was seen
on the way, and ids, params and times are what they were. Params alone may be lost, and only with
all that Redis had; those that were set while a replica took over may or may not be.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.machines.drill import Drill
from tests.chaos.machines.network import network
from tests.chaos.machines.site import Site
from tests.support import Processes


def drill(
    seed: int, rounds: int, say: Callable[[str], Any] = lambda text: None
) -> dict[str, list[float]]:
    """Do ``rounds`` steps of the sequence ``seed``; return how many seconds each took, by kind.

    Raises ``AssertionError`` with the seed and the steps so far if anything is not right.
    """
    # The path of a socket may not be long
    directory = Path(tempfile.mkdtemp(prefix="fastx-list-hosts-"))
    is_wrong = False
    try:
        with network(Processes(directory)) as made:
            run = Drill(Site(made, directory), seed)
            try:
                run.begin()
                for number in range(rounds):
                    began = time.monotonic()
                    run.round()
                    say(f"{number + 1:5} {run.steps[-1]:60} {time.monotonic() - began:5.1f} s")
                run.end()
                for log in directory.glob("*.log"):
                    assert "Traceback" not in log.read_text(encoding="utf-8", errors="replace"), (
                        f"an error in {log}"
                    )
            except Exception as error:
                is_wrong = True
                steps = "\n".join(f"{number + 1:5} {step}" for number, step in enumerate(run.steps))
                raise AssertionError(
                    f"seed {seed}, logs in {directory}, steps:\n{steps}\n{error}"
                ) from error
            finally:
                run.close()
        return run.spent
    finally:
        if not is_wrong:
            shutil.rmtree(directory)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=1000, help="steps (%(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        default=None,
        help="which sequence of them; without it another one each time",
    )
    options = parser.parse_args()
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    print(f"seed {seed}, {options.rounds} rounds", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was made is removed
    began = time.monotonic()
    try:
        spent = drill(seed, options.rounds, lambda text: print(text, flush=True))
    except AssertionError as error:
        print(error, file=sys.stderr)
        return 1
    except pytest.skip.Exception as reason:
        print(f"it cannot be run: {reason}", file=sys.stderr)
        return 2
    for kind, seconds in sorted(spent.items()):
        print(
            f"{kind:24} {len(seconds):4} times, median {statistics.median(seconds):5.2f} s, at most"
            f" {max(seconds):5.2f} s"
        )
    print(f"all agreed after each of {options.rounds} rounds, in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
