"""What the benchmarks share: sessions to list, servers to start and to stop, ``wrk``, and a report
of figures and targets."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil

from fastx_list import config
from fastx_list.agent.merge import session_id
from fastx_list.model.session import Session
from fastx_list.store import open_store
from fastx_list.tokens import Tokens

ROOT = Path(__file__).parents[2]
SERVER_ID = "bench"
APPLICATIONS = {"web": "fastx_list:create_app()", "live": "fastx_list:create_live_app()"}
STARTED = 1_700_000_000_000
PER_LOGIN = 20
START_SECONDS = 60.0
STOP_SECONDS = 15.0

T = TypeVar("T")


class BenchmarkError(Exception):
    """A benchmark cannot be run, or what it measured answered wrongly."""


def make_session(index: int, per_login: int = PER_LOGIN) -> Session:
    """Return session number ``index``, as a launcher would register it; every ``per_login`` of them
    belong to one login."""
    started = STARTED + index * 7919 % 86_400_000
    return Session(
        id=session_id(SERVER_ID, f"spool:{index}:{started}"),
        login=login_name(index // per_login),
        server_id=SERVER_ID,
        hostname="node1.example.org",
        server_pid=1000 + index,
        geometry="1920x1080",
        window_mode=("desktop", "rootless")[index % 2],
        started=started,
        last_connect=started + 5000,
        last_disconnect=started + 9000,
        command=("startxfce4", "matlab -desktop", "gnome-session")[index % 3],
        app_pid=1001 + index,
        clients=index % 3,
        params={"name": f"Session {index}", "project": f"p{index % 50}"},
        display=index % 60000,
        cpu_percentage=12.5,
        video_ram=65536,
        sharing=index % 2 == 0,
        disconnect_timeout=60,
    )


def login_name(number: int) -> str:
    return f"user{number:04}"


def environment(state_dir: Path, **more: str) -> dict[str, str]:
    """Return this process's environment with the product's settings for ``state_dir`` and no
    others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(config.PREFIX)}
    return {
        **kept,
        "FASTX_LIST_STATE_DIR": str(state_dir),
        "FASTX_LIST_SERVER_ID": SERVER_ID,
        "PYTHONPATH": str(ROOT),
        **more,
    }


def fill(state_dir: Path, count: int, **environ: str) -> dict[str, Session]:
    """Put ``count`` sessions into the store of ``state_dir``, or of the settings ``environ``, and
    return them."""
    sessions = {session.id: session for session in map(make_session, range(count))}
    store = open_store(config.load(environment(state_dir, **environ)).store)
    store.observe(SERVER_ID, sessions)
    store.close()
    return sessions


def issue(state_dir: Path, login: str) -> str:
    """Return a token for ``login`` that the servers of ``state_dir`` take."""
    return Tokens(config.load(environment(state_dir))).issue(login, 3600)


@contextmanager
def work_dir() -> Iterator[Path]:
    """Make a directory for one run, and remove it with all that is in it."""
    with tempfile.TemporaryDirectory(prefix="fastx-list-bench-") as name:
        yield Path(name)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def gunicorn(role: str, *addresses: str, application: str | None = None) -> list[str]:
    """Return the command that serves the list (``role`` "web") or the sidecar ("live"), or another
    ``application`` with the settings of that role, at ``addresses``."""
    binds = [part for address in addresses for part in ("--bind", address)]
    settings = f"python:fastx_list.{role}.server"
    application = application or APPLICATIONS[role]
    return [sys.executable, "-m", "gunicorn", "-c", settings, *binds, application]


@contextmanager
def running(
    command: Sequence[str], environ: Mapping[str, str], ready: Callable[[], bool]
) -> Iterator[int]:
    """Run ``command`` until the block ends; it begins once ``ready()``. Yields the pid."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    raise BenchmarkError(
                        f"{command[0]} did not start:\n{output.read().decode(errors='replace')}"
                    )
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listens(port: int) -> Callable[[], bool]:
    """Return a check whether anybody listens on ``port``."""

    def check() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    return check


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=START_SECONDS) as response:
        return bytes(response.read())


@dataclass(frozen=True)
class Server:
    """What answers at ``url``: process ``pid`` and its children."""

    url: str
    pid: int


class Load(NamedTuple):
    """Requests answered per second, and the processor time in microseconds that the server used for
    each."""

    rate: float
    cost: float


def used(pid: int, children: bool = False) -> float:
    """Return the seconds of processor time that process ``pid``, and its ``children`` if asked,
    have used."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in [process, *(process.children() if children else [])]]
    return float(sum(each.user + each.system for each in times))


def wrk(server: Server, seconds: int, connections: int, script: Path | None = None) -> Load:
    """Return what ``wrk`` gets answered. Anything but success is an error."""
    more = [] if script is None else ["-s", str(script)]
    command = [tool("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", *more, server.url]
    before = used(server.pid, children=True)
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cost = used(server.pid, children=True) - before
    rate = re.search(r"^Requests/sec:\s+([0-9.]+)", output, re.MULTILINE)
    count = re.search(r"([0-9]+) requests in ", output)
    if not rate or not count or "Non-2xx" in output or "Socket errors" in output:
        raise BenchmarkError(f"wrk met errors:\n{output}")
    return Load(float(rate[1]), cost / int(count[1]) * 1e6)


def tool(name: str) -> str:
    """Return the path of program ``name``: beside this Python, else on the search path."""
    found = shutil.which(
        name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    if not found:
        raise BenchmarkError(
            f"{name} is not installed; docs/performance.md says what the benchmarks need"
        )
    return str(Path(found).absolute())


def alternate(measures: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Take every measure once a round, so that what else the machine does falls on all of them
    alike."""
    results: dict[str, list[T]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            results[name].append(measure())
    return results


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Return the quotients of each round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


@dataclass
class Report:
    """Prints figures as they come, and remembers whether all targets were met. A smoke run judges
    nothing."""

    title: str
    smoke: bool
    missed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # What else the machine does falls on both sides of a ratio, but not on both alike if they
        # need a different number of cores.
        print(
            f"{self.title}; load"
            f" {os.getloadavg()[0]:.1f}{'; a smoke run: no figure counts' if self.smoke else ''}",
            flush=True,
        )

    def figure(self, name: str, values: Sequence[float], unit: str) -> float:
        """Print and return the median of ``values``, with their range."""
        median = statistics.median(values)
        spread = (
            f"  ({_short(min(values))} to {_short(max(values))}, {len(values)} rounds)"
            if len(values) > 1
            else ""
        )
        print(f"  {name:<58}{_short(median):>9} {unit}{spread}", flush=True)
        return median

    def target(
        self,
        name: str,
        value: float,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Say whether ``value`` meets its target."""
        met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        asked = f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}"
        print(
            f"  {name:<58}{value:>9.4g}, target {asked}: {'met' if met else 'MISSED'}", flush=True
        )
        if not met:
            self.missed.append(name)

    def status(self) -> int:
        return 1 if self.missed and not self.smoke else 0


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(description or "").partition("\n\n")[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a smoke run: little of everything, and no target is judged",
    )
    return parser


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return an argparse type: a whole number from ``low`` to ``high``."""

    def parse(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"takes a whole number from {low} to {high}")
        return number

    return parse


def main(run: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser) -> None:
    """Run a benchmark and exit: 0, 1 if a target was missed, 2 if it could not be run."""
    try:
        sys.exit(run(parser.parse_args()))
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
