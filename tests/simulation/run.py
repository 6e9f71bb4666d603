"""Runs histories, and makes those that fail as short as can be."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastx_list.store.sqlite import SqliteStore
from tests.simulation import disk
from tests.simulation.model import Violation
from tests.simulation.patched import simulated
from tests.simulation.steps import Step, history
from tests.simulation.world import World

PAGE_BYTES = 1024  # of the database: small ones are written sooner


@dataclass
class Report:
    """What came of some histories."""

    histories: int = 0
    steps: int = 0
    failures: dict[int, str] = field(default_factory=dict)  # by seed: what was violated

    def add(self, other: Report) -> None:
        self.histories += other.histories
        self.steps += other.steps
        self.failures.update(other.failures)


class Runner:
    """Runs one history after the other, each on a database of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.turns = 0  # that the last history took
        self._template = b""  # a database that nobody has written to

    def prepare(self) -> None:
        """Make the database that each history begins with."""
        disk.current = disk.Disk(self._directory / "template.db")
        with closing(disk.current.open()) as db:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            db.execute("PRAGMA journal_mode = WAL")  # which writes it
        store = SqliteStore(disk.current.path)
        store.snapshot()
        disk.current.close()
        self._template = disk.current.path.read_bytes()

    def run(self, steps: Sequence[Step]) -> None:
        """Take these steps. Raises :class:`Violation`."""
        directory = self._directory / "history"
        directory.mkdir()
        try:
            world = World(directory, self._template)
            try:
                for step in steps:
                    world.do(step)
            finally:
                self.turns = world.turns
                world.close()
        finally:
            shutil.rmtree(directory)

    def run_seeds(self, seeds: Iterator[int], steps: int, without: Collection[str]) -> Report:
        """Run histories until they make so many ``steps`` together, or one fails."""
        report = Report()
        while report.steps < steps and not report.failures:
            seed = next(seeds)
            report.histories += 1
            try:
                self.run(history(seed, without))
            except Violation as violation:
                report.failures[seed] = str(violation)
            report.steps += self.turns
        return report

    def shrink(self, steps: Sequence[Step]) -> list[Step]:
        """Leave out of ``steps``, which fail, what they fail without."""
        shorter = list(steps)
        size = len(shorter) // 2
        while size:
            place = 0
            while place < len(shorter):
                rest = shorter[:place] + shorter[place + size :]
                if self._fails(rest):
                    shorter = rest
                else:
                    place += size
            size //= 2
        return shorter

    def _fails(self, steps: Sequence[Step]) -> bool:
        try:
            self.run(steps)
        except Violation:
            return True
        return False


def explain(
    running: Runner, seed: int, without: Collection[str] = (), shrinks: bool = True
) -> str | None:
    """Return the history of ``seed`` with what it violates, if it does; made short as a rule."""
    steps = history(seed, without)
    try:
        running.run(steps)
        return None
    except Violation:
        shorter = running.shrink(steps) if shrinks else steps
    try:
        running.run(shorter)
    except Violation as violation:
        lines = [f"{number:3}. {step}" for number, step in enumerate(shorter, 1)]
        return "\n".join([f"history {seed}, in {len(shorter)} steps:", *lines, str(violation)])
    raise RuntimeError(f"history {seed} does not fail each time")


@contextmanager
def runner() -> Iterator[Runner]:
    """Lend one that runs histories in memory."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name, simulated():
        runner = Runner(Path(name))
        runner.prepare()
        gc.collect()
        gc.freeze()
        threshold = gc.get_threshold()
        gc.set_threshold(100_000)  # each history leaves little, and as a whole
        try:
            yield runner
        finally:
            gc.set_threshold(*threshold)
            gc.unfreeze()
