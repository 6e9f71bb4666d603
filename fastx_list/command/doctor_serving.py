"""What ``fastx-list doctor`` says of list, sidecar and nginx: it asks each of them, where they
are."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fastx_list import tokens
from fastx_list.api.addresses import HEALTH, READY
from fastx_list.command.findings import Finding, differences, failure, note, ok, unseen, warning
from fastx_list.config import Settings
from fastx_list.model.json import from_json
from fastx_list.state import is_there, read_file
from fastx_list.text import amount

SECONDS = 5.0  # for each answer
MAX_BYTES = 64 * 1024  # of an answer
SOON = 14 * 86_400  # that a certificate ends
NGINX = Path("/etc/nginx/sites-enabled/fastx-list")  # docs/install.md
SOCKETS = Path("/run/fastx-list")


class _Service(NamedTuple):
    """The list or the sidecar."""

    name: str
    unit: str
    socket: Path  # that systemd holds for it
    port: int | None  # where clients reach it without a proxy, as the settings say
    usual_port: int


class _Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


def examine(settings: Settings) -> Iterator[Finding]:
    """Ask list, sidecar and nginx."""
    for service in (
        _Service("list", "fastx-list", SOCKETS / "list.sock", settings.list_port, 8000),
        _Service("sidecar", "fastx-list-live", SOCKETS / "live.sock", settings.live_port, 8001),
    ):
        yield from _service(service, settings)
    with suppress(OSError):  # of which the list's line says more
        if is_there(SOCKETS / "list.sock"):
            yield _local(settings.local_socket)
    try:
        site = read_file(NGINX)[0].decode("utf-8", "replace")
    except FileNotFoundError:
        return
    except OSError as error:
        yield note(f"nginx: {NGINX} cannot be read: {error.strerror or error}")
        return
    yield from _nginx(site)


def _service(service: _Service, settings: Settings) -> Iterator[Finding]:
    try:
        has_socket = is_there(service.socket)
    except OSError as error:
        yield note(f"{service.name}: {unseen(service.socket, error)}; so it was not asked")
        return
    port = service.port or service.usual_port
    where = f"127.0.0.1:{port}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    if has_socket:
        where, connection = str(service.socket), _Unix(service.socket)
    try:
        status, health = _ask(connection, f"{HEALTH}?more")
        if (status, health.get("status")) != (200, "ok"):
            raise http.client.HTTPException(f"it answers with {status}")
        status, answer = _ask(connection, READY)
    except PermissionError:
        yield note(f"{service.name}: {where} may not be opened by you, so it was not asked")
        return
    except (OSError, http.client.HTTPException, ValueError) as error:
        if not has_socket and service.port is None:
            yield note(f"{service.name}: none is at {service.socket} or {where}")
            return
        reason = getattr(error, "strerror", None) or error
        yield failure(
            f"{service.name}: no answer at {where}: {reason}; see: journalctl -u {service.unit}"
        )
        return
    finally:
        connection.close()
    if status == 200:
        yield ok(f"{service.name}: it answers at {where}, and shows the present state")
    else:
        what = answer.get("error")
        reason = what.get("message") if isinstance(what, dict) else f"status {status}"
        yield warning(f"{service.name}: it answers at {where}, and is not ready: {reason}")
    restart = f"systemctl restart {service.unit}"
    yield from differences(service.name, health, tokens.fingerprint(settings), restart)


def _local(path: Path) -> Finding:
    """Say whether users of this machine find the list, where systemd holds its sockets."""
    connection = _Unix(path)
    try:
        status, _ = _ask(connection, HEALTH)
        if status != 200:
            raise http.client.HTTPException(f"it answers with {status}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return warning(
            f"list: users of this machine need a token: no answer at {path}: {reason};"
            " systemctl restart fastx-list"
        )
    finally:
        connection.close()
    return ok(f"list: users of this machine need no token at {path}")


def _ask(connection: http.client.HTTPConnection, path: str) -> tuple[int, dict[str, object]]:
    """Return the status of the answer, and its JSON."""
    connection.request("GET", path)
    response = connection.getresponse()
    answer = from_json(response.read(MAX_BYTES))
    connection.close()
    return response.status, answer if isinstance(answer, dict) else {}


def _nginx(site: str) -> Iterator[Finding]:
    """Ask nginx as its ``site`` says, and look at the certificate that it serves."""
    certificate = re.search(r"^\s*ssl_certificate\s+([^;\s]+);", site, re.MULTILINE)
    name = re.search(r"^\s*server_name\s+([^;\s]+)", site, re.MULTILINE)
    listens = re.search(r"^\s*listen\s+(?:[0-9.]+:)?([0-9]{1,5})\s+ssl", site, re.MULTILINE)
    if certificate is None or name is None:
        yield note(f"nginx: {NGINX} names no certificate or no server, so it was not asked")
        return
    port = int(listens[1]) if listens else 443
    try:
        context = ssl.create_default_context(cafile=certificate[1])
    except (OSError, ssl.SSLError) as error:
        yield failure(f"nginx: its certificate {certificate[1]} cannot be read: {error}")
        return
    # The file is what is compared with: who has signed it is no matter
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = name[1] != "_"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as plain:
            with context.wrap_socket(plain, server_hostname=name[1]) as connection:
                yield from _certificate(certificate[1], connection)
                yield _through(name[1], port, connection)
    except ssl.SSLCertVerificationError as error:
        expired = "expired" in error.verify_message
        mend = "get a new one" if expired else f"systemctl reload nginx, or mend {NGINX}"
        say = failure if expired else warning
        yield say(f"nginx: certificate {certificate[1]}: {error.verify_message}; {mend}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        yield failure(f"nginx: no answer at 127.0.0.1:{port}: {reason}; see: nginx -t")


def _certificate(file: str, connection: ssl.SSLSocket) -> Iterator[Finding]:
    until = ssl.cert_time_to_seconds(str((connection.getpeercert() or {})["notAfter"]))
    left = until - time.time()
    say = ok if left > SOON else warning
    yield say(f"nginx: certificate {file} is good for {amount(int(left // 86_400), 'day')}")


def _through(name: str, port: int, connection: ssl.SSLSocket) -> Finding:
    client = http.client.HTTPConnection(name, timeout=SECONDS)
    client.sock = connection
    status, _ = _ask(client, READY)
    if status in (200, 503):
        return ok(f"nginx: it answers at port {port} as {name}, and passes on what the list says")
    return failure(f"nginx: at port {port} it answers {READY} with {status}; see its access log")
