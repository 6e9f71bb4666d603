"""The processes of a history: agents, list workers and the sidecar, each of which takes turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from greenlet import getcurrent, greenlet

from fastx_list.agent import clock as agent_clock
from fastx_list.agent.facts import Facts
from fastx_list.agent.keep import Agent
from fastx_list.agent.look import Look, Looker, Seen
from fastx_list.agent.machine import Machine
from fastx_list.live.bus import Bus, Mailbox, News, snapshot_of
from fastx_list.live.frames import FramedEntry
from fastx_list.model.server import Server
from fastx_list.model.session import Session
from fastx_list.replica.doubt import RETRY_SECONDS
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Everything, Topic
from fastx_list.replica.view import Entry
from fastx_list.store import Lease, Revision, StoreError
from fastx_list.store.sqlite import SqliteStore
from tests.simulation.clock import clock
from tests.simulation.disk import Killed
from tests.simulation.model import Messages, Written
from tests.simulation.patched import Blind, names

if TYPE_CHECKING:
    from tests.simulation.world import World


class Process:
    """One process, which takes a turn when it is due, unless it is stopped or dead."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_alive = False
        self.runs = False  # it is alive, and not stopped
        self.is_busy = False  # in the middle of a turn
        self.is_late = False  # others had theirs in the middle of it
        self.due = 0.0  # by the monotonic clock

    def start(self) -> None:
        self.is_alive = self.runs = True
        self.due = clock.now

    def stop(self) -> None:
        self.runs = False

    def go_on(self) -> None:
        self.runs = self.is_alive

    def end(self) -> None:
        """Let the process be gone, wherever it was."""
        self.is_alive = self.runs = False
        self.world.disk.bury(self.name)

    def turn(self) -> None:
        """Do what is due, and say when the next turn is."""
        raise NotImplementedError


class NotedStore(SqliteStore):
    """The store of an agent, which notes what was confirmed."""

    agent: AgentProcess

    def edition(self, server_id: str) -> str | None:
        edition = super().edition(server_id)
        self.agent.has_asked = True
        return edition

    def heartbeat(self, server: Server, lease: Lease, edition: str | None = None) -> str | None:
        silence = self.agent.silence
        began, restores = silence.counted, self.agent.world.truth.restores
        rival = super().heartbeat(server, lease, edition)
        if restores == self.agent.world.truth.restores:
            silence.said(began)
            self.agent.stored_holder = self.agent.holder
        return rival

    def observe(
        self, server_id: str, sessions: Mapping[str, Session], lease: Lease | None = None
    ) -> str:
        silence = self.agent.silence
        began, restores = silence.counted, self.agent.world.truth.restores
        edition = super().observe(server_id, sessions, lease)
        self.agent.has_asked = True
        self.agent.world.truth.written[server_id] = None  # until the end of the turn says what
        if restores == self.agent.world.truth.restores:
            silence.said(began)
            self.agent.stored_holder = self.agent.holder
        return edition


class TurnTaker(Looker):
    """Looks at once, and waits by giving the turn back."""

    def __init__(self, look: Look, process: AgentProcess) -> None:
        super().__init__(look)
        self._process = process
        self._has_begun = False

    def start(self) -> None:
        self._has_begun = True

    def wait(self, seconds: float) -> Seen | None:
        if self._has_begun and clock.now >= self._process.hangs_until:
            self._has_begun = False
            return self._look.take()
        self._process.give_back(seconds)
        return None


class AgentProcess(Process):
    """An agent with its source, which sees the sessions that run on its server."""

    def __init__(self, world: World, server: str) -> None:
        super().__init__(world, f"agent {server}")
        self.server = server
        self.silence = world.truth.silence[server]
        self.holder = 0  # counts the names that the agent had; it has another one when it lost it
        self.stored_holder = 0  # which of them the store has
        self.hangs_until = 0.0
        self.is_blind = False  # whether its source fails
        self.has_asked = False  # whether it asked the store in this turn

    def start(self) -> None:
        super().start()
        self.world.truth.starts[self.server] += 1
        store = NotedStore(self.world.disk.path)
        store.agent = self
        # What the last look saw, with versions; None before the first; and all that were seen
        self._looked: dict[str, int] | None = None
        self._ahead = 0.0  # by how much the clock was set then
        self._ever: set[str] = set()
        agent_clock.clock.__init__()  # type: ignore[misc]  # as where a process begins
        names[self.server] = f"{self.server}{self.holder}"
        settings = replace(self.world.settings, server_id=self.server)
        self.agent = Agent(settings, store, {"scripted": self})
        looker = TurnTaker(self.agent.look, self)
        self._greenlet = greenlet(lambda: self._run(looker))

    def is_alone(self, running: Sequence[Process]) -> bool:
        """Whether nobody runs but this one. Under a new name it is another one, who waits for the
        end of the old one's lease."""
        return not running or (self.holder == self.stored_holder and running == [self])

    def _run(self, looker: Looker) -> None:
        try:
            self.agent.run(looker)
        except Killed:
            pass

    def scan(self, machine: Machine) -> Iterable[Facts]:
        if self.is_blind:
            raise Blind
        running = self.world.truth.running(self.server)
        self._looked, self._ahead = {each.id: each.version for each in running}, clock.ahead
        self._ever.update(self._looked)
        return [each.facts for each in running]

    def give_back(self, seconds: float) -> None:
        self.due = clock.now + seconds
        caller = self._greenlet.parent
        assert caller is not None
        caller.switch()

    def turn(self) -> None:
        self._greenlet.parent = getcurrent()
        restores, self.has_asked = self.world.truth.restores, False
        self._greenlet.switch()
        if self._greenlet.dead:
            self.end()
        elif (
            self.has_asked
            and self.agent.problem is None
            and self._looked is not None
            and restores == self.world.truth.restores
        ):
            written = Written(self._looked, self._ever - self._looked.keys())
            # Of a clock that was set in between the next look has the moments, maybe
            is_sure = self._ahead == clock.ahead
            self.world.truth.written[self.server] = written if is_sure else None

    def end(self) -> None:
        super().end()
        if self._greenlet and getcurrent() is not self._greenlet:  # it has begun
            self._greenlet.parent = getcurrent()
            self._greenlet.throw(Killed)


