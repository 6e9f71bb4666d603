"""The product behind a real nginx: the very files of docs/deploy with other paths and ports, and services run as systemd would."""

from __future__ import annotations

import asyncio
import grp
import http.client
import os
import pwd
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from tests.support import Answer, Service, end, free_port, program, wait_for
from tests.system import confine

DEPLOY = Path(__file__).parents[2] / "docs/deploy"
UNITS = DEPLOY / "systemd"
HOST = "localhost"
SERVICES = {"list": "fastx-list", "live": "fastx-list-live", "agent": "fastx-list-agent"}

# nginx's own main file, as Debian has it in all that matters here.
MAIN = """
daemon off;
{user}
pid {place}/nginx.pid;
error_log {logs}/main.error.log notice;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    types {{ text/html html; text/css css; text/javascript js; image/svg+xml svg; }}
    default_type application/octet-stream;
    access_log {logs}/main.access.log;
    client_body_temp_path {place}/temp-body;
    proxy_temp_path {place}/temp-proxy;
    fastcgi_temp_path {place}/temp-fastcgi;
    uwsgi_temp_path {place}/temp-uwsgi;
    scgi_temp_path {place}/temp-scgi;
    include conf.d/*.conf;
    include sites-enabled/*;
}}
"""
# A site that was there before, with a portal of its own.
PORTAL = """
server {{
    listen 127.0.0.1:{port} ssl http2;
    server_name localhost;
    ssl_certificate {place}/certificate.pem;
    ssl_certificate_key {place}/certificate.key;
    include snippets/fastx-list-subpath.conf;
    access_log {logs}/portal.access.log combined if=$fastx_list_not_asked;
    location / {{ return 200 "the portal"; }}
}}
"""


def unit(name: str, setting: str) -> list[str]:
    """Return the values of ``setting`` in the shipped unit ``name``."""
    return re.findall(rf"^{setting}=(.*)$", (UNITS / name).read_text(encoding="utf-8"), re.MULTILINE)


def command_of(service: str) -> list[str]:
    """Return what the shipped unit ``service`` runs, out of the environment that the tests run in."""
    (line,) = unit(service, "ExecStart")
    return shlex.split(line.replace("/opt/fastx-list/bin", str(Path(sys.executable).parent)))


