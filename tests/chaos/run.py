"""Rounds of operations and faults, after each of which all has to agree."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.agreement import PATIENCE_SECONDS, Agreement
from tests.chaos.faults import FAULTS, Fault, fitting
from tests.chaos.operations import Operations
from tests.chaos.pace import lease_seconds
from tests.chaos.prober import Prober
from tests.chaos.truth import HEARD
from tests.chaos.world import World, world

OPERATIONS = 10  # of a round
OVERLOAD = 4.0  # processes that want to run, for each processor
BEFORE, MEANWHILE = 3, 5  # of them, before the fault and while it lasts


@dataclass
class Figures:
    """What was done."""

    operations: int = 0
    faults: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    messages: int = 0
    answers: dict[int | None, int] = field(default_factory=dict)
    silences: list[str] = field(default_factory=list)  # of agents that had no reason to be silent


class Run:
    """One run; ``steps`` is what it did."""

    def __init__(self, world: World, seed: int, faults: Sequence[Fault], patience: float) -> None:
        self.steps: list[str] = []
        self.figures = Figures()
        self._world = world
        self._random = random.Random(seed)
        self._faults = faults
        # Each once, before they come by chance
        self._deck = self._random.sample(faults, len(faults))
        self._operations = Operations(world)
        self._agreement = Agreement(world, self._operations, patience)
        self._operations.begin()
        self._agreement.converge()
        self._prober = Prober(world, self._operations, seed)

    def round(self) -> str:
        """Do some operations around a fault, and see that all is right; return which fault."""
        fault = (
            self._deck.pop()
            if self._deck
            else self._random.choices(self._faults, [each.weight for each in self._faults])[0]
        )
        began = time.monotonic()
        self.steps.append(f"-- {fault.name}")
        self._operate(BEFORE)
        with fault.do(self._world):
            self._operate(MEANWHILE)
        self.steps.append("mended")
        self._world.revive()
        self._operate(OPERATIONS - BEFORE - MEANWHILE)
        self._world.await_servers()
        agreed = self._agreement.converge()
        self._world.read_logs()
        self._judge_silence()
        if self._world.judge.wrong:
            raise AssertionError("\n".join(self._world.judge.wrong))
        self._world.truth.forget()
        self._world.hearing.forget(agreed)
        self.figures.faults[fault.name].append(time.monotonic() - began)
        return fault.name

    def _judge_silence(self) -> None:
        """An agent that nothing was done to is silent only where nobody can write, too much else
        wants to run, or the machine did not let it run."""
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
        for name, seconds in self._world.truth.starved.items():
            waited = self._world.hearing.waited(name)
            alone = self._world.hearing.silence_alone(name)
            text = (
                f"agent {name} was silent for {seconds:.1f} s, {alone:.1f} of them alone, at a load"
                f" of {load:.1f} a processor, and waited for one for {waited:.1f} s"
            )
            self.steps.append(text)
            self.figures.silences.append(text)
            is_alone = alone > HEARD * self._world.truth.lease
            if is_alone and load < OVERLOAD and waited < seconds / 2:
                self._world.judge.blame(text)

    def _operate(self, count: int) -> None:
        for _ in range(count):
            self.steps.append(f"{time.strftime('%H:%M:%S')} {self._operations.some()}")
            self.figures.operations += 1

    def close(self) -> None:
        self._prober.stop()
        self._operations.close()
        self.figures.answers = self._prober.counts
        self.figures.messages = self._operations.messages


def run(
    store: str,
    seed: int,
    rounds: int,
    say: Callable[[str], Any] = lambda text: None,
    *,
    names: Sequence[str] = (),
    is_quick: bool = False,
    patience: float = PATIENCE_SECONDS,
) -> Figures:
    """Do ``rounds`` rounds of the sequence ``seed``, with the faults ``names``, or all that fit the
    ``store``.

    Raises ``AssertionError`` with the seed, the steps so far and the directory of logs if anything
    is not right.
    """
    place = Path(tempfile.mkdtemp(prefix="fastx-chaos-"))
    lease = lease_seconds()
    faults = [FAULTS[name] for name in names] or fitting(store, is_quick)
    say(f"leases of {lease} s, {len(faults)} kinds of faults, logs in {place}")
    steps: list[str] = []
    try:
        with world(place, store, random.Random(seed), lease) as made:
            made_run = Run(made, seed, faults, patience)
            steps = made_run.steps
            try:
                for number in range(rounds):
                    began = time.monotonic()
                    name = made_run.round()
                    say(f"{number + 1:5} {name:45} {time.monotonic() - began:6.1f} s")
            finally:
                made_run.close()
    except Exception as error:
        done = "\n".join(steps[-60:])
        raise AssertionError(
            f"seed {seed}, logs in {place}, the last steps:\n{done}\n{error}"
        ) from error
    shutil.rmtree(place)
    return made_run.figures
