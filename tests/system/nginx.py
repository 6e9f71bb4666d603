"""A real nginx with the very files of docs/deploy, on other ports and with other paths."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import free_port, program

FILES = Path(__file__).parents[2] / "docs/deploy/nginx"
HOST = "localhost"

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
    listen 127.0.0.1:{port} ssl;
    http2 on;
    server_name localhost;
    ssl_certificate {place}/certificate.pem;
    ssl_certificate_key {place}/certificate.key;
    include snippets/fastx-list-subpath.conf;
    access_log {logs}/portal.access.log combined if=$fastx_list_not_asked;
    location / {{ return 200 "the portal"; }}
}}
"""


@dataclass
class Nginx:
    """Two sites, the list's own and a portal with the list below ``/fastx/``, with all their files
    in the directory ``place``.

    List and sidecar are to be at ``list.sock`` and ``live.sock`` in it.
    """

    place: Path
    port: int = field(default_factory=free_port)
    plain_port: int = field(default_factory=free_port)
    portal_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.logs.mkdir(exist_ok=True)
        program("openssl", "openssl")
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "1",
                "-subj",
                f"/CN={HOST}",
                "-addext",
                f"subjectAltName=DNS:{HOST}",
                "-keyout",
                self.place / "certificate.key",
                "-out",
                self.place / "certificate.pem",
            ],
            check=True,
            capture_output=True,
        )
        self.tls = ssl.create_default_context(cafile=self.place / "certificate.pem")
        self.configure({})

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
        """Write nginx's files: the shipped ones with the places that everybody changes, and with
        ``more`` replaced in them."""
        (self.place / "nginx").mkdir(exist_ok=True)
        usual = {
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen [::]:80;": "",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
            "listen [::]:443 ssl;": "",
            "list.example.org": HOST,
            "/etc/ssl/certs/fastx-list.pem": f"{self.place}/certificate.pem",
            "/etc/ssl/private/fastx-list.key": f"{self.place}/certificate.key",
            "/run/fastx-list/": f"{self.place}/",
            "/var/log/nginx/": f"{self.logs}/",
            "/var/www/html": f"{self.place}/html",
        }
        places = {**more, **{old: new for old, new in usual.items() if old not in more}}
        found = set()
        for source in sorted(FILES.rglob("*")):
            if source.is_file():
                text = source.read_text(encoding="utf-8")
                found |= {old for old in places if old in text}
                for old, new in places.items():
                    text = text.replace(old, new)
                target = self.place / "nginx" / source.relative_to(FILES)
                target.parent.mkdir(exist_ok=True)
                target.write_text(text, encoding="utf-8")
        assert found == places.keys(), f"not in docs/deploy/nginx: {places.keys() - found}"
        user = "user www-data;" if os.geteuid() == 0 else ""
        (self.place / "nginx/nginx.conf").write_text(
            MAIN.format(place=self.place, logs=self.logs, user=user), encoding="utf-8"
        )
        enabled = self.place / "nginx/sites-enabled"
        enabled.mkdir(exist_ok=True)
        shutil.copy(self.place / "nginx/sites-available/fastx-list", enabled)
        portal = PORTAL.format(place=self.place, logs=self.logs, port=self.portal_port)
        (enabled / "portal").write_text(portal, encoding="utf-8")
        if _version() < (1, 25, 1):
            for path in enabled.iterdir():  # as docs/install.md says it
                text = path.read_text(encoding="utf-8").replace("    http2 on;\n", "")
                path.write_text(text.replace(" ssl;", " ssl http2;"), encoding="utf-8")

    def command(self, *more: str) -> list[str]:
        """Return the command that runs this nginx, or, with ``-s``, tells it something."""
        return [
            program("nginx", "nginx-light"),
            "-p",
            f"{self.place}/",
            "-c",
            f"{self.place}/nginx/nginx.conf",
            *more,
        ]


def _version() -> tuple[int, ...]:
    done = subprocess.run(
        [program("nginx", "nginx-light"), "-v"], capture_output=True, text=True, check=True
    )
    return tuple(map(int, done.stderr.rpartition("/")[2].split()[0].split(".")))
