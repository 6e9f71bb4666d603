"""What several test files share: programs, processes, waiting, and a plain HTTP client."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from fastx_list.config import load
from fastx_list.store import StoreError, open_store
from fastx_list.tokens import Tokens

_ports = count()
WAIT_SECONDS = 30.0  # for what takes a moment; generous, since nothing here is about speed
PACKAGES = Path(__file__).parents[1] / ".ci" / "packages"
IN_CI = os.environ.get("CI") == "true"

# What makes coverage measure another process, too: only the list and the sidecar that tests start.
# Other processes may run as users who cannot write down what was measured.
MEASURED: dict[str, str] = {}

T = TypeVar("T")


def program(name: str, package: str, *, later: str | None = None) -> str:
    """Return the path of a program of Debian's ``package``, by its name on Debian 12; ``later`` is
    what the program is called in later releases. Without it the test is skipped. In CI it fails,
    unless the release does not have the package."""
    for each in filter(None, (name, later)):
        path = shutil.which(each, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if path:
            return path
    lacks_package(package, f"{name} is not installed")


def lacks_package(package: str, why: str) -> NoReturn:
    """Skip the test, since what Debian's ``package`` holds is not there; in CI fail it, unless the
    release does not have the package."""
    if not release_has(package):
        pytest.skip(f"this release of Debian has no {package}")
    missing(f"{why} (Debian: apt-get install {_packages().get(package, package)})")


def release_has(package: str) -> bool:
    """Whether this release of Debian has ``package``."""
    return _packages().get(package) != "-"


@cache
def _packages() -> dict[str, str]:
    """The names of Debian's packages on the release that this is, by those on Debian 12, or on
    later ones if it does not have them."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    older = release.get("ID") == "debian" and release.get("VERSION_ID") == "12"
    lines = [line.split("#")[0].split() for line in PACKAGES.read_text("utf-8").splitlines()]
    return {
        next(name for name in names if name != "-"): names[0 if older else -1]
        for names in lines
        if names
    }


def needs_root() -> None:
    """Skip the test, or in CI fail it, unless we are root."""
    if os.geteuid() != 0:
        missing("it needs root, to run as several users")


@contextmanager
def ordinary_user() -> Iterator[None]:
    """For root, who may do everything: be somebody else for a while."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


def let_others_in(directory: Path) -> None:
    """Let other users into a test's directory, which lies below pytest's own."""
    for each in (directory, *directory.parents):
        if each.stat().st_uid == os.geteuid() and (
            each == directory or each.name.startswith(("pytest-", "popen-"))
        ):
            each.chmod(0o755)


def missing(reason: str) -> NoReturn:
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


def wait_for(what: str, condition: Callable[[], T | None], seconds: float = WAIT_SECONDS) -> T:
    """Return what ``condition`` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)  # between two looks, not instead of one


def free_port() -> int:
    """Return a port that nobody has; none that a process of tests beside this one would be given,
    nor one that the kernel gives to who asks for any."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0)
    while True:
        # Processes that were forked one after the other are not to try the same ones
        port = 12_000 + 2_000 * (worker % 10) + (32 * os.getpid() + next(_ports)) % 2_000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def standing(directory: Path) -> Iterator[Service]:
    """Keep below ``directory`` a product for as long as the block lasts, with nothing of it started
    yet."""
    processes = Processes(directory)
    try:
        yield Service(directory / "state", processes, {"FASTX_LIST_SERVER_ID": "here"})
    finally:
        processes.stop()


def exchange(one: Path, other: Path) -> None:
    """Exchange two names in one step (renameat2(2)), between which nobody can make one anew."""
    at_here, flags = -100, 2
    library = ctypes.CDLL(None, use_errno=True)
    if library.renameat2(at_here, os.fsencode(one), at_here, os.fsencode(other), flags):
        raise OSError(ctypes.get_errno(), "renameat2", str(one))


class Processes:
    """Processes that a test starts; what still runs at its end is ended by pid."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        command: Sequence[str],
        log: str,
        environ: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        env = dict(os.environ if environ is None else environ)
        with open(self._logs / f"{log}.log", "ab") as file:
            process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, **options
            )
        return started(self.add(process))

    def add(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Look after ``process`` as well."""
        self._started.append(process)
        return process

    def log(self, name: str) -> str:
        return (self._logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        for process in reversed(self._started):
            end(process)


def started(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Return ``process`` once it is the program that it is to be, or has ended: Popen returns in
    the middle of exec, when nobody can tell what it is."""
    line = Path(f"/proc/{process.pid}/cmdline")
    wait_for("exec", lambda: process.poll() is not None or line.read_bytes())
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """End ``process``, by force if it takes too long, and reap it."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(WAIT_SECONDS)


@dataclass
class Answer:
    """An HTTP response."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def fetch(
    url: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = WAIT_SECONDS,
) -> Answer:
    """Ask ``url`` and return the answer, whatever its status."""
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


@dataclass
class Service:
    """The product's three processes with a state directory of their own."""

    state: Path
    processes: Processes
    environ: dict[str, str] = field(default_factory=dict)
    list_port: int = field(default_factory=free_port)
    live_port: int = field(default_factory=free_port)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    cwd: Path | None = None

    def __post_init__(self) -> None:
        self.environ = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith("FASTX_LIST_")
            },
            "FASTX_LIST_CONFIG": "/dev/null",
            "FASTX_LIST_STATE_DIR": str(self.state),
            **self.environ,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.list_port}"

    @property
    def live_url(self) -> str:
        return f"ws://127.0.0.1:{self.live_port}/api/list"

    def start_agent(self, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "fastx_list", "agent"]
        self.running["agent"] = self.processes.start(command, "agent", self.environ, **options)
        return self.running["agent"]

    def start_list(self) -> None:
        self.running["list"] = self._gunicorn("list", self.list_port, "fastx_list:create_app()")
        wait_for("the list", lambda: self._answers(self.list_port))

    def start_live(self, app: str = "fastx_list:create_live_app()") -> None:
        self.running["live"] = self._gunicorn("live", self.live_port, app)
        wait_for("the sidecar", lambda: self._answers(self.live_port))

    def _gunicorn(self, name: str, port: int, app: str) -> subprocess.Popen[bytes]:
        settings = {"list": "python:fastx_list.web.server", "live": "python:fastx_list.live.server"}
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", settings[name]]
        command = [*gunicorn, "--bind", f"127.0.0.1:{port}", "--access-logfile", "-", app]
        return self.processes.start(command, name, {**self.environ, **MEASURED}, cwd=self.cwd)

    @staticmethod
    def _answers(port: int) -> bool:
        try:
            fetch(f"http://127.0.0.1:{port}/health")
        except OSError:
            return False
        return True

    def token(self, login: str, ttl: float = 3600, admin: bool = False) -> str:
        return Tokens(load(self.environ)).issue(login, ttl, admin)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the ``fastx-list`` command."""
        command = [sys.executable, "-m", "fastx_list", *arguments]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, done
        return done

    def stored(self, login: str | None = None) -> list[dict[str, Any]]:
        """Return the sessions that the store has, of ``login`` or of all; none before it is
        made."""
        try:
            with closing(open_store(load(self.environ).store, create=False)) as store:
                records = store.snapshot().records
        except StoreError:
            return []
        found = [json.loads(record.text or "null") for record in records]
        return [session for session in found if login in (None, session["login"])]

    def sessions(self, token: str, query: str = "") -> list[dict[str, Any]]:
        answer = fetch(f"{self.url}/api/list/{token}{query}")
        assert answer.status == 200, answer.body
        found: list[dict[str, Any]] = answer.json
        return found
