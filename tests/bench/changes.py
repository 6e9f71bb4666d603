"""500 changes a second to 1,000 logins with 5 WebSockets each: the sidecar beside websockets'
``broadcast``.

Fifty times a second one of twenty machines reports its view, in which ten sessions have changed, as
agents do. Beside it, a process that is told the same messages over a socket and broadcasts each to
the connections of its login.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fastx_list import config
from fastx_list.model.session import Session, encode
from fastx_list.store import Store, open_store
from tests.bench import common, peers
from tests.bench.crowd import MAX_CLIENTS, Crowd

MACHINES = 20
COMMITS_PER_SECOND = 50
PER_LOGIN = 4  # sessions
GRACE_SECONDS = 10.0
SAMPLE_SECONDS = 1.0
MAX_MS = 60
MAX_GROWTH = 1.05


class Machines:
    """The sessions there are, by machine, and random changes of them. Every change has a number,
    which is in the command."""

    def __init__(self, logins: int) -> None:
        self.machines: list[dict[str, Session]] = [{} for _ in range(MACHINES)]
        for index in range(logins * PER_LOGIN):
            machine = index * 7 % MACHINES  # so that a login has sessions on several
            session = replace(common.make_session(index, PER_LOGIN), server_id=f"node{machine}")
            self.machines[machine][session.id] = session
        self._ids = [list(machine) for machine in self.machines]
        self._random = random.Random(1)
        self.count = 0

    def change(self, count: int) -> tuple[int, list[Session]]:
        """Change ``count`` sessions of one machine; return its number and what they have become."""
        number = self._random.randrange(MACHINES)
        changed = []
        for session_id in self._random.sample(self._ids[number], count):
            command = f"run-job --cores 4 --memory 16 --queue short --seq {self.count}"
            session = self.machines[number][session_id] = replace(
                self.machines[number][session_id], command=command
            )
            changed.append(session)
            self.count += 1
        return number, changed


class Sender(Protocol):
    """Who brings changes on their way, and returns when they were (ns)."""

    def send(self, machine: int, changed: Sequence[Session]) -> int: ...


class ToStore:
    """Commits a machine's view."""

    def __init__(self, store: Store, machines: Machines) -> None:
        self._store, self._machines = store, machines

    def send(self, machine: int, changed: Sequence[Session]) -> int:
        self._store.observe(f"node{machine}", self._machines.machines[machine])
        return time.time_ns()


class ToBroadcast:
    """Asks for each change to be broadcast to its login."""

    def __init__(self, publish: peers.PublishText) -> None:
        self._publish = publish

    def send(self, machine: int, changed: Sequence[Session]) -> int:
        began = time.time_ns()
        for session in changed:
            data = encode(session, session.params)
            self._publish(session.login, f'{{"id":{json.dumps(session.id)},"data":{data}}}')
        return began


class Found(NamedTuple):
    """Milliseconds to each client, changes that a newer one overtook, bytes of the server second by
    second, changes a second, and which part of a core the server used."""

    taken: list[float]
    overtaken: int
    memory: list[int]
    rate: float
    share: float


