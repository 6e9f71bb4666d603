"""Asks the list all the time, as portals do, and has each answer judged."""

from __future__ import annotations

import random
import threading
import time

from tests.chaos.judge import Question
from tests.chaos.operations import ALL, IDLE, MOST_REVOKED, OWN, Operations
from tests.chaos.world import World

PAUSE_SECONDS = 0.05
FINE = {200, 503}


class Prober:
    """Asks in a thread of its own. ``counts`` is how many answers there were, by status."""

    def __init__(self, world: World, operations: Operations, seed: int) -> None:
        self.counts: dict[int | None, int] = {}
        self.warned = 0
        self._world = world
        self._operations = operations
        self._random = random.Random(seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(PAUSE_SECONDS):
            try:
                revoked = self._operations.revoked
                if revoked and self._random.random() < 0.2:
                    self._ask_in_vain(len(revoked) - self._random.randint(1, MOST_REVOKED))
                else:
                    self._ask(self._random.choice((*OWN, ALL, ALL, ALL, IDLE)))
            except Exception as error:
                self._world.judge.blame(f"an answer cannot be understood: {error!r}")
                return

    def _ask(self, question: Question) -> None:
        asked, before = time.monotonic(), self._world.truth.excuses
        was_silent = before.silent
        token = self._operations.tokens[question]
        answer = self._world.ask(f"{question.path}/{token}?{question.parameters}")
        status = None if answer is None else answer.status
        self.counts[status] = self.counts.get(status, 0) + 1
        if answer is None:
            excused = was_silent or before.silent or before.deaths & {"list", "workers"}
            if not excused and not self._world.truth.excuses.deaths & {"list", "workers"}:
                self._world.judge.blame("the list does not answer")
            return
        if status not in FINE | self._world.truth.excuses.statuses:
            self._world.judge.blame(f"the list answers with {status}: {answer.body[:300]!r}")
        if status == 200 and "Warning" in answer.headers:
            self.warned += 1
        elif status == 200:
            self._world.judge.answer("the list", question, asked, answer.json)

    def _ask_in_vain(self, number: int) -> None:
        """Ask with a revoked token. While the store is away only those know that it is no longer
        good who have read so before."""
        number = max(0, number)
        is_known = number < self._operations.known_revoked
        answer = self._world.ask(f"/api/list/{self._operations.revoked[number]}")
        excuses = self._world.truth.excuses
        may_be_new = excuses.older or (answer is not None and "Warning" in answer.headers)
        fine = {401, 503} | excuses.statuses
        if answer is not None and answer.status not in fine and (is_known or not may_be_new):
            self._world.judge.blame(f"a revoked token is answered with {answer.status}")
