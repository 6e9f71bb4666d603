"""What ``fastx-list doctor`` says of list, sidecar and nginx, which it asks."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fastx_list.command import doctor_serving, findings
from fastx_list.command.doctor_serving import examine
from fastx_list.command.findings import Level, differences
from fastx_list.config import Settings, load
from tests.support import Service, fetch, wait_for

NAME = "list.example.org"
COUNTS = {"status", "connections", "slowClientsDropped"}  # of the sidecar


@pytest.fixture(autouse=True)
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where systemd holds the sockets, and no site of nginx's."""
    monkeypatch.setattr(doctor_serving, "SOCKETS", tmp_path)
    monkeypatch.setattr(doctor_serving, "NGINX", tmp_path / "site")
    return tmp_path


def lines(settings: Settings, level: Level) -> list[str]:
    return [each.text for each in examine(settings) if each.level is level]


def test_list_and_sidecar_are_asked_at_the_ports_that_are_set(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = {"LIST_PORT": service.list_port, "LIVE_PORT": service.live_port}
    service.environ |= {f"FASTX_LIST_{name}": str(port) for name, port in ports.items()}
    service.environ["FASTX_LIST_SERVER_EXPIRY"] = "3600"
    settings = load(service.environ)
    assert [each.split(": ")[0] for each in lines(settings, Level.failure)] == ["list", "sidecar"]
    service.run("agent", "--once")
    service.start_list()
    service.start_live()
    answers = [
        f"{name}: it answers at 127.0.0.1:{port}, and shows the present state"
        for name, port in (("list", service.list_port), ("sidecar", service.live_port))
    ]
    wait_for("both", lambda: lines(settings, Level.ok) == answers)
    assert lines(settings, Level.warning) == []
    others = load({**service.environ, "FASTX_LIST_HISTORY": "1"})
    assert lines(others, Level.warning) == [
        f"{name}: it runs with other settings than these; systemctl restart {unit}"
        for name, unit in (("list", "fastx-list"), ("sidecar", "fastx-list-live"))
    ]
    monkeypatch.setattr(findings, "version", lambda: "9.0.0")
    assert all("and this is '9.0.0'" in each for each in lines(settings, Level.warning))
    assert len(lines(settings, Level.warning)) == 2


def test_list_and_sidecar_tell_only_this_machine_which_settings_they_have(service: Service) -> None:
    service.start_list()
    service.start_live()
    for port, known in ((service.list_port, {"status"}), (service.live_port, COUNTS)):
        url = f"http://127.0.0.1:{port}/health?more"
        assert fetch(url).json.keys() == known | {"version", "settings"}
        assert fetch(url.partition("?")[0]).json.keys() == known
        for header in ("X-Forwarded-For", "Forwarded", "Via"):
            assert fetch(url, headers={header: "192.0.2.7"}).json.keys() == known


def test_a_list_of_an_older_release_is_said_to_be_of_another_one() -> None:
    [said] = differences("list", {"status": "ok"}, "f" * 16, "systemctl restart fastx-list")
    assert said.level is Level.warning and "it is of another release" in said.text


def test_a_socket_behind_which_nobody_answers_is_a_failure(
    settings: Settings, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_serving, "SECONDS", 0.2)
    settings = replace(settings, local_socket=sockets / "local.sock")
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(sockets / "list.sock"))
        held.listen()
        [said] = lines(settings, Level.failure)
        [local] = lines(settings, Level.warning)
    assert "users of this machine need a token" in local and "No such file" in local
    assert "no answer at" in said and "journalctl -u fastx-list" in said
    [said] = lines(settings, Level.failure)
    assert "Connection refused" in said


def test_where_nothing_says_that_there_is_one_none_is_missed(settings: Settings) -> None:
    assert lines(settings, Level.failure) == []


class _List(http.server.BaseHTTPRequestHandler):
    """Answers as nginx passes it on."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b'{"status":"ok"}')

    def log_message(self, *arguments: object) -> None:
        pass


class Site:
    """A server that speaks TLS, and the site that says so."""

    def __init__(self, place: Path) -> None:
        self.certificate, self.place = place / "certificate.pem", place
        self.make(90)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self.server = http.server.HTTPServer(("127.0.0.1", 0), _List)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.context = context
        threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True).start()
        self.write(NAME)

    def make(self, days: int) -> None:
        """Make a certificate that is good for so long."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=100))
            .not_valid_after(now + timedelta(days=days, hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        secret = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, encryption_algorithm=NoEncryption()
        )
        self.certificate.write_bytes(made.public_bytes(Encoding.PEM) + secret)

    def write(self, name: str) -> None:
        port = self.server.server_address[1]
        (self.place / "site").write_text(
            f"server {{\n  listen 80;\n}}\nserver {{\n    listen {port} ssl;\n"
            f"    server_name {name};\n    ssl_certificate {self.certificate};\n}}\n"
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.server.shutdown()
    site.server.server_close()


def nginx(settings: Settings, level: Level) -> list[str]:
    return [each for each in lines(settings, level) if each.startswith("nginx: ")]


def test_nginx_is_asked_for_the_list_and_its_certificate_is_looked_at(
    settings: Settings, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, passes = nginx(settings, Level.ok)
    assert good.endswith("is good for 90 days") and "passes on what the list says" in passes
    monkeypatch.setattr(_List, "status", 502)
    [wrong] = nginx(settings, Level.failure)
    assert "answers /ready with 502" in wrong


def test_a_certificate_that_ends_soon_or_is_not_the_one_that_is_served_is_said(
    settings: Settings, site: Site
) -> None:
    site.make(7)
    [other] = nginx(settings, Level.warning)
    assert "systemctl reload nginx" in other
    site.context.load_cert_chain(site.certificate)
    [soon] = nginx(settings, Level.warning)
    assert soon.endswith("is good for 7 days")
    site.write("other.example.org")
    [name] = nginx(settings, Level.warning)
    assert "other.example.org" in name
    site.certificate.unlink()
    [gone] = nginx(settings, Level.failure)
    assert "cannot be read" in gone


def test_a_certificate_that_has_ended_is_a_failure(settings: Settings, site: Site) -> None:
    site.make(-1)
    site.context.load_cert_chain(site.certificate)
    [ended] = nginx(settings, Level.failure)
    assert "certificate has expired; get a new one" in ended


def test_a_site_behind_which_nobody_is_is_a_failure(settings: Settings, site: Site) -> None:
    site.server.shutdown()
    site.server.server_close()
    [said] = nginx(settings, Level.failure)
    assert "Connection refused" in said and "nginx -t" in said
