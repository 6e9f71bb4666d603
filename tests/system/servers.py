"""What the tests of every kind of session server need: users who can log in, desks where they sit,
and what the list says."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from fastx_list.agent.look import Look
from fastx_list.agent.sources import load_sources
from fastx_list.agent.start import SessionJson
from fastx_list.agent.xserver import XServers
from fastx_list.config import load
from tests.support import Processes, Service, lacks_package, program, wait_for
from tests.system.feed import Feed
from tests.system.sessions import User

LOGINS = ("fastxlista", "fastxlistb", "fastxlistc")
MEASURED = ("idleSince", "cpu", "memory")
SECONDS = 60.0  # for what a whole desktop takes on a busy machine


@dataclass
class Account(User):
    """Someone with a password, who can log in."""

    password: str = field(repr=False)

    @classmethod
    def create(cls, login: str) -> Account:
        """Make the user; one that an interrupted run has left behind goes first."""
        remove(login)
        useradd, chpasswd = program("useradd", "passwd"), program("chpasswd", "passwd")
        subprocess.run(
            [useradd, "-m", "-s", "/bin/bash", "-c", "tests of fastx-list", login], check=True
        )
        account = cls(login, Path(pwd.getpwnam(login).pw_dir), secrets.token_hex(12))
        subprocess.run([chpasswd], input=f"{login}:{account.password}", text=True, check=True)
        return account

    def run(self, command: list[str], **environ: str) -> str:
        """Return what ``command`` prints when this user runs it, whatever its exit status."""
        uid, gid = self.ids
        done = subprocess.run(
            command,
            env=self.environ(**environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            user=uid,
            group=gid,
            extra_groups=[],
            cwd=self.home,
            timeout=SECONDS,
        )
        return done.stdout

    @property
    def processes(self) -> list[psutil.Process]:
        """What this user runs now."""
        return _processes_of(self.ids[0])


def _processes_of(uid: int) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["uids", "status"])
        if process.info["uids"]
        and process.info["uids"].real == uid
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def end_all(uid: int) -> None:
    """End every process of user ``uid``, by pid, and remove what they leave below /tmp.

    Daemons have left their parents, so the user is what they are known by.
    """

    def ended() -> bool:
        running = _processes_of(uid)
        for process in running:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        return not running

    wait_for("the end of the user's processes", ended, SECONDS)
    # A killed X server leaves its lock and its socket, and another user's server of that number
    # could not take them away.
    for directory in ("/tmp", "/tmp/.X11-unix", "/run/xrdp/sockdir"):
        for path in _entries(directory):
            with suppress(FileNotFoundError):  # others' come and go meanwhile
                if path.lstat().st_uid == uid:
                    (
                        shutil.rmtree(path)
                        if path.is_dir() and not path.is_symlink()
                        else path.unlink()
                    )


def remove(login: str) -> None:
    """Remove the user ``login``, if there is one, with all that is theirs."""
    try:
        uid = pwd.getpwnam(login).pw_uid
    except KeyError:
        return
    end_all(uid)
    subprocess.run(
        [program("userdel", "passwd"), "-r", login], check=True, stderr=subprocess.DEVNULL
    )


def _entries(directory: str) -> list[Path]:
    try:
        return list(Path(directory).iterdir())
    except FileNotFoundError:
        return []


def spare_display() -> int:
    """Return the number of a display that is free: a random one, for others may be looking for one
    at the same time."""
    return next(
        number
        for number in iter(lambda: 300 + secrets.randbelow(600), None)
        if not Path(f"/tmp/.X11-unix/X{number}").exists()
        and not Path(f"/tmp/.X{number}-lock").exists()
    )


class Desk:
    """A screen at which users sit: the windows of their viewers open here."""

    def __init__(self, processes: Processes) -> None:
        self.display = spare_display()
        xvfb, openbox = program("Xvfb", "xvfb"), program("openbox", "openbox")
        processes.start(
            [
                xvfb,
                f":{self.display}",
                "-screen",
                "0",
                "1600x1200x24",
                "-nolisten",
                "tcp",
                "-noreset",
            ],
            "desk",
        )
        wait_for("the desk's screen", lambda: Path(f"/tmp/.X11-unix/X{self.display}").exists())
        # Without a window manager some viewers take the whole screen, whatever size they are asked
        # for.
        processes.start([openbox], "desk", self.environ)

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "DISPLAY": f":{self.display}"}


def needs_python_module(name: str, package: str) -> None:
    """Skip the test, or in CI fail it, unless Debian's own Python has the module ``name`` of
    ``package``."""
    if subprocess.run(["/usr/bin/python3", "-c", f"import {name}"], capture_output=True).returncode:
        lacks_package(package, f"Python's {name} is not installed")


def is_listening(port: int) -> bool:
    """Whether something on this machine accepts TCP connections at ``port``."""
    return any(
        line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
    )


def listed(service: Service, user: User, **members: Any) -> dict[str, Any]:
    """Wait until the only session of ``user`` in the list has these ``members``, and return it
    without what is measured."""
    seen: list[dict[str, Any]] = []

    def look() -> dict[str, Any] | None:
        seen[:] = service.sessions(service.token(user.login))
        is_it = len(seen) == 1 and has(seen[0], members) and tells_addresses(seen[0])
        return seen[0] if is_it else None

    try:
        return unmeasured(wait_for("the session", look, SECONDS))
    except AssertionError:
        pytest.fail(f"one session with {members} was expected, but these are listed: {seen}")


def unmeasured(session: Mapping[str, Any]) -> dict[str, Any]:
    """Return a session without what is another one now and then, whatever happens to it."""
    return {name: value for name, value in session.items() if name not in MEASURED}


def lived_once(feed: Feed, session: dict[str, Any], given_up: int = 0) -> None:
    """Check that ``feed`` has told of ``session`` without a gap, of its end, and of nothing else,
    but for as many attempts to start one as were ``given_up``."""

    def has_ended() -> bool:
        feed.take()
        return {"id": session["id"], "data": None} in feed.messages and not feed.state

    wait_for("the message of the end", has_ended, SECONDS)
    ends = [message["id"] for message in feed.messages if message["data"] is None]
    told = {message["id"] for message in feed.messages}
    assert sorted(ends) == sorted(told)
    assert len(told) <= 1 + given_up


def has(session: Mapping[str, Any], members: Mapping[str, Any]) -> bool:
    return all(session[name] == value for name, value in members.items())


def tells_addresses(session: Mapping[str, Any]) -> bool:
    """Whether the list tells where clients come from if and only if there are some."""
    clients, addresses = session["clients"], session["clientAddresses"]
    return addresses is None if clients is None else bool(addresses) == bool(clients)


def not_listed(service: Service, user: User) -> None:
    """Wait until no session of ``user`` is listed."""
    wait_for(
        "the end of the session", lambda: not service.sessions(service.token(user.login)), SECONDS
    )


def seen_by(sources: str, service: Service, state: Path, *users: User) -> list[dict[str, Any]]:
    """Return the sessions of ``users`` that an agent beside ``service`` sees that looks for
    ``sources`` and starts anew."""
    other = Service(state, service.processes, {"FASTX_LIST_SOURCES": sources})
    other.run("agent", "--once")
    return [session for user in users for session in other.stored(user.login)]


@contextmanager
def looking(state: Path, sources: str) -> Iterator[Look]:
    """Look for sessions of ``sources`` in this process; what is a minute for others is a second
    here."""
    settings = load({"FASTX_LIST_STATE_DIR": str(state), "FASTX_LIST_SOURCES": sources})
    found = load_sources(settings)
    look = Look(found, SessionJson(state / "session.json"))
    look.machine.idle_seconds = look.machine.meter.round_seconds = 1.0
    yield look
    for source in found.values():
        if isinstance(source, XServers):
            source.close(look.machine)


def gone(process: psutil.Process) -> bool:
    """Whether ``process`` has ended, reaped or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def named(processes: Iterable[psutil.Process], *names: str) -> list[psutil.Process]:
    """Return those of ``processes`` that run a program of one of ``names``."""
    found = []
    for process in processes:
        try:
            if process.name() in names and not gone(process):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