def at_once(call: Callable[[], None]) -> None:
    """What a reader does in a thread of its own, which here is a part of its turn."""
    call()


class Reader(Process):
    """A process that follows the store."""

    replica: Replica[Entry] | Replica[FramedEntry]

    @property
    def warns(self) -> bool:
        """Whether it says that it may be wrong."""
        return self.replica.problem is not None

    @property
    def has_paid(self) -> bool:
        """Whether it could write again what the store has lost."""
        return self.replica._owed._error is None

    @property
    def owes(self) -> bool:
        """Whether it is yet to read what it has written again."""
        return bool(self.replica._owed._tokens)

    def is_at(self, revision: Revision | None) -> bool:
        """Whether it has read up to this revision, and no further."""
        return self.replica._revision == revision

    def check(self, topic: Topic = Everything.SESSIONS) -> None:
        # What was confirmed in the middle of its turn it need not have seen
        if self.replica.loaded and not self.warns and not self.is_late:
            entries = self.replica.entries(topic).values()
            self.world.truth.check_list(self.name, (each.text for each in entries), topic)
            self.world.truth.check_revoked(self.name, self.replica.revoked)


class ListWorker(Reader):
    """Answers requests, and writes params and revoked tokens."""

    def start(self) -> None:
        super().start()
        self.store = SqliteStore(self.world.disk.path)
        self.replica = Replica(self.store, Entry, at_once)

    def turn(self) -> None:
        self.due = clock.now + self.world.random.choice((0.02, 0.2, 0.7, 2.0))
        try:
            self.replica.refresh()
        except StoreError:
            return
        self.check(self.world.random.choice((Everything.SESSIONS, *self.world.logins)))


class Subscriber:
    """Whoever follows a topic, and may be slow to read."""

    def __init__(self, world: World, topic: Topic) -> None:
        self.topic = topic
        self.filters = ()
        self.mailbox = Mailbox()
        self.messages = Messages(f"subscriber {topic}", world.truth, topic)

    def tell(self, news: News) -> None:
        for told in news.told:
            self.mailbox.put(told)
        if not self.messages.is_slow:
            self.read(1_000_000)

    def be_slow(self, is_slow: bool) -> None:
        """Read nothing unless told to, or all that there is."""
        if not is_slow:
            self.read(1_000_000)
        self.messages.be_slow(is_slow)

    def read(self, count: int) -> None:
        for frame in self.mailbox.take(count):
            self.messages.take(frame)


class Sidecar(Reader):
    """Tells its subscribers."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        topics: list[Topic] = [*world.logins, Everything.SESSIONS, Everything.SESSIONS]
        self.subscribers = [Subscriber(world, topic) for topic in topics]
        self._waiting: list[Subscriber] = []  # for the first read of the store

    def start(self) -> None:
        super().start()
        self.world.truth.starts[self.name] += 1
        self.store = SqliteStore(self.world.disk.path)
        self.replica = Replica(self.store, FramedEntry, at_once)
        self.framed: Replica[FramedEntry] = self.replica
        self.bus = Bus(clock.monotonic)
        self._waiting = list(self.subscribers)

    def connect(self, subscriber: Subscriber) -> None:
        """Let a subscriber come anew."""
        if subscriber not in self._waiting:
            self.bus.unsubscribe(subscriber.topic, subscriber)
            self._waiting.append(subscriber)
        self._welcome()

    def _welcome(self) -> None:
        if not self.replica.loaded:
            return
        for subscriber in self._waiting:
            subscriber.mailbox = Mailbox()
            self.bus.subscribe(subscriber.topic, subscriber)
            entries = self.framed.entries(subscriber.topic)
            subscriber.messages.reconnect(entries)
            subscriber.tell(News(snapshot_of(entries.values(), subscriber.filters)))
        self._waiting = []

    def turn(self) -> None:
        more = True
        while more:
            was_behind = self.framed.is_behind
            self.bus.publish(self.framed.follow(0))
            more = (was_behind or self.framed.is_behind) and self.framed.pause <= 0
            while self.bus.tell():
                pass
        pause = self.world.random.choice((0.01, 0.1, 0.5, 1.0))
        self.due = clock.now + (RETRY_SECONDS if self.warns else pause)
        self._welcome()
        self.check()


class Acting:
    """It is this process's turn; what it leaves undone when it is killed stays so."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process

    def __enter__(self) -> None:
        disk = self._world.disk
        self._before, disk.acting = disk.acting, self._process.name
        self._process.is_busy, self._process.is_late = True, False

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> bool:
        self._world.disk.acting = self._before
        self._process.is_busy = False
        if kind is not Killed:
            return False
        self._process.end()
        self._world.ended(self._process)
        return True
