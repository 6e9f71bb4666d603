"""``python -m tests.web.alerts``, as root: makes the fault of each alert in ``docs/monitoring``,
one after the other, at a whole site that a real Prometheus watches. The alerts of that fault fire,
no other does, and all is quiet again once it is over. It takes some two minutes. Names of faults as
arguments: only these.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, repeat
from pathlib import Path

import pytest

from tests.chaos.faults.disk import fill
from tests.chaos.namespace import enter
from tests.live.clients import upgrade
from tests.support import Processes, Service, end, fetch, free_port, wait_for
from tests.web.prometheus import MONITORING, Alert, Prometheus, start

LIST, LIVE = "fastx-list", "fastx-list-live"
PATIENCE_SECONDS = 60.0
# An hour and ten minutes of the rules, for a Prometheus that asks each second
SPANS = {r"for: \w+": "for: 1s", r"\[1h\]": "[15s]", r"\[\d+m\]": "[6s]"}
PAUSE_SECONDS = 0.4  # between two looks, in which more of a fault is made
LATER_LOOKS = 10
SESSIONS = 300  # of which a client that reads nothing is owed the most
# A list that makes a mistake of its own if it is asked for it
MISTAKEN = """
from fastx_list import create_app

app = create_app()
app.add_url_rule("/mistake", "mistake", lambda: 1 // 0)
"""


class Site:
    """Agent, list and sidecar, on a small disk of their own."""

    def __init__(self, directory: Path, processes: Processes) -> None:
        self.disk = directory / "disk"
        self.disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(self.disk)]
        subprocess.run(mount, check=True)  # which is there for what runs in this namespace alone
        environ = {
            "FASTX_LIST_SERVER_ID": "here",
            "FASTX_LIST_SERVER_EXPIRY": "4",
            "FASTX_LIST_SCAN_INTERVAL": "0.5",
            "FASTX_LIST_SLOW_CLIENT_TIMEOUT": "1",
            "FASTX_LIST_PING_INTERVAL": "0.5",
            "FASTX_LIST_WEBHOOK": f"http://127.0.0.1:{free_port()}/",
            "FASTX_LIST_WEBHOOK_SECRET": "s" * 32,
            "PYTHONPATH": f"{directory}:{':'.join(sys.path)}",
        }
        self.service = Service(self.disk / "state", processes, environ)
        (directory / "mistaken.py").write_text(MISTAKEN)
        self.spool = self.service.state / "spool"

    def start(self) -> None:
        """Start what does not run."""
        running = self.service.running
        if "agent" not in running or running["agent"].poll() is not None:
            self.service.start_agent()
        if "list" not in running or running["list"].poll() is not None:
            running["list"] = self.service._gunicorn("list", self.service.list_port, "mistaken:app")
        if "live" not in running or running["live"].poll() is not None:
            self.service.start_live()
        wait_for("the list", self._is_current, PATIENCE_SECONDS)
        self.spool.mkdir(exist_ok=True)

    def _is_current(self) -> bool:
        try:
            return fetch(f"{self.service.url}/ready").status == 200
        except OSError:
            return False


Fault = Callable[[Site], Iterator[None]]
FAULTS: dict[Fault, set[Alert]] = {}  # with what fires for each


def fires(*alerts: Alert) -> Callable[[Fault], Fault]:
    """Let a generator be tried that makes a fault, more of it at each turn, until it is closed, and
    for which these fire."""

    def decorate(fault: Fault) -> Fault:
        FAULTS[fault] = set(alerts)
        return fault

    return decorate


@fires(("FastxListDown", LIST))
def the_list_is_down(site: Site) -> Iterator[None]:
    end(site.service.running["list"])
    yield from repeat(None)


@fires(("FastxListDown", LIVE))
def the_sidecar_is_down(site: Site) -> Iterator[None]:
    end(site.service.running["live"])
    yield from repeat(None)


@fires(("FastxListOutOfDate", LIST), ("FastxListOutOfDate", LIVE), ("FastxListAgentSilent", LIST))
def the_disk_is_full(site: Site) -> Iterator[None]:
    filler = site.disk / "filler"
    fill(filler)
    try:
        yield from repeat(None)
    finally:
        filler.unlink()


@fires(("FastxListAgentLost", LIST))
def the_agent_was_killed(site: Site) -> Iterator[None]:
    site.service.running["agent"].kill()
    site.service.running["agent"].wait()
    yield from repeat(None)


@fires(("FastxListAgentLost", LIST))
def the_agent_is_stopped_for_longer_than_its_lease(site: Site) -> Iterator[None]:
    site.service.running["agent"].send_signal(signal.SIGSTOP)
    try:
        yield from repeat(None)
    finally:
        site.service.running["agent"].send_signal(signal.SIGCONT)


@fires(("FastxListAgentProblems", LIST))
def the_agent_cannot_read_the_session_files(site: Site) -> Iterator[None]:
    away = site.spool.with_name("away")
    site.spool.rename(away)
    try:
        with written(site.spool, "no directory"):
            yield from repeat(None)
    finally:
        away.rename(site.spool)


@fires(("FastxListErrors", LIST))
def the_list_makes_one_mistake(site: Site) -> Iterator[None]:
    assert fetch(f"{site.service.url}/mistake").status == 500
    yield from repeat(None)


@fires(("FastxListSlowClients", LIVE))
def clients_read_nothing(site: Site) -> Iterator[None]:
    token = site.service.token("alice")
    with ExitStack() as everything:
        for number in range(SESSIONS):
            session = {"login": "alice", "params": {"text": "x" * 8000}}
            file = site.spool / f"s{number}.json"
            everything.enter_context(written(file, json.dumps(session)))
        while True:
            client = everything.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", site.service.live_port))
            client.sendall(upgrade(site.service, token))
            yield


@fires(("FastxListNotDelivered", LIST))
def nobody_takes_the_events(site: Site) -> Iterator[None]:
    deliver = [sys.executable, "-m", "fastx_list", "deliver"]
    process = site.service.processes.start(deliver, "deliver", site.service.environ)
    try:
        with written(site.spool / "one.json", json.dumps({"login": "alice"})):
            for clients in cycle((0, 1)):  # which are events
                put(site.spool / "one.json", json.dumps({"login": "alice", "clients": clients}))
                yield
    finally:
        end(process)


def put(file: Path, text: str) -> None:
    """Write a file that is whole as soon as it is there."""
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").rename(file)


@contextmanager
def written(file: Path, text: str) -> Iterator[None]:
    put(file, text)
    try:
        yield
    finally:
        file.unlink()


def main() -> int:
    try:
        enter("tests.web.alerts")
    except pytest.skip.Exception as reason:
        print(f"it cannot be run: {reason}", file=sys.stderr)
        return 2
    rules = {*re.findall(r"alert: (\w+)", (MONITORING / "alerts.yml").read_text())}
    assert rules == {name for alerts in FAULTS.values() for name, _ in alerts}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, ExitStack() as ending:
        directory = Path(name)
        processes = Processes(directory)
        site = Site(directory, processes)
        ending.callback(subprocess.run, ["umount", str(site.disk)], check=True)
        ending.callback(processes.stop)
        site.start()
        prometheus = start(site.service, directory, SPANS)
        scraped = {LIST: 1.0, LIVE: 1.0}
        wait_for("both", lambda: prometheus.found("up") == scraped, PATIENCE_SECONDS)
        wait_for("the rules", prometheus.has_evaluated_all, PATIENCE_SECONDS)
        try:
            for fault, alerts in FAULTS.items():
                if sys.argv[1:] and fault.__name__ not in sys.argv[1:]:
                    continue
                print(f"{fault.__name__}: {_try(site, prometheus, fault, alerts)}", flush=True)
        except AssertionError as error:
            print(error, file=sys.stderr)
            return 1
    print(f"all fired for their faults, and no other, in {time.monotonic() - began:.0f} s")
    return 0


def _try(site: Site, prometheus: Prometheus, fault: Fault, alerts: set[Alert]) -> str:
    """Make ``fault`` where all is quiet, and end it; return what fired meanwhile."""
    assert not prometheus.firing()
    fault_now = fault(site)

    def have_all_fired() -> bool:
        next(fault_now)
        time.sleep(PAUSE_SECONDS)
        firing = prometheus.firing()
        assert firing <= alerts, f"{fault.__name__}: {firing - alerts} fire, too"
        return firing == alerts

    wait_for(f"{fault.__name__}: {alerts}", have_all_fired, PATIENCE_SECONDS)
    # What else it would set off comes later than that
    for _ in range(LATER_LOOKS):
        have_all_fired()
    fault_now.close()  # type: ignore[attr-defined]
    site.start()
    wait_for(f"quiet after {fault.__name__}", lambda: not prometheus.firing(), PATIENCE_SECONDS)
    return ", ".join(sorted(name for name, _ in alerts))


if __name__ == "__main__":
    sys.exit(main())
