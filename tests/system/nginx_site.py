"""The product behind nginx: its services run as systemd would run them, and whoever asks for
them."""

from __future__ import annotations

import asyncio
import grp
import http.client
import os
import re
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from tests.support import Answer, Processes, Service, end, program, wait_for
from tests.system.nginx import HOST, Nginx
from tests.system.refused import send
from tests.system.units import SERVICES, UNITS, command_of, confined


class Site(Nginx):
    """nginx, and the services behind it."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.service = Service(
            place / "state",
            Processes(self.logs),
            {"FASTX_LIST_SCAN_INTERVAL": "0.25", "FASTX_LIST_SOURCES": "spool"},
        )
        self.sockets: dict[str, socket.socket] = {}
        self.tokens: list[str] = []  # that were used, and may be in no log
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self._run_loop, daemon=True).start()

    def start_all(self) -> None:
        # What root makes it gives to the directory's owner, which the units do not let it do; so
        # all files are made before.
        self.service.token("alice")
        self.service.run("agent", "--once")
        for name in ("list", "live"):
            self.listen(name)
        for name in SERVICES:
            self.start(name)
        self.start_nginx()
        self.await_up("live")

    def stop(self) -> None:
        """Stop everything and let go of it."""
        self.service.processes.stop()
        for name in list(self.sockets):
            self.close(name)
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _run_loop(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def start_nginx(self) -> None:
        self.service.running["nginx"] = self.service.processes.start(self.command(), "nginx")
        wait_for("nginx", self.answers)

    def answers(self) -> bool:
        try:
            return self.ask("/health").status == 200
        except OSError:
            return False

    def reload(self, **more: str) -> None:
        """Let nginx read its files again, and wait until only new processes of it accept
        connections."""
        before = self.workers()
        self.configure(more)
        subprocess.run(self.command("-t"), check=True, capture_output=True)
        subprocess.run(self.command("-s", "reload"), check=True, capture_output=True)
        wait_for(
            "new nginx processes",
            lambda: len(self.workers() - before) == 2 and not any(map(_accepts, before)),
        )

    def workers(self, name: str = "nginx") -> set[int]:
        """Return the processes that the main one of ``name`` has started."""
        pid = self.service.running[name].pid
        return {
            int(child)
            for child in (
                Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
            )
        }

    def listen(self, name: str) -> None:
        """Open the socket of ``list`` or ``live``, or of another sidecar, as its unit does: it
        stays while services come and go."""
        path = self.place / f"{name}.sock"
        path.unlink(missing_ok=True)
        self.sockets[name] = sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen(4096)
        path.chmod(0o660)
        if os.geteuid() == 0:
            os.chown(path, 0, grp.getgrnam("www-data").gr_gid)

    def close(self, name: str) -> None:
        """Close that socket; its path stays, and nobody answers there."""
        self.sockets.pop(name).close()

    def start(self, name: str, socket_name: str | None = None) -> subprocess.Popen[bytes]:
        """Start ``list``, ``live`` or ``agent`` with the command and the settings of its unit, and
        no more rights than that has."""
        service = SERVICES[name]
        shipped = (UNITS.parent / "fastx-list.conf").read_text(encoding="utf-8")
        settings = self.place / "fastx-list.conf"
        settings.write_text(shipped.replace("/var/lib/fastx-list", str(self.service.state)))
        environ = {"FASTX_LIST_CONFIG": str(settings)}
        command, handed = command_of(service), None
        if name != "agent":
            command += ["--access-logfile", "-"]
            handed = self.sockets[socket_name or name].fileno()
        process = self.service.processes.start(
            [*confined(service, handed), *command],
            socket_name or name,
            {**self.service.environ, **environ},
            pass_fds=() if handed is None else (handed,),
        )
        self.service.running[socket_name or name] = process
        return process

    def await_up(self, name: str) -> None:
        """Wait until a service answers on its socket, where it is waited for also while it
        starts."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(f"{self.place}/{name}.sock")
            connection.sendall(
                b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            assert connection.recv(64).startswith(b"HTTP/1.1 200 ")

    def restart(self, name: str) -> None:
        """Stop a service as systemd does, and start it again."""
        end(self.service.running[name])
        self.start(name)

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        port: int = 0,
        source: str = "",
    ) -> Answer:
        """Ask nginx, over a TLS connection of its own, which comes from the address ``source``."""
        connection = http.client.HTTPSConnection(
            HOST, port or self.port, context=self.tls, timeout=20, source_address=(source, 0)
        )
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def send(self, data: bytes, *, port: int = 0, tls: bool = True) -> Answer:
        """Send these very bytes, and return the answer to them: status 0 if there is none."""
        return send(data, port or self.port, self.tls if tls else None)

    def curl(self, *arguments: str) -> str:
        command = [
            program("curl", "curl"),
            "-sS",
            "--max-time",
            "60",
            "--cacert",
            f"{self.place}/certificate.pem",
            *arguments,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def logged(self) -> str:
        """Return all that nginx and the services have logged so far."""
        return "".join(
            path.read_text(encoding="utf-8", errors="replace")
            for path in sorted(self.logs.iterdir())
        )

    def await_line(self, *parts: str) -> None:
        """Wait for a line with these ``parts`` in the list's access log, which is written after an
        answer."""
        log = self.logs / "fastx-list.access.log"
        wait_for(
            f"a line with {parts}",
            lambda: any(
                all(part in line for part in parts)
                for line in log.read_text(encoding="utf-8").splitlines()
            ),
        )


def _accepts(worker: int) -> bool:
    """Whether an nginx process still takes connections, as opposed to one that only finishes what
    it has begun."""
    try:
        return b"shutting down" not in Path(f"/proc/{worker}/cmdline").read_bytes()
    except OSError:
        return False


def traces(text: str, tokens: Sequence[str]) -> list[str]:
    """Return the lines of ``text`` that hold one of ``tokens``, or of their parts, however they are
    written."""
    parts = {part for token in tokens for part in (token, *token.split(".")[1:])}
    return [
        line
        for line in text.splitlines()
        if any(
            part in form or part.lower() in form.lower()
            for part in parts
            for form in (line, unquote(line), _unescaped(line))
        )
    ]


def _unescaped(text: str) -> str:
    return re.sub(r"\\x([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), text)
