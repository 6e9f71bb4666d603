"""``python -m tests.web.alerts``, as root: makes faults that alerts in ``docs/monitoring`` are for,
one after the other, at a whole site that a real Prometheus watches. The alerts of that fault fire,
no other does, and all is quiet again once it is over. It takes some two minutes. Names of faults as
arguments: only these.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path

import pytest

from tests.chaos.faults.disk import fill
from tests.chaos.namespace import enter
from tests.support import Processes, Service, end, fetch, wait_for
from tests.web.prometheus import Alert, Prometheus, start

LIST, LIVE = "fastx-list", "fastx-list-live"
PATIENCE_SECONDS = 120.0
# An hour and ten minutes of the rules, for a Prometheus that asks each second
SPANS = {r"for: \w+": "for: 1s", r"\[1h\]": "[15s]", r"\[\d+m\]": "[6s]"}
PAUSE_SECONDS = 0.4  # between two looks, in which more of a fault is made
LATER_LOOKS = 10


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
        }
        self.service = Service(self.disk / "state", processes, environ)

    def start(self) -> None:
        """Start what does not run."""
        running = self.service.running
        if "agent" not in running or running["agent"].poll() is not None:
            self.service.start_agent()
        if "list" not in running or running["list"].poll() is not None:
            self.service.start_list()
        if "live" not in running or running["live"].poll() is not None:
            self.service.start_live()
        wait_for("the list", self._is_current, PATIENCE_SECONDS)

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


def main() -> int:
    try:
        enter("tests.web.alerts")
    except pytest.skip.Exception as reason:
        print(f"it cannot be run: {reason}", file=sys.stderr)
        return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, ExitStack() as ending:
        directory = Path(name)
        processes = Processes(directory)
        site = Site(directory, processes)
        ending.callback(subprocess.run, ["umount", str(site.disk)], check=True)
        ending.callback(processes.stop)
        site.start()
        prometheus = start(site.service, directory, SPANS)
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
    """Make ``fault`` and end it; return what fired."""
    wait_for("no alert", lambda: not prometheus.firing(), PATIENCE_SECONDS)
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
    return ", ".join(sorted(name for name, _ in alerts))


if __name__ == "__main__":
    sys.exit(main())
