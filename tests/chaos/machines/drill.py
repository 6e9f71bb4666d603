"""What can happen to a site of several machines, and what is to hold after it."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial

from tests.chaos.machines.agreement import LOGINS, Agreement
from tests.chaos.machines.site import Node, Site
from tests.chaos.machines.work import Work
from tests.support import wait_for

LOAD = 6  # changes while Redis is disturbed
LOAD_SECONDS = 0.15  # between two of them
# The kinds of steps, and how often each comes beside the others.
KINDS = {
    "edit": 10,
    "set_params": 4,
    "replace_real_session": 2,
    "cut_off": 3,
    "kill_agent": 3,
    "lose_agent": 2,
    "lose_power": 1,
    "kill_list": 2,
    "kill_sidecar": 2,
    "restart_redis": 2,
    "unplug_redis": 1,
    "lose_redis": 1,
    "wipe_redis": 2,
    "fail_over": 2,
    "switch_over": 1,
}
ASK_ITSELF = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=20) as answer:
    print(answer.status, answer.headers.get("Warning"))
"""


class TooMuchIsBroken(Exception):
    """There is nothing left that may be broken as well: one machine always serves."""


class Drill:
    """Does the steps, and keeps the truth up to date."""

    def __init__(self, site: Site, seed: int) -> None:
        self.steps: list[str] = []
        self.spent: dict[str, list[float]] = defaultdict(list)  # seconds, by kind of step
        self._site = site
        self._nodes = list(site.nodes.values())
        self._random = random.Random(seed)
        self._agreement = Agreement(site)
        self._work = Work(site, self._agreement, self._random)
        self._token = site.token(LOGINS[0])
        # By node: after which step, and how it is mended
        self._repairs: dict[str, tuple[int, str, Callable[[], None]]] = {}
        self._recalled: set[str] = set()  # the nodes whose agents know what the store knew of them
        # Each kind once, before they come by chance
        self._deck = self._random.sample(sorted(KINDS), len(KINDS))

    def begin(self) -> None:
        self._site.boot()
        for node in self._nodes:
            self._work.start_real_session(node)
        self._work.edit(8)
        self._converge()

    def round(self) -> None:
        """Do one step, and see that all is right after it."""
        due = [name for name, (after, _, _) in self._repairs.items() if after <= len(self.steps)]
        if due:
            self._mend(due[0])
            return
        kind = (
            self._deck.pop()
            if self._deck
            else self._random.choices(list(KINDS), list(KINDS.values()))[0]
        )
        self.steps.append(kind)
        try:
            with self._timed(kind):
                getattr(self, f"_{kind}")()
                self._converge()
        except TooMuchIsBroken:
            self.steps[-1] += ": not now, since too much is broken"
            self._deck.insert(0, kind)

    def end(self) -> None:
        """Mend what is broken, and see that all is right."""
        for name in list(self._repairs):
            self._mend(name)

    def close(self) -> None:
        self._agreement.close()

    def _mend(self, name: str) -> None:
        _, kind, repair = self._repairs.pop(name)
        self.steps.append(f"{kind} {name}")
        with self._timed(kind):
            self._work.edit(at=self._site.nodes[name])
            repair()
            self._converge()

    @contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.spent[kind].append(time.monotonic() - began)

    def _converge(self) -> None:
        self._agreement.converge()
        self._recalled |= {node.name for node in self._nodes if node.is_listed}

    def _choose(self, among: Callable[[Node], bool] = lambda node: True) -> Node:
        """Choose a node to be broken: one that nothing is wrong with, and so that one that serves
        stays."""
        serving = [node for node in self._nodes if node.serves and node.name not in self._repairs]
        fit = [
            node
            for node in self._nodes
            if among(node)
            and node.name not in self._repairs
            and (not node.serves or len(serving) > 1)
        ]
        if not fit:
            raise TooMuchIsBroken
        node = self._random.choice(fit)
        self.steps[-1] += f" {node.name}"
        return node

    def _mend_later(self, node: Node, kind: str, repair: Callable[[], None]) -> None:
        self._repairs[node.name] = len(self.steps) + self._random.randint(0, 2), kind, repair

    # Sessions.

    def _edit(self) -> None:
        self._work.edit()

    def _set_params(self) -> None:
        self._work.set_params()

    def _replace_real_session(self) -> None:
        node = self._choose()
        self._work.end_real_session(node)
        self._work.start_real_session(node)

    # Machines.

    def _cut_off(self) -> None:
        node = self._choose()
        node.machine.cut_off()
        self._mend_later(node, "heal", node.machine.heal)
        self._work.edit()
        if node.serves:
            self._lists_go_on(
                lambda: node.machine.run_python(ASK_ITSELF, f"{node.url}/api/list/{self._token}")
            )

    @staticmethod
    def _lists_go_on(ask: Callable[[], str]) -> None:
        """See that a list that cannot reach Redis answers, and says that it may be out of date."""

        def warns() -> bool:
            status, warning = ask().split(maxsplit=1)
            assert status == "200"
            return warning.startswith("110")

        wait_for("the warning", warns)

    def _kill_agent(self) -> None:
        """It comes back at once."""
        node = self._choose()
        node.kill("agent")
        self._recalled.discard(node.name)
        self._work.edit(at=node)
        node.start("agent")

    def _lose_agent(self) -> None:
        """Its sessions leave with its lease."""
        node = self._choose()
        node.kill("agent")
        self._recalled.discard(node.name)
        self._mend_later(node, "bring back the agent of", lambda: node.start("agent"))
        self._work.edit()

    def _lose_power(self) -> None:
        node = self._choose()
        node.lose_power()
        self._recalled.discard(node.name)
        self._work.end_real_session(node)
        self._mend_later(node, "boot", lambda: self._boot(node))
        self._work.edit()

    def _boot(self, node: Node) -> None:
        node.boot()
        self._work.start_real_session(node)

    def _kill_list(self) -> None:
        self._kill_and_start("list")

    def _kill_sidecar(self) -> None:
        self._kill_and_start("live")

    def _kill_and_start(self, name: str) -> None:
        node = self._choose(lambda node: node.serves)
        self._random.choice((node.kill, node.stop))(name)
        self._work.edit()
        node.start(name)

    # Redis.

    def _under_load(self, disturb: Callable[[], None], sure: bool) -> None:
        """Disturb Redis while sessions change and params are set. What was there before is kept."""
        self._site.redis.settle()
        self._work.set_params(2, sure)
        with ThreadPoolExecutor(1) as other:
            disturbing = other.submit(disturb)
            for _ in range(LOAD):
                self._work.edit(1)
                self._work.set_params(1, sure)
                wait([disturbing], LOAD_SECONDS)
            disturbing.result()
        self._site.redis.settle()

    def _restart_redis(self) -> None:
        """Params that were answered with 200 are kept."""
        self._under_load(lambda: self._site.redis.restart(lose_data=False), sure=True)

    def _fail_over(self) -> None:
        self._under_load(self._site.redis.fail, sure=False)

    def _switch_over(self) -> None:
        self._under_load(self._site.redis.switch, sure=False)

    def _lose_redis(self) -> None:
        """It restarts empty, and so does its replica."""
        self._work.edit()
        with self._nobody_leaves():
            self._site.redis.restart(lose_data=True)
            self._site.redis.settle()
            self._lose_what_redis_had()

    def _wipe_redis(self) -> None:
        self._work.edit(2)
        with self._nobody_leaves():
            self._site.redis.wipe()
            self._lose_what_redis_had()
            self._work.edit(2)

    @contextmanager
    def _nobody_leaves(self) -> Iterator[None]:
        """See that no subscriber is told of the end of a session that goes on."""
        subscribers = [
            each
            for node in self._nodes
            if node.answers
            for question, each in self._agreement.subscribers[node.name].items()
            if not question.filters
        ]
        told, before = [len(each.ended) for each in subscribers], self._agreement.listed_ids
        yield
        self._converge()
        staying = before & self._agreement.listed_ids
        for each, count in zip(subscribers, told, strict=True):
            left = staying.intersection(each.ended[count:])
            assert not left, f"{each.name} was told the end of {left}, which go on"

    def _lose_what_redis_had(self) -> None:
        """Agents know all but params; those that were not there, or had not asked the store yet, do
        not know times either."""
        for session in self._agreement.sessions:
            session.lose_params()
            if session.node not in self._recalled:
                session.lose_times()

    def _unplug_redis(self) -> None:
        """Lists go on from memory and say so; sidecars keep their connections."""
        before = self._connections()
        self._site.redis.master_host.cut_off()
        self._work.edit(2)
        for node in self._nodes:
            if node.answers:
                self._lists_go_on(partial(self._ask, node))
        self._site.redis.master_host.heal()
        self._converge()
        assert self._connections() == before, "sidecars dropped connections while Redis was away"

    def _ask(self, node: Node) -> str:
        answer = self._site.ask(node, f"/api/list/{self._token}")
        assert answer is not None
        return f"{answer.status} {answer.headers.get('Warning')}"

    def _connections(self) -> dict[str, int]:
        return {
            subscriber.name: subscriber.connections
            for node in self._nodes
            if node.answers
            for subscriber in self._agreement.subscribers[node.name].values()
        }
