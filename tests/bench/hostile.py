"""What others notice while one login does to the agent all that it can, at once.

Sessions of another user start, change and end, and a WebSocket client of theirs is told of each.
That is timed in turns with the hostile login's doing (``tests/hostile/everything.py``) and without
it, beside 100 quiet sessions, each with an agent of its own, whose memory and processor time stand
beside it. It needs root, to run as several users.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from websockets.sync.client import ClientConnection, connect

from fastx_list import config
from fastx_list.store import open_store
from tests.bench import common
from tests.hostile.everything import attack
from tests.hostile.hanging import memory
from tests.hostile.plenty import dummies_of
from tests.support import Processes, Service, end
from tests.system.sessions import User, Vnc, resize, start_vnc

KINDS = ("start", "geometry", "client", "params", "end")
# Of the victim's, and of another user who has nothing to do with it, as on a machine in use
OLD_SESSIONS, OTHER_SESSIONS = 4, 100
MESSAGE_SECONDS = 60.0
MAX_RATIO, MAX_GROWTH_MIB, MAX_COST = 1.5, 32, 2.0

Sessions = Iterable[dict[str, Any]]


class Round(NamedTuple):
    """How one round went."""

    delays: dict[str, list[float]]  # seconds from each event to its message, by kind
    memory: int  # that the agent had at the most, in MiB
    cost: float  # its processor time, as a part of a core


class Listener:
    """A WebSocket client of the victim's."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._known: dict[str, dict[str, Any]] = {}  # sessions, by their ids
        self.ends = 0

    def hear(self, what: str, fits: Callable[[Sessions], bool]) -> None:
        """Wait for ``what``: until what is known of the sessions ``fits``."""
        while not fits(self._known.values()):
            try:
                message = json.loads(self._connection.recv(timeout=MESSAGE_SECONDS))
            except TimeoutError:
                problem = f"no message in {MESSAGE_SECONDS:g} s, but not yet {what}"
                raise common.BenchmarkError(problem) from None
            if message["data"] is None:
                self.ends += 1
                del self._known[message["id"]]
            else:
                self._known[message["id"]] = message["data"]

    def session(self, vnc: Vnc, **members: object) -> dict[str, Any]:
        """Wait until the session of ``vnc`` has these ``members``, and return it."""
        found: list[dict[str, Any]] = []

        def fits(sessions: Sessions) -> bool:
            found[:] = [each for each in sessions if each["serverPid"] == vnc.process.pid]
            return bool(found) and members.items() <= found[0].items()

        self.hear(f"{members} of :{vnc.display}", fits)
        return found[0]


class World:
    """The product, the victim's sessions and who listens to them."""

    def __init__(self, stack: ExitStack) -> None:
        self._place = stack.enter_context(common.work_dir())
        self._place.chmod(0o755)
        self.processes = Processes(self._place)
        stack.callback(self.processes.stop)
        names = ("news", "games", "uucp")
        self.victim, self.hostile, other = (User.make(each, self._place) for each in names)
        stack.enter_context(dummies_of(other, self.processes, "quiet", OTHER_SESSIONS))
        service = Service(self._place / "state", self.processes)
        service.start_live()
        self.agent = service.start_agent()
        self._store = open_store(config.load(service.environ).store)
        stack.callback(self._store.close)
        address = f"{service.live_url}?token={service.token(self.victim.login)}"
        self.listener = Listener(stack.enter_context(connect(address)))
        self.old = [start_vnc(self.processes, self.victim) for _ in range(OLD_SESSIONS)]
        for each in self.old:
            self.listener.session(each, geometry="1000x700")

    def one_session(self) -> dict[str, list[float]]:
        """Let a session start, change and end; return how long after each event a message came."""
        hear = self.listener.session
        vnc = start_vnc(self.processes, self.victim)
        hear(vnc, geometry="1000x700")
        start = time.time() - os.stat(f"/tmp/.X11-unix/X{vnc.display}").st_mtime
        time.sleep(random.random())  # so that the agent's next look is at any time
        began = time.monotonic()
        resize(vnc, "800x600")
        session = hear(vnc, geometry="800x600")
        geometry = time.monotonic() - began
        time.sleep(random.random())
        with socket.create_connection(("127.0.0.1", vnc.port)) as client:
            for answer, said in ((12, b"RFB 003.008\n"), (2, b"\1"), (4, b"\1"), (24, b"")):
                client.recv(answer, socket.MSG_WAITALL)
                client.sendall(said)
            came = time.monotonic()
            hear(vnc, clients=1)
            came = time.monotonic() - came
            time.sleep(random.random())
        left = time.monotonic()
        hear(vnc, clients=0)
        left = time.monotonic() - left
        began = time.monotonic()
        self._store.set_params(session["id"], self.victim.login, {"name": "x"})
        hear(vnc, params={"name": "x"})
        params = time.monotonic() - began
        time.sleep(random.random())
        end(vnc.process)
        began = time.monotonic()
        self.listener.hear("its end", partial(has_gone, vnc.process.pid))
        ended = time.monotonic() - began
        return dict(zip(KINDS, ([start], [geometry], [came, left], [params], [ended]), strict=True))


