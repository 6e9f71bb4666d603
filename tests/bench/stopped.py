"""100 readers that stop reading beside 5,000 that read on: what it costs the others, and what the
stopped ones see when they go on.

Two sidecars run side by side, one without the stopped readers; each change of 4 KiB goes to all of
one, then of the other.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from fastx_list import config
from fastx_list.store import open_store
from tests.bench import common, peers
from tests.bench.crowd import MAX_CLIENTS, Crowd

SESSIONS = 20
FILL_BYTES = 4000
MAX_FILLING = 1000  # changes until the sockets of the stopped ones are full
# Without more in the sockets; when the kernel asks again whether anyone reads, it may make room
FULL_SECONDS = 5.0
MESSAGE_SECONDS = 60.0
AWAY = {"FASTX_LIST_SLOW_CLIENT_TIMEOUT": "3600"}  # however many rounds there are
MAX_RATIO = 1.2
MAX_GROWTH = 1.05


class Sidecar:
    """A sidecar with a store of its own and with readers, all of one login."""

    def __init__(self, directory: Path, readers: int, stack: ExitStack) -> None:
        self._sessions = list(common.fill(directory, SESSIONS).values())
        self._store = open_store(config.load(common.environment(directory)).store)
        stack.callback(self._store.close)
        self.port = common.free_port()
        self.pid = stack.enter_context(peers.sidecar(directory, self.port, **AWAY))
        self.token = common.issue(directory, common.login_name(0))
        self.target = f"/api/list?token={self.token}"
        self._readers = readers
        self._crowd = stack.enter_context(Crowd())
        self._crowd.connect_all(self.port, [self.target] * readers, first=SESSIONS)
        self.count = 0
        self.size = 0  # of a message, without its few bytes of envelope

    def change(self) -> list[float]:
        """Change one session, and return the milliseconds from the commit to each reader. All get
        it, every byte as it was sent."""
        session = self._sessions[self.count % SESSIONS]
        patch = {"seq": self.count, "fill": secrets.token_hex(FILL_BYTES // 2)}
        text = self._store.set_params(session.id, session.login, patch)
        began = time.time_ns()
        assert text is not None
        self.size = len(text)
        arrivals = self._crowd.collect(self._readers, MESSAGE_SECONDS)
        if (
            len(set(arrivals.clients)) != self._readers
            or set(arrivals.numbers) != {self.count}
            or self._crowd.lost()
        ):
            raise common.BenchmarkError(
                f"{len(arrivals.times)} messages came to {self._readers} readers; lost:"
                f" {dict(self._crowd.lost())}"
            )
        self.count += 1
        return [(at - began) / 1e6 for at in arrivals.times]

    def unread(self) -> int:
        """Return how many bytes the kernel keeps for this sidecar's clients, at either end."""
        port, total = f":{self.port:04X}", 0
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            to_send, to_read = queues.split(":")
            if local.endswith(port):
                total += int(to_send, 16)
            elif remote.endswith(port):
                total += int(to_read, 16)
        return total


def fill(sidecar: Sidecar, stopped: int) -> None:
    """Change sessions until the sockets of the ``stopped`` take no more."""
    most, grown, changes = 0, time.monotonic(), 0
    for _ in range(MAX_FILLING):
        sidecar.change()
        now = sidecar.unread()
        if now - most >= stopped * FILL_BYTES // 20:
            grown, changes = time.monotonic(), 0
        elif changes >= SESSIONS and time.monotonic() - grown > FULL_SECONDS:
            return
        most, changes = max(most, now), changes + 1
        time.sleep(0.05)
    raise common.BenchmarkError(
        f"after {MAX_FILLING} changes the sockets of those who do not read still take more"
    )


def go_on(crowd: Crowd, url: str, sidecar: Sidecar, stopped: int) -> tuple[int, int, int]:
    """Have the stopped read again; return how many do not get to the newest state, how many were
    lost, and messages to each."""
    newest = {session["id"]: session for session in json.loads(common.get(url + sidecar.token))}
    crowd.resume()
    got, stale = 0, stopped
    deadline = time.monotonic() + MESSAGE_SECONDS
    while stale and not crowd.lost() and time.monotonic() < deadline:
        got += len(crowd.collect(stopped, 1).times)
        stale = stopped - sum(state == newest for state in crowd.states().values())
    return stale, crowd.lost().total(), got // stopped


def run(options: argparse.Namespace) -> int:
    if options.quick:
        options.readers, options.stopped, options.rounds = 200, 10, 2 * SESSIONS
    report = common.Report("Readers that stop reading", options.quick)
    with ExitStack() as stack:
        directory = stack.enter_context(common.work_dir())
        without = Sidecar(stack.enter_context(common.work_dir()), options.readers, stack)
        among = Sidecar(directory, options.readers, stack)
        url = stack.enter_context(peers.http_list(directory))
        crowd = stack.enter_context(Crowd())
        crowd.connect_all(
            among.port, [among.target] * options.stopped, first=SESSIONS, keep=True, narrow=True
        )
        crowd.pause(range(options.stopped))
        fill(among, options.stopped)
        filled = peers.settled_memory(among.pid)

        def p99(sidecar: Sidecar) -> float:
            return common.percentile(sidecar.change(), 99)

        measures: dict[str, Callable[[], float]] = {
            "without": partial(p99, without),
            "among": partial(p99, among),
        }
        found = common.alternate(measures, options.rounds)
        growth = peers.settled_memory(among.pid) / filled
        held = among.unread() // options.stopped
        stale, lost, got = go_on(crowd, url, among, options.stopped)
    print(
        f"{options.readers} readers, and {options.stopped} whose sockets are full, with"
        f" {held // 1024} KiB each"
    )
    print(
        f"{options.rounds * options.readers} messages with them and as many without, every byte as"
        " it was sent"
    )
    report.figure("99 of 100 of the others, without them", found["without"], "ms")
    report.figure("99 of 100 of the others, with them", found["among"], "ms")
    report.figure("memory of the sidecar with them, full", [filled / 2**20], "MiB")
    report.figure(
        "messages that each of them got when it read again", [got], f"of {among.count} changes"
    )
    ratio = report.figure(
        "with them : without, of each round",
        common.ratios(found["among"], found["without"]),
        "times",
    )
    report.target("99 of 100 of the others, with them : without", ratio, at_most=MAX_RATIO)
    report.target("memory, after the messages : before", growth, at_most=MAX_GROWTH)
    # An old state that is not in the socket yet has to give way to the newer one.
    report.target(
        "messages that the sidecar kept for each of them",
        got - held // among.size,
        at_most=2 * SESSIONS,
    )
    report.target("stopped ones that do not see the newest state", stale, at_most=0)
    report.target("stopped ones that were lost", lost, at_most=0)
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--readers", type=common.whole(10, MAX_CLIENTS), default=5000, help="(%(default)s)"
    )
    parser.add_argument("--stopped", type=common.whole(1, 1000), default=100, help="(%(default)s)")
    parser.add_argument(
        "--rounds",
        type=common.whole(2 * SESSIONS, 1000),
        default=40,
        help="changes of each (%(default)s)",
    )
    common.main(run, parser)
