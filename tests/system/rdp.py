"""xrdp with a configuration of its own, and windows of ``xfreerdp`` that log in to it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.support import Processes, free_port, lacks_package, missing, program, wait_for
from tests.system.elsewhere import Other
from tests.system.servers import SECONDS, Account, Desk, is_listening

FIRST_DISPLAY = 210
WINDOW_MANAGER = "/usr/bin/openbox"
TYPES = {"2": "Xvnc", "3": "Xorg"}  # as xrdp-sesadmin 0.9 numbers them


def make_certificate(key: Path, certificate: Path) -> None:
    """Make a key and a certificate for TLS."""
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(
        [
            program("openssl", "openssl"),
            "req",
            *options,
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )


class Xrdp:
    """A running xrdp and its session manager; who comes from another machine reaches xrdp."""

    def __init__(self, place: Path, processes: Processes) -> None:
        self._processes = processes
        self._place = place / "xrdp"
        self._client = program("xfreerdp", "freerdp2-x11", later="xfreerdp3")
        self._sesadmin = program("xrdp-sesadmin", "xrdp")
        self.port = free_port()
        manager, server = program("xrdp-sesman", "xrdp"), program("xrdp", "xrdp")
        program("openbox", "openbox")
        program("Xtigervnc", "tigervnc-standalone-server")
        if not Path("/usr/lib/xorg/modules/libxorgxrdp.so").exists():
            lacks_package("xorgxrdp", "xorgxrdp is not installed")
        self._configure()
        if manager_listens():
            missing("an xrdp of this machine's own runs")
        subprocess.run(["/bin/sh", "/usr/share/xrdp/socksetup"], check=True)
        processes.start(
            [manager, "--nodaemon", "-c", str(self._place / "sesman.ini")], "xrdp-sesman"
        )
        processes.start(
            [server, "--nodaemon", "-c", str(self._place / "xrdp.ini")],
            "xrdp",
            user="xrdp",
            group="xrdp",
        )
        wait_for("xrdp", lambda: is_listening(self.port) and manager_listens(), SECONDS)

    def _configure(self) -> None:
        shutil.copytree("/etc/xrdp", self._place)
        key, certificate = self._place / "own-key.pem", self._place / "own-cert.pem"
        make_certificate(key, certificate)
        logs = self._place / "logs"
        logs.mkdir()
        for path in (logs, key, self._place / "rsakeys.ini"):
            shutil.chown(path, "xrdp")
        window_manager = self._place / "startwm.sh"
        window_manager.write_text(f"#!/bin/sh\nexec {WINDOW_MANAGER}\n", encoding="utf-8")
        # What it is called until then.
        self.starts_with = f"/bin/sh {window_manager}"
        window_manager.chmod(0o755)
        self._set(
            "xrdp.ini",
            port=f"tcp://:{self.port}",
            certificate=certificate,
            key_file=key,
            LogFile=logs / "xrdp.log",
            EnableSyslog="false",
        )
        self._set(
            "sesman.ini",
            LogFile=self._place / "sesman.log",
            EnableSyslog="false",
            X11DisplayOffset=FIRST_DISPLAY,
            EnableUserWindowManager="false",
            DefaultWindowManager=window_manager,
        )
        # What 0.10 wants to be told: which group may connect to a session beside root, that users
        # may choose their program, and the last display.
        path = self._place / "sesman.ini"
        text = path.read_text(encoding="utf-8")
        for section, added in (
            ("[Security]", "SessionSockdirGroup=xrdp\nAllowAlternateShell=yes"),
            ("[Sessions]", f"MaxDisplayNumber={FIRST_DISPLAY + 50}"),
        ):
            assert text.count(f"\n{section}\n") == 1
            text = text.replace(f"\n{section}\n", f"\n{section}\n{added}\n")
        path.write_text(text, encoding="utf-8")

    def _set(self, file: str, **values: object) -> None:
        """Give settings of Debian's ``file`` other values."""
        path = self._place / file
        text = path.read_text(encoding="utf-8")
        for name, value in values.items():
            text, count = re.subn(rf"(?m)^{name}=.*", lambda _: f"{name}={value}", text, count=1)
            assert count, name
        path.write_text(text, encoding="utf-8")

    def connect(
        self,
        desk: Desk,
        account: Account,
        kind: str,
        size: str = "1024x768",
        *options: str,
        at: Other | None = None,
    ) -> subprocess.Popen[bytes]:
        """Open a window on ``account``'s session on an X server of ``kind``, which starts if there
        is none yet; ``at`` another machine, or at this one."""
        return self._processes.start(
            [
                *([] if at is None else at.enter),
                self._client,
                f"/v:{'127.0.0.1' if at is None else at.here}:{self.port}",
                f"/u:{account.login}",
                f"/p:{account.password}",
                f"/d:{kind}",
                "/cert:ignore",
                "/sec:tls",
                f"/size:{size}",
                "/bpp:24",
                "-grab-keyboard",
                *options,
            ],
            "xfreerdp",
            desk.environ,
        )

    def sessions(self, account: Account) -> dict[int, str]:
        """Return what xrdp itself says runs: the kind of X server by the pid that xrdp knows the
        session by."""
        # 0.9 would look for the manager at "localhost" and find ::1; 0.10 takes no -s.
        where = ["-s=127.0.0.1"] if manager_port() else []
        said = account.run(
            [self._sesadmin, f"-u={account.login}", f"-p={account.password}", *where, "-c=list"]
        )
        return {
            int(pid): TYPES.get(kind, kind)
            for pid, kind in re.findall(r"(?s)Session ID: ([0-9]+).*?Session type: (\w+)", said)
        }


def manager_port() -> int | None:
    """Return the TCP port where xrdp 0.9 looks for its session manager (xrdp_mm_get_sesman_port):
    it is in the machine's own file, so that there is only the one. 0.10 has a socket instead."""
    settings = Path("/etc/xrdp/sesman.ini").read_text(encoding="utf-8")
    found = re.search(r"(?m)^ListenPort=([0-9]+)", settings)
    return int(found[1]) if found else None


def manager_listens() -> bool:
    """Whether a session manager listens where xrdp looks for it."""
    port = manager_port()
    if port:
        return is_listening(port)
    sockets = Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()
    return any(line.endswith("/sesman.socket") for line in sockets)
