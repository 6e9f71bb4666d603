"""Apache, HAProxy and Caddy with the very files of docs/deploy, on other ports and with other
paths, before a list and a sidecar on Unix sockets."""

from __future__ import annotations

import grp
import http.client
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import Answer, Processes, Service, end, free_port, program, wait_for

FILES = Path(__file__).parents[2] / "docs/deploy"
HOST = "localhost"
OPENSSL = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
SERVING = {
    "list": ("fastx_list.web.server", "fastx_list:create_app()"),
    "live": ("fastx_list.live.server", "fastx_list:create_live_app()"),
}
# Apache's own main file, as Debian has it in all that matters here
APACHE = """
ServerRoot {place}
ServerName localhost
PidFile {place}/apache.pid
DefaultRuntimeDir {place}
Listen 127.0.0.1:{plain_port}
Listen 127.0.0.1:{port}
User www-data
Group www-data
ErrorLog {place}/logs/main.error.log
CustomLog {place}/logs/main.access.log "%h %l %u %t \\"%r\\" %>s %b"
{modules}
Include {place}/fastx-list.conf
"""
MODULES = "mpm_event authz_core alias socache_shmcb ssl headers rewrite proxy"
MODULES += " proxy_http proxy_wstunnel"


@dataclass
class Proxy:
    """One of them with its files in ``place``, and list and sidecar behind it."""

    name: str
    place: Path
    port: int = field(default_factory=free_port)
    plain_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        (self.place / "logs").mkdir()
        self.processes = Processes(self.place / "logs")
        settings = {"FASTX_LIST_TRUSTED_PROXIES": "unix", "WEB_CONCURRENCY": "1"}
        self.service = Service(self.place / "state", self.processes, settings)
        program("openssl", "openssl")
        key, certificate = self.place / "certificate.key", self.place / "certificate.pem"
        names = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
        where = ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run(
            ["openssl", *OPENSSL.split(), *names, *where], check=True, capture_output=True
        )
        both = self.place / "both.pem"
        both.write_bytes(certificate.read_bytes() + key.read_bytes())
        for file in (key, both):
            file.chmod(0o644)
        self.tls = ssl.create_default_context(cafile=certificate)

    def start(self) -> None:
        """Start list, sidecar and proxy, and wait until they answer."""
        for name in SERVING:
            self.serve(name)
        self.processes.start(STARTED[self.name](self), self.name)
        wait_for(self.name, lambda: self._answers())

    def serve(self, name: str) -> None:
        """Start ``list`` or ``live``."""
        settings, application = SERVING[name]
        socket = self.place / f"{name}.sock"
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", f"python:{settings}"]
        umask = ["--umask", "0007", "--group", "www-data"] if os.geteuid() == 0 else []
        self.service.running[name] = self.processes.start(
            [*gunicorn, *umask, "--bind", f"unix:{socket}", "--access-logfile", "-", application],
            name,
            self.service.environ,
        )
        wait_for(f"the socket of {name}", socket.exists)
        if os.geteuid() == 0:
            os.chown(socket, 0, grp.getgrnam("www-data").gr_gid)

    def end(self, name: str) -> None:
        end(self.service.running[name])

    def _answers(self) -> bool:
        try:
            return self.ask("/health").status == 200
        except OSError:
            return False

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        source: str = "",
    ) -> Answer:
        """Ask the proxy, from the address ``source``."""
        connection = http.client.HTTPSConnection(
            HOST, self.port, context=self.tls, timeout=60, source_address=(source, 0)
        )
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def logged(self) -> str:
        """Return all that proxy and services have logged so far."""
        return "".join(
            path.read_text(encoding="utf-8", errors="replace")
            for path in sorted((self.place / "logs").iterdir())
        )

    def configure(self, file: str, places: Mapping[str, str]) -> Path:
        """Write a shipped ``file`` with the ``places`` that everybody changes, and return its
        path."""
        text = (FILES / file).read_text(encoding="utf-8")
        for old, new in {**places, "/run/fastx-list/": f"{self.place}/"}.items():
            assert old in text, f"not in docs/deploy/{file}: {old}"
            text = text.replace(old, new)
        target = self.place / Path(file).name
        target.write_text(text, encoding="utf-8")
        return target


def _apache(proxy: Proxy) -> list[str]:
    apache = program("apache2", "apache2")
    proxy.configure(
        "apache/fastx-list.conf",
        {
            "<VirtualHost *:80>": f"<VirtualHost 127.0.0.1:{proxy.plain_port}>",
            "<VirtualHost *:443>": f"<VirtualHost 127.0.0.1:{proxy.port}>",
            "list.example.org": HOST,
            "/etc/ssl/certs/fastx-list.pem": f"{proxy.place}/certificate.pem",
            "/etc/ssl/private/fastx-list.key": f"{proxy.place}/certificate.key",
            "/var/log/apache2/": f"{proxy.place}/logs/",
        },
    )
    directory = "/usr/lib/apache2/modules"
    modules = [f"LoadModule {each}_module {directory}/mod_{each}.so" for each in MODULES.split()]
    main = APACHE.format(
        place=proxy.place, port=proxy.port, plain_port=proxy.plain_port, modules="\n".join(modules)
    )
    (proxy.place / "apache2.conf").write_text(main, encoding="utf-8")
    return [apache, "-D", "FOREGROUND", "-f", f"{proxy.place}/apache2.conf"]


def _haproxy(proxy: Proxy) -> list[str]:
    haproxy = program("haproxy", "haproxy")
    file = proxy.configure(
        "haproxy/haproxy.cfg",
        {
            "log /dev/log local0": "log stdout format raw local0",
            "maxconn 20000": "maxconn 500",  # for which the test has files
            "bind :80": f"bind 127.0.0.1:{proxy.plain_port}",
            "bind :443": f"bind 127.0.0.1:{proxy.port}",
            "/etc/haproxy/fastx-list.pem": f"{proxy.place}/both.pem",
        },
    )
    return [haproxy, "-db", "-f", str(file)]


def _caddy(proxy: Proxy) -> list[str]:
    caddy = program("caddy", "caddy")
    more = f"http_port {proxy.plain_port}\n\tadmin off\n\tstorage file_system {proxy.place}/caddy"
    file = proxy.configure(
        "caddy/Caddyfile",
        {
            "{\n\t# Tokens": f"{{\n\t{more}\n\t# Tokens",
            "list.example.org {": f"{HOST}:{proxy.port} {{",
            "/etc/ssl/certs/fastx-list.pem": f"{proxy.place}/certificate.pem",
            "/etc/ssl/private/fastx-list.key": f"{proxy.place}/certificate.key",
        },
    )
    return [caddy, "run", "--config", str(file), "--adapter", "caddyfile"]


STARTED: dict[str, Callable[[Proxy], list[str]]] = {
    "apache2": _apache,
    "haproxy": _haproxy,
    "caddy": _caddy,
}


def proxies(place: Path, name: str) -> Iterator[Proxy]:
    """Yield the proxy ``name``, which runs."""
    program(name, name)
    proxy = Proxy(name, place)
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.processes.stop()