def has_gone(pid: int, sessions: Sessions) -> bool:
    return all(each["serverPid"] != pid for each in sessions)


def measure(options: argparse.Namespace, is_attacked: bool) -> Round:
    delays: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        world = World(stack)
        began, before = time.monotonic(), common.used(world.agent.pid)
        if is_attacked:
            many, flooding = options.processes, options.flooding
            stack.enter_context(
                attack(world.hostile, world.old[0], world.processes, many, flooding)
            )
        for _ in range(options.sessions):
            for kind, seconds in world.one_session().items():
                delays[kind] += seconds
        cost = (common.used(world.agent.pid) - before) / (time.monotonic() - began)
        if world.listener.ends != options.sessions:
            raise common.BenchmarkError("a session that runs was told to have ended")
        return Round(delays, memory(world.agent.pid) // 2**20, cost)


def run(options: argparse.Namespace) -> int:
    report = common.Report("One login does all that it can", options.quick)
    if os.geteuid() != 0:
        raise common.BenchmarkError("it needs root, to run as several users")
    if options.quick:
        options.sessions, options.rounds, options.processes, options.flooding = 2, 1, 100, 10
    measures = {
        "without": partial(measure, options, False),
        "with": partial(measure, options, True),
    }
    results = common.alternate(measures, options.rounds)
    for kind in KINDS:
        late = {
            name: [seconds for each in rounds for seconds in each.delays[kind]]
            for name, rounds in results.items()
        }
        for name, seconds in late.items():
            report.figure(f"{kind} to its message, {name} it", seconds, "s")
        ratio = common.percentile(late["with"], 95) / common.percentile(late["without"], 95)
        report.target(f"{kind}: 95 of 100 within, with it over without", ratio, at_most=MAX_RATIO)
    for name, rounds in results.items():
        report.figure(f"the agent's memory, {name} it", [each.memory for each in rounds], "MiB")
        cost = [each.cost * 100 for each in rounds]
        report.figure(f"the agent's processor time, {name} it", cost, "% of a core")
    pairs = list(zip(results["with"], results["without"], strict=True))
    growth = max(each.memory - other.memory for each, other in pairs)
    report.target("the agent's memory: more with it, MiB", growth, at_most=MAX_GROWTH_MIB)
    costs = [each.cost / other.cost for each, other in pairs]
    report.target(
        "its processor time, with it over without", statistics.median(costs), at_most=MAX_COST
    )
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    for option, default, what in (
        ("sessions", 10, "of the victim's in a round, one after the other"),
        ("rounds", 3, "with it and without"),
        ("processes", 1100, "of the hostile login that seem to be X servers"),
        ("flooding", 50, "X servers of the hostile login that send events without end"),
    ):
        kind = common.whole(1, 10_000)
        parser.add_argument(f"--{option}", type=kind, default=default, help=f"{what} (%(default)s)")
    common.main(run, parser)
