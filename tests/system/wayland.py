"""Wayland compositors without a screen of their own, and what lets viewers in to them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support import Processes, free_port, program, wait_for
from tests.system.rdp import make_certificate
from tests.system.servers import SECONDS, Account, Desk, is_listening
from tests.system.simulated import x_socket

# Of wlroots: no seat, no input devices, and no GPU
HEADLESS = {
    "WLR_BACKENDS": "headless",
    "WLR_LIBINPUT_NO_DEVICES": "1",
    "WLR_RENDERER": "pixman",
    "XDG_SESSION_TYPE": "wayland",
}


class Desktop:
    """One user's place for a compositor's sockets."""

    def __init__(self, place: Path, processes: Processes, user: Account) -> None:
        self._processes = processes
        self.user = user
        # With which weston shows who it is; made for it.
        self.certificate = place / f"{user.login}.pem"
        self.runtime = place / f"runtime-{user.login}"
        shutil.rmtree(self.runtime, ignore_errors=True)  # as an earlier test has left it
        self.runtime.mkdir(mode=0o700)
        os.chown(self.runtime, *user.ids)
        x_socket(0)  # else the first compositor makes the place of X sockets, for itself alone

    @property
    def environ(self) -> dict[str, str]:
        return {"XDG_RUNTIME_DIR": str(self.runtime)}

    def socket(self) -> Path | None:
        """Return the path of the Wayland socket, once there is one."""
        found = [each for each in self.runtime.glob("wayland-*") if each.is_socket()]
        return found[0] if found else None

    def start(self, argv: Sequence[str], **environ: str) -> subprocess.Popen[bytes]:
        """Start a compositor, and wait for its Wayland socket."""
        compositor = self.user.start(
            self._processes, argv, f"{Path(argv[0]).name}", **{**self.environ, **environ}
        )
        wait_for("the Wayland socket", self.socket, SECONDS)
        return compositor

    def start_weston(
        self, backend: str, place: Path, *options: str
    ) -> tuple[subprocess.Popen[bytes], int]:
        """Start weston(1) with this ``backend``; return it, and its port."""
        port = free_port()
        key = place / f"{self.user.login}.key"
        make_certificate(key, self.certificate)
        os.chown(key, *self.user.ids)
        weston = self.start(
            [
                program("weston", "weston"),
                f"--backend={backend}",
                "--address=127.0.0.1",
                f"--port={port}",
                f"--{backend.partition('-')[0]}-tls-key={key}",
                f"--{backend.partition('-')[0]}-tls-cert={self.certificate}",
                *options,
            ]
        )
        wait_for("weston's port", lambda: is_listening(port), SECONDS)
        return weston, port

    def start_wayvnc(self, *options: str) -> tuple[subprocess.Popen[bytes], int]:
        """Start wayvnc(1) for the compositor that runs; return it and its port."""
        port, path = free_port(), self.socket()
        assert path is not None
        wayvnc = self.user.start(
            self._processes,
            [program("wayvnc", "wayvnc"), *options, "127.0.0.1", str(port)],
            "wayvnc",
            WAYLAND_DISPLAY=path.name,
            **self.environ,
        )
        wait_for("wayvnc", lambda: is_listening(port), SECONDS)
        return wayvnc, port


def rdp_client(processes: Processes, desk: Desk, port: int) -> subprocess.Popen[bytes]:
    """Open a window on a desktop that asks for no password."""
    client = program("xfreerdp", "freerdp2-x11", later="xfreerdp3")
    options = ["/u:any", "/p:any", "/cert:ignore", "/sec:tls", "/size:800x600"]
    return processes.start([client, f"/v:127.0.0.1:{port}", *options], "xfreerdp", desk.environ)


def vnc_window(
    processes: Processes, desk: Desk, desktop: Desktop, port: int
) -> subprocess.Popen[bytes]:
    """Open a window on weston, which asks for its user's password."""
    viewer = program("xtigervncviewer", "tigervnc-viewer")
    options = ["-Shared", "-SecurityTypes=X509Plain", f"-X509CA={desktop.certificate}"]
    login = {"VNC_USERNAME": desktop.user.login, "VNC_PASSWORD": desktop.user.password}
    return processes.start(
        [viewer, *options, f"localhost::{port}"], "viewer", {**desk.environ, **login}
    )


@contextmanager
def vnc_client(port: int) -> Iterator[socket.socket]:
    """Be a viewer that has said who it is (RFC 6143, 7.1 to 7.3)."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as viewer:
        assert viewer.recv(12) == b"RFB 003.008\n"
        viewer.sendall(b"RFB 003.008\n")
        number = viewer.recv(1)[0]
        assert 1 in viewer.recv(number)  # no password
        viewer.sendall(b"\1")
        assert viewer.recv(4) == bytes(4)
        viewer.sendall(b"\1")  # share the desktop
        yield viewer
