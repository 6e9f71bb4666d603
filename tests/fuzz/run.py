"""Asks one request after the other and judges the answers."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import psutil

from tests.fuzz import judge, world
from tests.fuzz.ask import ask
from tests.fuzz.grammar import CREDENTIALS, Asked
from tests.fuzz.targets import Answer, InProcess, Mistaken, over_the_wire
from tests.support import Processes, Service

MAY_GROW = 48 * 2**20  # bytes that a process may take more after 2N requests than after N


@dataclass
class Finding:
    """A mistake, and by which request it came to light."""

    number: int
    problem: str
    request: str
    seed: int

    def __str__(self) -> str:
        again = f"python -m tests.fuzz --seed {self.seed} --first {self.number} --requests 1"
        return f"{self.problem}\n  by {self.request}\n  again: {again}"


@dataclass
class Report:
    """What was asked and answered."""

    requests: int = 0
    # By target and status, or what came instead
    answers: Counter[str] = field(default_factory=Counter)
    # How often each alternative of the grammar was taken
    productions: Counter[str] = field(default_factory=Counter)
    # The first of each kind and target
    findings: dict[str, Finding] = field(default_factory=dict)
    # By kind and target
    found: Counter[str] = field(default_factory=Counter)
    # By process, in bytes: half-way and at the end
    memory: dict[str, list[int]] = field(default_factory=dict)

    def add(self, other: Report) -> None:
        self.requests += other.requests
        for mine, theirs in (
            (self.answers, other.answers),
            (self.productions, other.productions),
            (self.found, other.found),
        ):
            mine.update(theirs)
        self.memory |= other.memory
        self.findings = {**other.findings, **self.findings}


class Fuzzer:
    """The product with the sessions of :mod:`tests.fuzz.world`, and what it has answered."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.report = Report()
        self._seed = seed
        self._directory = directory
        self._ends = ExitStack()
        self._store = world.fill(directory / "state")
        self._ends.callback(self._store.close)
        self.here = InProcess(directory / "state")
        self._ends.callback(self.here.close)
        # What each of the processes logs
        self._logs: dict[str, BinaryIO] = {}

    @cached_property
    def _service(self) -> Service:
        """List and sidecar, started when they are first asked."""
        processes = Processes(self._directory)
        self._ends.callback(processes.stop)
        state = self._directory / "state"
        service = Service(state, processes, world.settings(state))
        service.start_list()
        service.start_live()
        for name in service.running:
            log = self._ends.enter_context((self._directory / f"{name}.log").open("rb"))
            self._logs[name] = log
        return service

    def close(self) -> None:
        self._ends.close()

    def run(self, numbers: Sequence[int], tell: Callable[[Report], None] = lambda _: None) -> None:
        """Ask these requests; ``tell`` is called now and then."""
        told = time.monotonic()
        for place, number in enumerate(numbers):
            asked = ask(self._seed, number)
            for problem in self._judge(asked):
                self._note(number, problem, asked)
            self.report.requests += 1
            self.report.productions.update(asked.productions)
            if place in (len(numbers) // 2, len(numbers) - 1):
                self._weigh()
            if time.monotonic() > told + 10:
                told = time.monotonic()
                tell(self.report)
        nothing = Asked("store", None)  # type: ignore[arg-type]
        for problem in self._at_the_end(len(numbers)):
            self._note(numbers[-1], problem, nothing)

    def _judge(self, asked: Asked) -> Iterator[str]:
        try:
            if asked.target == "process":
                answer, unlike = self._compare(asked)
                if unlike:  # a request that was cut off may have been carried out just now
                    answer, unlike = self._compare(asked)
                yield from unlike
                answers = [answer]
                log = self.here.log.take()
            else:
                port = {"list": self._service.list_port, "live": self._service.live_port}
                answers = over_the_wire(port[asked.target], asked)
                log = self._logs[asked.target].read().decode("utf-8", "surrogateescape")
        except Mistaken as error:
            yield f"no answer: {error}"
            return
        except Exception as error:
            yield f"exception: {error!r}"
            return
        if not answers and asked.is_whole:
            yield "no answer: hung up"
        self.report.answers.update(f"{asked.target} {each.status}" for each in answers or [_NONE])
        for each in answers:
            yield from judge.problems(asked, each)
        yield from judge.log_problems(log)

    def _compare(self, asked: Asked) -> tuple[Answer, list[str]]:
        """Return the answer, and how the short cut's and the oracle's differ from it."""
        quick, answer = self.here.ask(asked)
        unlike = [f"short cut differs: {quick} {answer}"] if quick != answer else []
        sessions = self._sessions(asked, answer)
        return answer, [*unlike, *judge.meaning_problems(asked, answer, sessions)]

    def _sessions(self, asked: Asked, answer: Answer) -> list[object]:
        """Return the sessions that a request is about, if the oracle can judge it."""
        if (
            asked.address != b"/api/list"
            or asked.method != b"GET"
            or asked.header(b"upgrade") is not None
            or answer.status not in (200, 400)
            or (answer.status == 200 and answer.header("x-total-count") is None)
            or len(asked.owners) != 1
        ):
            asked.is_odd()
        if asked.meaning is None:
            return []
        [who] = asked.owners
        found: list[object] = json.loads(self.here.sessions(CREDENTIALS.good[who]).body)
        return found

    def _note(self, number: int, problem: str, asked: Asked) -> None:
        key = f"{problem.partition(':')[0]} ({asked.target})"
        self.report.found[key] += 1
        if key not in self.report.findings:
            finding = Finding(number, problem, asked.shown(), self._seed)
            self.report.findings[key] = finding
            print(f"FOUND {key}: {finding}", flush=True)

    def _at_the_end(self, count: int) -> Iterator[str]:
        records = self._store.snapshot().records
        if len(records) != 3 * world.SESSIONS:
            yield f"lost: of {3 * world.SESSIONS} sessions there are {len(records)}"
        for record in records:
            owner = next(who for who, login in world.LOGINS.items() if login == record.login)
            text = (record.text or "").encode()
            for who, marks in world.MARKS.items():
                if who != owner and any(mark.encode() in text for mark in marks):
                    yield f"foreign write: of {who} in {text!r}"
        for log in self._logs.values():
            yield from judge.log_problems(log.read().decode("utf-8", "surrogateescape"))
        for name, sizes in self.report.memory.items():
            half, whole = sizes[0], sizes[-1]
            if whole > half + MAY_GROW:
                yield f"memory: {name} had {half} bytes after {count // 2} requests, then {whole}"

    def _weigh(self) -> None:
        pids = {f"fuzzer {os.getpid()}": os.getpid()}
        for name in self._logs:  # of those that run
            for child in psutil.Process(self._service.running[name].pid).children():
                pids[f"{name} {child.pid}"] = child.pid
        for name, pid in pids.items():
            self.report.memory.setdefault(name, []).append(psutil.Process(pid).memory_info().rss)


_NONE = Answer(0, [], b"")