def confined(service: str, socket: int | None = None, user: str = "") -> list[str]:
    """Return the beginning of a command that runs the rest of it with no more rights than the shipped unit ``service`` gives it.

    ``socket`` is handed over to it. Only root can do without capabilities that it has, or be another ``user``.
    """
    program("systemd-analyze", "systemd")
    restricted = [sys.executable, confine.__file__, "" if socket is None else str(socket), _allowed_calls(service)]
    if os.geteuid() != 0:
        return restricted
    (names,) = unit(service, "CapabilityBoundingSet")
    kept = ",".join(["-all", *(f"+{name.lower().removeprefix('cap_')}" for name in names.split())])
    rights = [f"--bounding-set={kept}", f"--inh-caps={kept}"]
    if user:
        entry = pwd.getpwnam(user)
        rights += [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", f"--ambient-caps={kept}"]
    return [program("setpriv", "util-linux"), *rights, "--no-new-privs", "--", *restricted]


@lru_cache
def _allowed_calls(service: str) -> str:
    return ",".join(confine.allowed_calls(unit(service, "SystemCallFilter")))


@dataclass
class Site:
    """One nginx with two sites, the list's own and a portal with the list below ``/fastx/``, and the services behind them."""

    place: Path
    service: Service
    port: int = field(default_factory=free_port)
    plain_port: int = field(default_factory=free_port)
    portal_port: int = field(default_factory=free_port)
    sockets: dict[str, socket.socket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        program("openssl", "openssl")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
             "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", self.place / "certificate.key",
             "-out", self.place / "certificate.pem"], check=True, capture_output=True,
        )
        self.tls = ssl.create_default_context(cafile=self.place / "certificate.pem")
        self.loop = asyncio.new_event_loop()
        self._looping = threading.Thread(target=self.loop.run_forever)
        self._looping.start()
        self.configure({})

    def stop(self) -> None:
        """Stop everything and let go of it."""
        self.service.processes.stop()
        for name in list(self.sockets):
            self.close(name)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._looping.join()
        self.loop.close()

    @property
    def logs(self) -> Path:
        return self.place / "logs"

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    @property
    def portal_url(self) -> str:
        return f"https://{HOST}:{self.portal_port}/fastx"

    @property
    def live_url(self) -> str:
        return f"wss://{HOST}:{self.port}/api/list"

    @property
    def portal_live_url(self) -> str:
        return f"wss://{HOST}:{self.portal_port}/fastx/api/list"

    def configure(self, more: Mapping[str, str]) -> None:
        """Write nginx's files: the shipped ones with the places that everybody changes, and with ``more`` replaced in them."""
        (self.place / "nginx").mkdir(exist_ok=True)
        places = {
            **more,
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};", "listen [::]:80;": "",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.port} ssl http2;", "listen [::]:443 ssl http2;": "",
            "list.example.org": HOST,
            "/etc/ssl/certs/fastx-list.pem": f"{self.place}/certificate.pem",
            "/etc/ssl/private/fastx-list.key": f"{self.place}/certificate.key",
            "/run/fastx-list/": f"{self.place}/", "/var/log/nginx/": f"{self.logs}/",
        }
        found = set()
        for source in sorted((DEPLOY / "nginx").rglob("*")):
            if source.is_file():
                text = source.read_text(encoding="utf-8")
                found |= {old for old in places if old in text}
                for old, new in places.items():
                    text = text.replace(old, new)
                target = self.place / "nginx" / source.relative_to(DEPLOY / "nginx")
                target.parent.mkdir(exist_ok=True)
                target.write_text(text, encoding="utf-8")
        assert found == places.keys(), f"not in docs/deploy/nginx: {places.keys() - found}"
        user = "user www-data;" if os.geteuid() == 0 else ""
        (self.place / "nginx/nginx.conf").write_text(MAIN.format(place=self.place, logs=self.logs, user=user), encoding="utf-8")
        enabled = self.place / "nginx/sites-enabled"
        enabled.mkdir(exist_ok=True)
        shutil.copy(self.place / "nginx/sites-available/fastx-list", enabled)
        portal = PORTAL.format(place=self.place, logs=self.logs, port=self.portal_port)
        (enabled / "portal").write_text(portal, encoding="utf-8")

    def nginx(self, *more: str) -> list[str]:
        return [program("nginx", "nginx-light"), "-p", f"{self.place}/", "-c", f"{self.place}/nginx/nginx.conf", *more]

    def start_nginx(self) -> None:
        self.service.running["nginx"] = self.service.processes.start(self.nginx(), "nginx")
        wait_for("nginx", self.answers)

    def answers(self) -> bool:
        try:
            return self.ask("/health").status == 200
        except OSError:
            return False

    def reload(self, **more: str) -> None:
        """Let nginx read its files again, and wait until only new processes of it accept connections."""
        before = self.workers()
        self.configure(more)
        subprocess.run(self.nginx("-t"), check=True, capture_output=True)
        subprocess.run(self.nginx("-s", "reload"), check=True, capture_output=True)
        wait_for("new nginx processes", lambda: len(self.workers() - before) == 2 and not any(map(_accepts, before)))

    def workers(self, name: str = "nginx") -> set[int]:
        """Return the processes that the main one of ``name`` has started."""
        pid = self.service.running[name].pid
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()}

    def listen(self, name: str) -> None:
        """Open the socket of ``list`` or ``live``, or of another sidecar, as its unit does: it stays while services come and go."""
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
        """Start ``list``, ``live`` or ``agent`` with the command and the settings of its unit, and no more rights than that has."""
        service = f"{SERVICES[name]}.service"
        environ = dict(
            each.replace("/var/lib/fastx-list", str(self.service.state)).split("=", 1)
            for line in unit(service, "Environment") for each in line.split()
        )
        command, handed = command_of(service), None
        if name != "agent":
            command += ["--access-logfile", "-"]
            handed = self.sockets[socket_name or name].fileno()
        process = self.service.processes.start(
            [*confined(service, handed), *command], socket_name or name, {**self.service.environ, **environ},
            pass_fds=() if handed is None else (handed,),
        )
        self.service.running[socket_name or name] = process
        return process

    def await_up(self, name: str) -> None:
        """Wait until a service answers on its socket, where it is waited for also while it starts."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(f"{self.place}/{name}.sock")
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert connection.recv(64).startswith(b"HTTP/1.1 200 ")

    def restart(self, name: str) -> None:
        """Stop a service as systemd does, and start it again."""
        end(self.service.running[name])
        self.start(name)

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None, *,
        port: int = 0, source: str = "",
    ) -> Answer:
        """Ask nginx, over a TLS connection of its own, which comes from the address ``source``."""
        connection = http.client.HTTPSConnection(HOST, port or self.port, context=self.tls, timeout=20, source_address=(source, 0))
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def send(self, data: bytes, *, port: int = 0, tls: bool = True) -> Answer:
        """Send these very bytes, and return the answer to them: status 0 if there is none."""
        with socket.create_connection((HOST, port or self.port), timeout=60) as plain:
            with (self.tls.wrap_socket(plain, server_hostname=HOST) if tls else plain) as connection:
                response = http.client.HTTPResponse(connection)
                try:
                    connection.sendall(data)
                    response.begin()
                    return Answer(response.status, response.headers, response.read())
                except (http.client.BadStatusLine, OSError):
                    return Answer(0, Message(), b"")

    def curl(self, *arguments: str) -> str:
        command = [program("curl", "curl"), "-sS", "--max-time", "60", "--cacert", f"{self.place}/certificate.pem", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def logged(self) -> str:
        """Return all that nginx and the services have logged so far."""
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(self.logs.iterdir()))

    def access_log(self) -> list[str]:
        return (self.logs / "fastx-list.access.log").read_text(encoding="utf-8").splitlines()


def _accepts(worker: int) -> bool:
    """Whether an nginx process still takes connections, as opposed to one that only finishes what it has begun."""
    try:
        return b"shutting down" not in Path(f"/proc/{worker}/cmdline").read_bytes()
    except OSError:
        return False


def traces(text: str, tokens: Sequence[str]) -> list[str]:
    """Return the lines of ``text`` that hold one of ``tokens``, or of their parts, however they are written."""
    parts = {part for token in tokens for part in (token, *token.split(".")[1:])}
    return [
        line for line in text.splitlines()
        if any(part in form or part.lower() in form.lower() for part in parts for form in (line, unquote(line), _unescaped(line)))
    ]


def _unescaped(text: str) -> str:
    return re.sub(r"\\x([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), text)
