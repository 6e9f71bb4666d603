"""``fastx-list up``: agent, list and sidecar as three processes in the foreground, for a first try
or a single machine."""

from __future__ import annotations

import ctypes
import http.client
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing

import click

from fastx_list.agent.process import login_of
from fastx_list.command.demo import Demo
from fastx_list.command.simulated import Machines
from fastx_list.command.stop import Stop
from fastx_list.config import PREFIX, ConfigError, Settings
from fastx_list.replica.replica import Replica
from fastx_list.replica.view import Entry
from fastx_list.store import StoreError, open_store
from fastx_list.text import amount, printable
from fastx_list.tokens import Tokens

TOKEN_SECONDS = 8 * 3600
START_SECONDS = 30.0
LOOK_SECONDS = 5.0  # that the agent has for its first look
STOP_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1  # prctl(2)

log = logging.getLogger(__name__)


class _Child:
    """One of the three processes; it is started again if it dies after it has once been up."""

    def __init__(self, name: str, command: Sequence[str], environ: dict[str, str]) -> None:
        self.name = name  # for people
        self._command, self._environ = command, environ  # how it is started, each time
        self._libc = ctypes.CDLL(None)  # loaded before the fork
        self.start()

    def start(self) -> None:
        # A process group of its own: Ctrl-C reaches this process alone, which then stops the others
        # in order.
        self.process = subprocess.Popen(
            self._command,
            env=self._environ,
            start_new_session=True,
            preexec_fn=self._die_with_parent,
        )

    def _die_with_parent(self) -> None:
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()


def run(settings: Settings, bind: str, live_bind: str, demo: bool, admin: bool) -> int:
    """Run until SIGINT or SIGTERM; return the exit status. Raises :class:`ConfigError` for an
    address that cannot be used."""
    addresses = {
        name: _parse_address(name, value)
        for name, value in (("--bind", bind), ("--live-bind", live_bind))
    }
    for name, address in addresses.items():
        _check_free(name, *address)
    login = login_of(os.geteuid())
    # Makes the secret before three processes would
    token = Tokens(settings).issue(login, TOKEN_SECONDS, admin)
    environ = {
        **os.environ,
        PREFIX + "LIST_PORT": str(addresses["--bind"][1]),
        PREFIX + "LIVE_PORT": str(addresses["--live-bind"][1]),
    }
    stop = Stop()
    children: list[_Child] = []
    simulated: list[Demo | Machines] = [Demo(settings.spool, login)] if demo else []
    if demo and admin:
        simulated.append(Machines(settings))
    try:
        for each in simulated:
            each.start()
        children += [
            _Child("agent", [sys.executable, "-m", "fastx_list", "agent"], environ),
            _Child("list", _gunicorn("web", bind, "fastx_list:create_app()"), environ),
            _Child(
                "sidecar", _gunicorn("live", live_bind, "fastx_list:create_live_app()"), environ
            ),
        ]
        if settings.events or settings.webhook:
            deliver = [sys.executable, "-m", "fastx_list", "deliver"]
            children.append(_Child("sender of events", deliver, environ))
        if not _await_ready(children, addresses, stop):
            return 0 if stop.asked else 1
        code = Tokens(settings).issue_code(login, TOKEN_SECONDS, admin)
        _greet(settings, login, token, code, addresses)
        _keep_up(children, stop)
        return 0
    finally:
        for each in simulated:
            each.stop()
        for child in reversed(children):
            child.stop()
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()


def _gunicorn(role: str, bind: str, application: str) -> list[str]:
    command = [sys.executable, "-m", "gunicorn", "-c", f"python:fastx_list.{role}.server"]
    return [*command, "--log-level", "warning", "--bind", bind, application]


def _await_ready(
    children: Sequence[_Child], addresses: dict[str, tuple[str, int]], stop: Stop
) -> bool:
    """Wait until list and sidecar answer; false if one of the processes gave up or the user did."""
    deadline = time.monotonic() + START_SECONDS
    waiting = dict(addresses)
    while waiting:
        for child in children:
            if child.process.poll() is not None:
                log.error("the %s has stopped; what it said is above", child.name)
                return False
        if stop.asked:
            return False
        if time.monotonic() > deadline:
            log.error("no answer after %d s at %s", START_SECONDS, " and ".join(waiting))
            return False
        waiting = {name: address for name, address in waiting.items() if not _answers(*address)}
        stop.wait(0.05)
    return True


def _answers(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(_reachable(host), port, timeout=2)
    try:
        connection.request("GET", "/health")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _greet(
    settings: Settings, login: str, token: str, code: str, addresses: dict[str, tuple[str, int]]
) -> None:
    (host, port), (live_host, live_port) = addresses["--bind"], addresses["--live-bind"]
    page = f"http://{_shown(host)}:{port}"
    click.echo(f"""
fastx-list is up. Open this page as {login}; the link works once, within a minute:

  {page}/#code={code}

Later open {page}/ and paste the token below, which is good for 8 hours.

The same by hand (the WebSocket is at ws://{_shown(live_host)}:{live_port}/api/list?token=$TOKEN):

  TOKEN={token}
  curl {page}/api/list/$TOKEN
""")
    try:
        count = _count(settings, login)
    except StoreError as error:  # which the agent may be about to mend
        log.error("%s", error)
        click.echo("So what runs is not known now. Ctrl-C stops.")
        return
    if count:
        click.echo(f"{printable(login)} has {amount(count, 'session')} now. Ctrl-C stops.")
    else:
        click.echo(
            f"{printable(login)} has no session on this machine now. Start one, and it appears:"
            " tigervncserver\n(Debian: apt install tigervnc-standalone-server). Or look at"
            " simulated ones: fastx-list up --demo"
        )


def _count(settings: Settings, login: str) -> int:
    """Return how many sessions ``login`` has, once the agent may be expected to have looked. Raises
    :class:`StoreError`."""
    with closing(open_store(settings.store, keep=settings.keep)) as store:
        replica = Replica(store, Entry)
        deadline = time.monotonic() + LOOK_SECONDS
        replica.refresh()
        while not replica.entries(login) and time.monotonic() < deadline:
            replica.follow(0.5)
        return len(replica.entries(login))


def _keep_up(children: Sequence[_Child], stop: Stop) -> None:
    while not stop.wait(1.0):
        for child in children:
            if child.process.poll() is not None:
                log.error(
                    "the %s has stopped with status %s; starting it again",
                    child.name,
                    child.process.returncode,
                )
                child.start()


def _parse_address(name: str, value: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+]|[^:\s]+):([0-9]{1,5})", value)
    if not match or not 0 < int(match[2]) < 65536:
        raise ConfigError(f"{name} takes HOST:PORT, such as 127.0.0.1:8000, not {value!r}")
    return match[1].strip("[]"), int(match[2])


def _check_free(name: str, host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ConfigError(
            f"{name} {host}:{port} cannot be used: {error.strerror}; choose another with {name}"
            " HOST:PORT"
        ) from None


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _shown(host: str) -> str:
    host = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"[{host}]" if ":" in host else host
