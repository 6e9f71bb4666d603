"""What the agent costs while nothing happens, and while processes come and go all the time, beside
``ps -eo pid,args`` once a second.

200 sessions among 2,000 processes, all real but tiny; then programs are started and end, 500 a
second, none of which has to do with a session.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import common
from tests.bench.agent import shares
from tests.bench.scan import cpu_of_ps, shells, x_servers

SETTLE_SECONDS = 15.0  # the agent looks for the programs of sessions that are young
MAX_IDLE, MAX_BUSY = 1.0, 8.0  # percent of a core

_STARTS = """
import os, sys, time
rate, began, started = int(sys.argv[1]), time.monotonic(), 0
while True:
    for _ in range(int((time.monotonic() - began) * rate) - started):
        started += 1
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    time.sleep(0.01)
"""


@contextmanager
def starting(rate: int) -> Iterator[None]:
    """Let ``rate`` programs start and end each second."""
    with subprocess.Popen([sys.executable, "-c", _STARTS, str(rate)]) as process:
        try:
            yield
        finally:
            process.kill()


def forks() -> int:
    """Return how many processes and threads were started since boot, proc_stat(5)."""
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("processes ")).split()[1])


def measure(report: common.Report, what: str, agent: int, options: argparse.Namespace) -> float:
    """Report what the agent costs, and return the mean in percent of a core."""
    began, before, listings = time.monotonic(), forks(), []
    found: list[float] = []
    for _ in range(options.windows):
        found += shares({"agent": agent}, options.seconds, 1)["agent"]
        listings.append(cpu_of_ps() * 100)
    rate = (forks() - before) / (time.monotonic() - began)
    print(f"{what}: {rate:.0f} processes and threads begin a second")
    report.figure("the agent", found, "% of a core")
    report.figure("ps -eo pid,args once a second", listings, "% of a core")
    report.figure("  the agent : ps", common.ratios(found, listings), "times")
    return statistics.mean(found)


def run(options: argparse.Namespace) -> int:
    if options.quick:
        options.sessions, options.processes, options.seconds, options.windows = 20, 100, 2, 1
    report = common.Report("The agent while nothing happens", options.quick)
    others = options.processes - options.sessions
    with (
        tempfile.TemporaryDirectory() as name,
        x_servers(Path(name), options.sessions),
        shells(Path(name), "worker", dict.fromkeys(map(str, range(others)))),
        common.work_dir() as directory,
    ):
        program = [sys.executable, "-m", "fastx_list", "agent"]
        environ = common.environment(directory / "state")
        with common.running(program, environ, lambda: True) as agent:
            time.sleep(2.0 if options.quick else SETTLE_SECONDS)
            print(f"{options.sessions} sessions among {options.processes} processes")
            idle = measure(report, "nothing happens", agent, options)
            with starting(options.rate):
                busy = measure(report, "programs start and end", agent, options)
    report.target("the agent, idle, mean of all", idle, at_most=MAX_IDLE)
    report.target("the agent, programs starting, mean of all", busy, at_most=MAX_BUSY)
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    for option, default, highest, what in (
        ("sessions", 200, 10_000, "X servers that are sessions"),
        ("processes", 2000, 20_000, "altogether"),
        ("rate", 500, 10_000, "programs that start each second"),
        ("seconds", 10, 600, "of each window"),
        ("windows", 4, 100, "of each kind"),
    ):
        kind = common.whole(1, highest)
        parser.add_argument(f"--{option}", type=kind, default=default, help=f"{what} (%(default)s)")
    common.main(run, parser)
