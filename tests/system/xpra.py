"""xpra's servers, started by a user without systemd, and its clients."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support import Processes, program, wait_for
from tests.system.elsewhere import Other, Ssh
from tests.system.servers import SECONDS, Account, Desk, needs_python_module

# No sound, printers, webcam or other things of a desk that a test has no need of.
QUIET = (
    "--pulseaudio=no",
    "--mdns=no",
    "--printing=no",
    "--webcam=no",
    "--notifications=no",
    "--systemd-run=no",
)
# Without WebP, whose encoder reads a picture that is gone when the screen's size changes under it,
# and takes the server along.
CLIENT = (
    "--encodings=rgb",
    "--encoding=rgb",
    "--opengl=no",
    "--mdns=no",
    "--tray=no",
    "--speaker=off",
    "--microphone=off",
    "--notifications=no",
)
# As xpra's own, only smaller.
SCREEN = (
    "Xvfb -screen 0 1280x800x24 -nolisten tcp -noreset +extension RANDR +extension Composite -auth"
    " $XAUTHORITY"
)

# As xpra 4 and later do it themselves where python3-setproctitle is installed.
_WITH_TITLE = """import runpy, sys
from setproctitle import setproctitle
title, *sys.argv = sys.argv[1:]
setproctitle(title.replace("{}", " ".join(sys.argv)))
runpy.run_path(sys.argv[0], run_name="__main__")"""


class Xpra:
    """Starts xpra's servers; they leave their parent and are known by their display."""

    def __init__(self, place: Path, processes: Processes) -> None:
        self._processes = processes
        self.program = program("xpra", "xpra")
        program("Xvfb", "xvfb")
        program("xauth", "xauth")
        needs_python_module("PIL", "python3-pil")
        # Instead of Debian's, which start a desktop's programs in every session
        self._settings = place / "xpra"
        self._settings.mkdir()
        (self._settings / "xpra.conf").touch()
        self._clients = 0

    def start(
        self,
        user: Account,
        mode: str,
        *options: str,
        usual_settings: bool = False,
        title: str | None = None,
    ) -> None:
        """Start a server in ``mode``: start, start-desktop or shadow. One with a ``title`` calls
        itself so; "{}" stands for its command line."""
        environ = {} if usual_settings else {"XPRA_SYSTEM_CONF_DIRS": str(self._settings)}
        screen = [f"--xvfb={SCREEN}"] if mode == "start-desktop" else []
        command = [self.program, mode, *QUIET, f"--log-dir={user.home}", *screen, *options]
        if title is not None:
            needs_python_module("setproctitle", "python3-setproctitle")
            command = ["/usr/bin/python3", "-c", _WITH_TITLE, title, *command]
        user.start(self._processes, command, f"xpra-{user.login}", **environ).wait(SECONDS)

    def attach(
        self, user: Account, desk: Desk, address: str, identity: str
    ) -> subprocess.Popen[bytes]:
        """Open the session at ``address``, ``:100`` or ``tcp://…``, as one of the people (or desks)
        that it tells apart."""
        environ = {"DISPLAY": f":{desk.display}", "XPRA_USER_UUID": identity}
        return self._attach(
            address, lambda command, log: user.start(self._processes, command, log, **environ)
        )

    def attach_from(
        self, other: Other, user: Account, desk: Desk, display: int, ssh: Ssh
    ) -> subprocess.Popen[bytes]:
        """Open the session on ``display`` from another machine, over ssh."""
        address = f"ssh://{user.login}@{other.here}:{ssh.port}/{display}"
        environ = {**desk.environ, "HOME": str(self._settings)}
        return self._attach(
            address,
            lambda command, log: self._processes.start([*other.enter, *command], log, environ),
            f"--ssh={' '.join(ssh.command)}",
        )

    def _attach(
        self,
        address: str,
        start: Callable[[list[str], str], subprocess.Popen[bytes]],
        *options: str,
    ) -> subprocess.Popen[bytes]:
        self._clients += 1
        log = f"xpra-attach-{self._clients}"
        command = [self.program, "attach", address, "--sharing=yes", *CLIENT, *options]
        client = start(["env", f"XPRA_SYSTEM_CONF_DIRS={self._settings}", *command], log)
        wait_for("the client", lambda: "Attached to" in self._processes.log(log), SECONDS)
        return client

    def stop(self, user: Account, display: int) -> None:
        user.run([self.program, "stop", f":{display}"])

    def sessions(self, user: Account) -> set[int]:
        """Return the displays of the sessions that xpra itself says run."""
        return {
            int(number)
            for number in re.findall(r"LIVE session at :([0-9]+)", user.run([self.program, "list"]))
        }

    def await_sessions(self, user: Account, *displays: int) -> None:
        wait_for(
            f"xpra's sessions {displays}", lambda: self.sessions(user) == set(displays), SECONDS
        )