@contextmanager
def watching(pid: int) -> Iterator[list[int]]:
    """Take the memory of process ``pid`` and its children every second of the block."""
    taken: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            taken.append(peers.memory(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join()


def change(
    machines: Machines, sender: Sender, pid: int, crowd: Crowd, options: argparse.Namespace
) -> Found:
    """Send changes at the asked rate for the asked time, and collect what the clients get."""
    first, sent_at = machines.count, []
    each = options.rate // COMMITS_PER_SECOND
    with watching(pid) as memory:
        began, used = time.monotonic(), common.used(pid, children=True)
        for number in range(options.seconds * COMMITS_PER_SECOND):
            time.sleep(max(0.0, began + number / COMMITS_PER_SECOND - time.monotonic()))
            at = sender.send(*machines.change(each))
            sent_at.extend([at] * each)
        seconds, used = time.monotonic() - began, common.used(pid, children=True) - used
    expected = len(sent_at) * options.connections
    arrivals = crowd.collect(expected, GRACE_SECONDS)
    if crowd.lost():
        raise common.BenchmarkError(f"connections were lost: {dict(crowd.lost())}")
    taken = [
        (at - sent_at[number - first]) / 1e6
        for number, at in zip(arrivals.numbers, arrivals.times, strict=True)
    ]
    return Found(taken, expected - len(taken), memory, len(sent_at) / seconds, used / seconds)


def differing(
    states: Mapping[int, Mapping[str, Any]], url: str, tokens: Sequence[str], connections: int
) -> int:
    """Return how many clients do not know what the list says."""
    wrong = 0
    for login, token in enumerate(tokens):
        listed = {session["id"]: session for session in json.loads(common.get(url + token))}
        if len(listed) != PER_LOGIN:
            raise common.BenchmarkError(
                f"the list has {len(listed)} sessions of {common.login_name(login)}"
            )
        wrong += sum(
            states.get(client) != listed
            for client in range(login * connections, (login + 1) * connections)
        )
    return wrong


def sidecar(directory: Path, options: argparse.Namespace) -> tuple[Found, int]:
    """Return what the sidecar did, and how many clients did not end with the list's state."""
    machines = Machines(options.logins)
    store = open_store(config.load(common.environment(directory)).store)
    for number, machine in enumerate(machines.machines):
        store.observe(f"node{number}", machine)
    tokens = [common.issue(directory, common.login_name(login)) for login in range(options.logins)]
    targets = [f"/api/list?token={token}" for token in tokens for _ in range(options.connections)]
    port = common.free_port()
    with peers.sidecar(directory, port) as pid, peers.http_list(directory) as url, Crowd() as crowd:
        crowd.connect_all(port, targets, first=PER_LOGIN, keep=True)
        found = change(machines, ToStore(store, machines), pid, crowd, options)
        wrong = differing(crowd.states(), url, tokens, options.connections)
    store.close()
    return found, wrong


def websockets(directory: Path, options: argparse.Namespace) -> Found:
    with peers.broadcast(directory, "none") as server, Crowd() as crowd:
        targets = [
            f"/{common.login_name(login)}"
            for login in range(options.logins)
            for _ in range(options.connections)
        ]
        crowd.connect_all(server.port, targets, keep=True)
        found = change(
            Machines(options.logins), ToBroadcast(server.publish), server.pid, crowd, options
        )
    if found.overtaken:
        raise common.BenchmarkError(f"websockets did not deliver {found.overtaken} messages")
    return found


def show(report: common.Report, found: Found) -> float:
    """Print what one server did, and return its 99 of 100."""
    report.figure("changes a second", [found.rate], "")
    report.figure("50 of 100 at the client within", [common.percentile(found.taken, 50)], "ms")
    p99 = report.figure("99 of 100", [common.percentile(found.taken, 99)], "ms")
    report.figure("all", [max(found.taken)], "ms")
    report.figure("processor time of the server", [found.share * 100], "% of a core")
    report.figure("memory, second by second", [each / 2**20 for each in found.memory], "MiB")
    return p99


def run(options: argparse.Namespace) -> int:
    if options.quick:
        options.logins, options.seconds, options.rate = 50, 4, 100
    if options.logins * options.connections > MAX_CLIENTS:
        raise common.BenchmarkError(f"at most {MAX_CLIENTS} connections in all")
    report = common.Report("Changes to many logins", options.quick)
    with common.work_dir() as directory:
        ours, wrong = sidecar(directory, options)
    with common.work_dir() as directory:
        theirs = websockets(directory, options)
    print(
        f"{options.logins} logins, {options.connections} connections each, {options.rate} changes a"
        f" second, {options.seconds} s"
    )
    print("the sidecar, from the commit")
    mine = show(report, ours)
    report.figure(
        "messages that a newer one made needless",
        [ours.overtaken],
        f"of {ours.overtaken + len(ours.taken)}",
    )
    print("websockets without compression, from the moment of asking")
    report.figure("99 of 100: the sidecar : websockets", [mine / show(report, theirs)], "times")
    report.target("changes a second", ours.rate, at_least=0.98 * options.rate)
    report.target("99 of 100 at the client, ms", mine, at_most=MAX_MS)
    report.target("clients that do not know what the list says", wrong, at_most=0)
    quarter = max(1, len(ours.memory) // 4)
    growth = statistics.median(ours.memory[-quarter:]) / statistics.median(
        ours.memory[quarter : 2 * quarter]
    )
    report.target("memory, the last quarter : the second", growth, at_most=MAX_GROWTH)
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--logins", type=common.whole(20, MAX_CLIENTS), default=1000, help="(%(default)s)"
    )
    parser.add_argument(
        "--connections", type=common.whole(1, 100), default=5, help="of each login (%(default)s)"
    )
    parser.add_argument(
        "--rate",
        type=common.whole(COMMITS_PER_SECOND, 5000),
        default=500,
        help="changes a second (%(default)s)",
    )
    parser.add_argument("--seconds", type=common.whole(2, 3600), default=60, help="(%(default)s)")
    common.main(run, parser)
