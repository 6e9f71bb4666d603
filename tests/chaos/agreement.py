"""Whether all say the same in the end, every worker and every subscriber, and that it is the
truth."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.chaos.chronicle import Chronicle
from tests.chaos.judge import Question, by_id
from tests.chaos.operations import ALL, LIVE_URL, OWN, SERVERS, Operations
from tests.chaos.subscribers import Subscriber, snapshot
from tests.chaos.truth import Members, differs
from tests.chaos.world import LIVE_PORT, World
from tests.support import Answer, wait_for

EARLIER_MS = 5000  # of what has ended before a round history tells as well
PATIENCE_SECONDS = 240.0  # generous, since nothing here is about speed


class Agreement:
    """Compares lists, subscribers and the truth."""

    def __init__(self, world: World, operations: Operations, patience: float) -> None:
        self._world = world
        self._patience = patience  # for how many seconds agreement is waited for
        self._operations = operations
        self._difference: str | None = None
        self._agreed: Mapping[str, Members] = {}  # what all said when they agreed last
        self._chronicle = Chronicle(world.truth)
        self._since = round(time.time() * 1000) - EARLIER_MS  # when the round began

    def converge(self) -> float:
        """Wait until all agree, and learn what nobody could know before; return since when they
        do, by the monotonic clock."""
        since = 0.0

        def is_reached() -> bool:
            nonlocal since
            since = time.monotonic()
            if self._world.judge.wrong:
                raise AssertionError("\n".join(self._world.judge.wrong))
            self._difference = self._differ()
            return self._difference is None

        for subscriber in self._operations.subscribers:
            subscriber.must_hurry.set()
        try:
            wait_for("agreement", is_reached, self._patience)
            while not self._judge_what_happened():
                wait_for("agreement", is_reached, self._patience)
        except AssertionError as error:
            if self._difference is None or self._world.judge.wrong:
                raise
            raise AssertionError(f"after {self._patience:g} s, {self._difference}") from error
        for subscriber in self._operations.subscribers:
            subscriber.must_hurry.clear()
        self._operations.tidy()
        return since

    def _judge_what_happened(self) -> bool:
        """Judge events and history, unless sessions have ended or begun since all agreed, as with
        the lease of an agent that has not run for so long; return whether none has."""
        past: list[Members] = []
        for question in OWN:
            path = f"/api/history/{self._operations.tokens[question]}"
            answer = wait_for(
                "history", lambda: self._asked(f"{path}?limit=1000&since={self._since}")
            )
            past += answer.json
        now = round(time.time() * 1000)
        every = self._listed(ALL)
        if isinstance(every, str) or every.keys() != self._agreed.keys():
            return False
        with self._world.store() as store:
            for wrong in self._chronicle.check(store.archive, [*every.values()], past, now):
                self._world.judge.blame(wrong)
        self._since = now - EARLIER_MS
        return True

    def _asked(self, path: str) -> Answer | None:
        """Return the answer, unless the store is yet to be reached."""
        answer = self._world.ask(path)
        if answer is not None and answer.status not in (200, 503):
            self._world.judge.blame(f"history is answered with {answer.status}: {answer.body!r}")
        return answer if answer is not None and answer.status == 200 else None

    def _differ(self) -> str | None:
        """Say the first thing that is not as it should be."""
        if not self._operations.revoke_again():
            return "the store takes no revocation"
        for port in (8000, LIVE_PORT):
            ready = self._world.ask("/ready", port)
            if ready is None or ready.status != 200:
                return f"/ready at {port} says {ready and ready.body!r}"
        every = self._listed(ALL)
        if isinstance(every, str):
            return every
        wall = time.time()
        running = self._world.truth.running
        if difference := differs(running, every.values(), wall):
            return difference
        for question in OWN:
            if difference := self._differs_from(question, every):
                return difference
        if difference := self._servers_differ():
            return difference
        if difference := self._subscribers_differ(every):
            return difference
        if silent := self._world.silent_agent():
            return f"nothing was heard of an agent: {silent}"
        for worker in self._world.workers("list"):
            with self._world.only("list", worker):
                found = self._listed(ALL)
                good = [
                    token for token in self._operations.revoked[-1:] if not self._is_refused(token)
                ]
            if good:
                return f"worker {worker} takes a revoked token"
            if found != every:
                return f"worker {worker} says {found}, the one before said {every}"
        for worker in self._world.workers("live"):
            with self._world.only("live", worker):
                told = snapshot(f"{LIVE_URL}{ALL.path}?token={self._operations.tokens[ALL]}")
            if told != every:
                return f"worker {worker} of the sidecar tells {told}, and the list says {every}"
        self._agreed = every
        self._operations.known_revoked = len(self._operations.revoked)
        for session in running:
            session.learn(
                next(found for found in every.values() if differs([session], [found], wall) is None)
            )
        return None

    def _is_refused(self, token: str) -> bool:
        answer = self._world.ask(f"/api/list/{token}")
        return answer is not None and answer.status == 401

    def _listed(self, question: Question) -> dict[str, Members] | str:
        answer: Answer | None = self._world.ask(
            f"{question.path}/{self._operations.tokens[question]}?{question.parameters}"
        )
        if answer is None or answer.status != 200 or "Warning" in answer.headers:
            return f"{question.name}: {answer and (answer.status, answer.body)}, or a warning"
        return by_id(answer.json)

    def _differs_from(self, question: Question, every: Mapping[str, Members]) -> str | None:
        found = self._listed(question)
        wanted = {name: data for name, data in every.items() if question.may_see(data)}
        return None if found == wanted else f"{question.name}: {found}, not {wanted}"

    def _servers_differ(self) -> str | None:
        found = self._listed(SERVERS)
        if isinstance(found, str):
            return found
        running = self._world.truth.running
        for name in self._world.nodes:
            mine = [session for session in running if session.node == name]
            if name not in found or found[name]["sessions"] != len(mine):
                return f"server {name}: {found.get(name)}, not {len(mine)} sessions"
        return None

    def _subscribers_differ(self, every: Mapping[str, Members]) -> str | None:
        for subscriber in self._operations.subscribers:
            if subscriber.was_refused:
                continue
            if subscriber.is_revoked:
                return f"{subscriber.history.name} has not been sent away"
            if difference := self._subscriber_differs(subscriber, every):
                return f"{subscriber.history.name}: {difference}"
        return None

    def _subscriber_differs(
        self, subscriber: Subscriber, every: Mapping[str, Members]
    ) -> str | None:
        state, question = subscriber.state, subscriber.history.question
        if state is None:
            return "it has no connection"
        if question.of_servers:
            missing = set(self._world.nodes) - state.keys()
            return f"it lacks {missing}" if missing and subscriber.is_complete else None
        wanted = {name: data for name, data in every.items() if question.may_see(data)}
        if not subscriber.is_complete:
            if any(wanted.get(name) != data for name, data in state.items()):
                return f"{state}, which are not among {wanted}"
            subscriber.complete(lambda: dict(wanted))
            return None
        return None if state == wanted else f"{state}, not {wanted}"
