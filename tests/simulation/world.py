"""The world of a history: its processes, the disk, the clock, and what each step does to them."""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from random import Random

from fastx_list.config import PREFIX, Settings, load
from fastx_list.store import StoreError
from fastx_list.store.beats import LATE
from tests.simulation import clock as clock_module
from tests.simulation import disk as disk_module
from tests.simulation.clock import clock
from tests.simulation.disk import Cue, Disk, revision_of
from tests.simulation.model import Copy, Session, Truth, Violation
from tests.simulation.patched import unexpected
from tests.simulation.processes import Acting, AgentProcess, ListWorker, Process, Reader, Sidecar
from tests.simulation.settled import differences
from tests.simulation.steps import Step

LEASE = 8.0  # seconds of a server's lease
SETTLING = 60  # seconds within which all is as it should be, once nothing befalls it any more
TOKEN_SECONDS = 10**6  # until a token expires
_DUE = attrgetter("due")


@lru_cache(1)
def _settings(directory: Path) -> Settings:
    asked = {"STATE_DIR": str(directory), "SERVER_ID": "none", "SERVER_EXPIRY": str(LEASE)}
    return load({f"{PREFIX}{name}": value for name, value in asked.items()})


class World:
    """Does steps, and checks what comes of them."""

    servers = ("a", "b")
    logins = ("alice", "bob")

    def __init__(self, directory: Path, template: bytes) -> None:
        clock_module.begin()
        unexpected.clear()
        self.turns = 0
        self.random = Random()
        self.disk = disk_module.current = Disk(directory / "sessions.db")
        self.disk.path.write_bytes(template)
        self.settings = _settings(directory)
        self.truth = Truth(self.servers, LEASE, LATE * LEASE)
        self.agents = [AgentProcess(self, server) for server in self.servers]
        self.workers = [ListWorker(self, f"list {number}") for number in (1, 2)]
        self.sidecar = Sidecar(self, "sidecar")
        self.readers: list[Reader] = [*self.workers, self.sidecar]
        self.processes: list[Process] = [*self.agents, *self.readers]
        self._copies: list[Copy] = []
        # The revoked tokens that the store has lost, with who knows them still
        self._fragile: dict[str, set[str]] = {}
        self._until: dict[str, float] = {}  # when they expire
        # Who does not see the last restore, as that was to where it had read to
        self._unaware: set[Reader] = set()
        self._is_anew = False  # whether the store was made anew in this history
        self._number = 0  # the last param or token
        for process in self.processes:
            process.start()

    def close(self) -> None:
        for process in self.processes:
            if process.is_alive:
                process.end()
        self.disk.close()

    def do(self, step: Step) -> None:
        self.turns += 1
        getattr(self, step.name)(*step.arguments)

    # Time and turns

    def advance(self, seconds: float, nobody_runs: bool = False) -> None:
        cannot = nobody_runs or self.disk.condition is not None
        running = [each for each in self.processes if each.runs]
        for agent in self.agents:
            agent.silence.advance(seconds, cannot or agent.is_alone(running))
        clock.now += seconds

    def run(self, seconds: float, seed: int) -> None:
        """Let the processes take their turns for so long."""
        self.random.seed(seed)
        end = clock.now + seconds
        while True:
            ready = [each for each in self.processes if each.runs and not each.is_busy]
            process = min(ready, key=_DUE, default=None)
            if process is None or process.due > end:
                break
            self.advance(max(0.0, process.due - clock.now))
            self.turn(process)
        self.advance(max(0.0, end - clock.now))

    wait = run

    def turn(self, process: Process) -> None:
        self.turns += 1
        with Acting(self, process):
            process.turn()
        if unexpected:
            raise Violation(f"{process.name}: {unexpected[0]}")
        # What befell the store in the middle of its turn it need not have seen
        knows = process.is_alive and not process.is_late
        if not isinstance(process, Reader) or not knows or process.warns or not process.has_paid:
            return
        if process in self._unaware and process.owes:  # so a second later it writes that again
            return
        self._unaware.discard(process)
        for token in [each for each, who in self._fragile.items() if process.name in who]:
            del self._fragile[token]
            self.truth.revoked[token] = self._until[token]

    def ended(self, process: Process) -> None:
        """Note that a process is gone, with what it alone knew."""
        for token, who in list(self._fragile.items()):
            who.discard(process.name)
            if not who:
                del self._fragile[token]

    def freeze(self, seconds: float) -> None:
        """Let time pass in which nobody runs."""
        self.advance(seconds, nobody_runs=True)

    def suspend(self, seconds: float) -> None:
        clock.slept += seconds

    def set_clock(self, seconds: float) -> None:
        clock.ahead += seconds
        self._excuse()

    def _excuse(self) -> None:
        """What a store that is made anew believes of the time may be wrong."""
        if self._is_anew:
            for token, until in list(self._until.items()):
                if until < clock.time():
                    self.truth.revoked.pop(token, None)
                    self._fragile.pop(token, None)

    def reboot(self) -> None:
        if any(each.is_busy for each in self.processes):
            return
        for process in self.processes:
            if process.is_alive:
                process.end()
                self.ended(process)
        clock.reboot()
        for session in self.truth.running():
            session.has_ended = True
        self.truth.written = dict.fromkeys(self.servers)
        for process in self.processes:
            process.start()
        for agent in self.agents:
            agent.silence.said(agent.silence.counted)
            agent.hangs_until = 0.0

    # Sessions

    def begin(self, server: int, login: int) -> None:
        self.truth.begin(self.servers[server], self.logins[login], round(clock.true_time() * 1000))

    def _pick(self, number: int) -> Session | None:
        running = self.truth.running()
        return running[number % len(running)] if running else None

    def change(self, number: int, clients: int) -> None:
        if session := self._pick(number):
            session.change(clients)

    def end(self, number: int) -> None:
        if session := self._pick(number):
            session.has_ended = True

    def set_param(self, number: int, worker: int) -> None:
        session, process = self._pick(number), self.workers[worker]
        # Who sets one in the middle of setting one may come after that, with the lower number
        if session is None or not process.runs or process.is_busy or session.is_being_set:
            return
        self._number += 1
        session.is_being_set = True
        value, restores = self._number, self.truth.restores
        before = set(session.params)
        session.params.add(value)
        with Acting(self, process):
            try:
                answer = process.store.set_params(session.id, session.login, {"p": value})
            except StoreError:
                answer = session.id  # it may have been written
            if restores != self.truth.restores:  # in the middle of it
                session.params.add(value)
            elif answer is None:
                session.params = before
            elif answer != session.id:
                session.params = {value}
        session.is_being_set = False

    def revoke(self, worker: int) -> None:
        process = self.workers[worker]
        if not process.runs or process.is_busy:
            return
        self._number += 1
        token, restores = f"t{self._number}", self.truth.restores
        self._until[token] = until = round(clock.true_time()) + TOKEN_SECONDS
        with Acting(self, process):
            try:
                process.store.revoke({token: until})
            except StoreError:
                return
            # The clock may say that it has expired long ago
            if restores == self.truth.restores and clock.time() < until:
                self.truth.revoked[token] = until

    # Processes

    def _idle(self, number: int) -> Process | None:
        process = self.processes[number]
        return None if process.is_busy else process

    def stop(self, number: int) -> None:
        if process := self._idle(number):
            process.stop()

    def go_on(self, number: int) -> None:
        if process := self._idle(number):
            process.go_on()

    def kill(self, number: int) -> None:
        process = self._idle(number)
        if process is not None and process.is_alive:
            process.end()
            self.ended(process)

    def start(self, number: int) -> None:
        process = self._idle(number)
        if process is not None and not process.is_alive:
            process.start()

    def start_again(self, number: int) -> None:
        """Let the process die and come back at once."""
        self.kill(number)
        self.start(number)

    def lose_name(self, number: int) -> None:
        """Let the agent come back with another state directory, and so under another name."""
        agent = self.agents[number]
        if not agent.is_busy:
            self.kill(number)
            agent.holder += 1
            agent.start()

    def hang(self, number: int, seconds: float) -> None:
        self.agents[number].hangs_until = clock.now + seconds

    def blind(self, number: int, is_blind: bool) -> None:
        self.agents[number].is_blind = is_blind

    # Subscribers

    def reconnect(self, number: int) -> None:
        if self.sidecar.runs and not self.sidecar.is_busy:
            self.sidecar.connect(self.sidecar.subscribers[number])

    def be_slow(self, number: int, is_slow: bool) -> None:
        self.sidecar.subscribers[number].be_slow(is_slow)

    def take(self, number: int, count: int) -> None:
        self.sidecar.subscribers[number].read(count)

    # The store

    def condition(self, condition: str | None) -> None:
        self.disk.set_condition(condition)

    def cue(self, number: int, statements: int, kind: str) -> None:
        process = self.processes[number]
        if process.runs:
            self.disk.set_cue(process.name, Cue(statements, kind))

    def meanwhile(self, number: int, statements: int, *steps: Step) -> None:
        def do_all() -> None:
            process.is_late = True
            for step in steps:
                self.do(step)

        process = self.processes[number]
        if process.runs:
            self.disk.set_cue(process.name, Cue(statements, "meanwhile", do_all))

    def copy(self) -> None:
        params = {name: set(each.params) for name, each in self.truth.sessions.items()}
        if self.disk.condition is None:
            holders = [(each.stored_holder, each.silence.lasts) for each in self.agents]
            known = dict(self.truth.revoked)
            path = self.disk.copy()
            self._copies.append(Copy(path, revision_of(path), params, known, holders))

    def restore(self, number: int, in_place: bool) -> None:
        if self._copies and self.disk.condition is None:
            copy = self._copies[number % len(self._copies)]
            if not in_place:
                self.disk.replace(copy.path)
            elif not self.disk.restore(copy.path):
                return
            self._unaware = {each for each in self.readers if each.is_at(copy.revision)}
            self._lose(copy.params, copy.revoked)
            for agent, (holder, silent) in zip(self.agents, copy.holders, strict=True):
                agent.stored_holder = holder
                agent.silence.remember(silent)
                if agent.holder != holder:  # it has to wait for the end of its own old lease
                    agent.silence.end()

    def wipe(self) -> None:
        if self.disk.condition is None:
            self.disk.remove()
            self._lose({}, {})
            self._is_anew = True
            self._excuse()

    def _lose(self, params: dict[str, set[int]], revoked: dict[str, float]) -> None:
        """Note what the store has lost, or has again."""
        truth = self.truth
        truth.restores += 1
        for session in truth.sessions.values():
            session.params = set(params.get(session.id, {0}))
        for server in self.servers:
            truth.written[server] = None
        known = truth.revoked.keys() | self._fragile.keys()
        truth.revoked = {each: self._until[each] for each in known & revoked.keys()}
        alive = [each for each in self.readers if each.is_alive]
        self._fragile = {
            token: who
            for token in known - revoked.keys()
            if (who := {each.name for each in alive if token in each.replica.revoked})
        }

    def settle(self, seed: int, revive: bool) -> None:
        """Let nothing befall anybody any more, and see that all is as it should be. Agents that
        are dead come back with ``revive``."""
        self.disk.calm_down()
        clock.ahead = 0.0
        for process in self.processes:
            process.go_on()
            if not process.is_alive and (revive or isinstance(process, Reader)):
                process.start()
        for agent in self.agents:
            agent.hangs_until, agent.is_blind = 0.0, False
        for subscriber in self.sidecar.subscribers:
            subscriber.be_slow(False)
        for second in range(SETTLING):
            self.run(1.0, seed + second)
            wrong = next(differences(self), None)
            if wrong is None:
                return
        raise Violation(f"after {SETTLING} s in which nothing befell: {wrong}")
