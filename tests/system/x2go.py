"""X2Go's server behind an sshd of its own, and its command line client with the real
``nxproxy``."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support import Processes, end, lacks_package, program, wait_for
from tests.system.elsewhere import Other, Ssh
from tests.system.servers import SECONDS, Account, Desk

READY = "Press CTRL+C"


@dataclass(frozen=True)
class Known:
    """One session as ``x2golistsessions`` tells of it."""

    agent: int
    name: str
    display: int
    status: str


# Debian 13 has a client that still asks its Python for what 3.12 took out of it.
SHIM = """
import configparser
class SafeConfigParser(configparser.ConfigParser):
    readfp = configparser.ConfigParser.read_file
configparser.SafeConfigParser = SafeConfigParser
"""


class X2Go:
    """An sshd through which X2Go's clients come, and X2Go's daemon that notices sessions that have
    ended."""

    def __init__(self, place: Path, processes: Processes) -> None:
        self._processes = processes
        self._client = program("pyhoca-cli", "pyhoca-cli")
        cleaner = program("x2gocleansessions", "x2goserver")
        program("dbus-run-session", "dbus-daemon")
        perl = [program("perl", "perl"), "-MEncode::Locale", "-e1"]
        # The tool, new in Debian 13, with which X2Go writes down how a session is resumed.
        if (
            shutil.which("x2gooptionsstring")
            and subprocess.run(perl, capture_output=True).returncode
        ):
            lacks_package("libencode-locale-perl", "Perl's Encode::Locale is not installed")
        self._place = place / "x2go"
        self._place.mkdir()
        (self._place / "sitecustomize.py").write_text(SHIM, encoding="utf-8")
        self._ssh = Ssh(self._place, processes, "UsePAM yes", "Subsystem sftp internal-sftp")
        Path("/tmp/.X11-unix").mkdir(mode=0o1777, exist_ok=True)
        processes.start([cleaner, "--debug"], "x2gocleansessions")
        self._clients = 0
        self.given_up = 0  # attempts, each of which may have been a session

    def start(
        self, user: Account, desk: Desk, kind: str, command: str, at: Other | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a session of ``kind``, ``desktop`` or ``application``, ``at`` another machine, or
        at this one; return its client."""
        options = ["-N", "-t", kind, "-g", "1000x700", "-c", command]
        return self._connect(user, desk, *options, at=at)

    def resume(self, user: Account, desk: Desk, name: str) -> subprocess.Popen[bytes]:
        return self._connect(user, desk, "-R", name)

    def _connect(
        self, user: Account, desk: Desk, *options: str, at: Other | None = None
    ) -> subprocess.Popen[bytes]:
        # X2Go takes ports at random without asking whether they are free, so that it may have to
        # try again.
        before = {session.name for session in self.sessions(user)}
        for _ in range(3):
            self._clients += 1
            log = f"pyhoca-cli-{self._clients}"
            home = self._place / log
            home.mkdir()
            client = self._processes.start(
                [
                    *([] if at is None else at.enter),
                    self._client,
                    "--server",
                    "127.0.0.1" if at is None else at.here,
                    "-p",
                    str(self._ssh.port),
                    "-u",
                    user.login,
                    "--force-password",
                    "--password",
                    user.password,
                    "--add-to-known-hosts",
                    "--sound",
                    "none",
                    *options,
                ],
                log,
                {
                    **desk.environ,
                    "HOME": str(home),
                    "LANG": "C.UTF-8",
                    "PYTHONPATH": str(self._place),
                },
                cwd="/",
            )
            try:
                wait_for(
                    "the client",
                    lambda: READY in self._processes.log(log) or client.poll() is not None,
                    SECONDS / 2,
                )
            except AssertionError:
                pass  # its server did not come up, and it does not notice
            if client.poll() is None and READY in self._processes.log(log):
                return client
            end(client)
            self.given_up += 1
            for session in self.sessions(user):
                if session.name not in before:
                    self.terminate(user, session.name)
        logs = [self._processes.log(f"pyhoca-cli-{self._clients - ago}") for ago in (2, 1, 0)]
        raise AssertionError(f"X2Go's client did not get there: {logs}")

    def suspend(self, user: Account, name: str) -> None:
        """Suspend the session from elsewhere; that ends its client."""
        self._run(user, "x2gosuspend-session", name)

    def terminate(self, user: Account, name: str) -> None:
        self._run(user, "x2goterminate-session", name)

    def sessions(self, user: Account) -> list[Known]:
        """Return what X2Go itself says that ``user`` runs."""
        lines = [
            line.split("|")
            for line in self._run(user, "x2golistsessions").splitlines()
            if line.count("|") > 5
        ]
        # One that is just being started has no process yet
        return [
            Known(int(fields[0]), fields[1], int(fields[2]), fields[4])
            for fields in lines
            if fields[0]
        ]

    def _run(self, user: Account, *command: str) -> str:
        """Return what ``command`` prints when ``user`` runs it on the server."""
        return subprocess.run(
            [
                *self._ssh.command,
                "-q",
                "-p",
                str(self._ssh.port),
                f"{user.login}@127.0.0.1",
                *command,
            ],
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
        ).stdout
