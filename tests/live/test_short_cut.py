"""The short cut for the usual handshake decides exactly as the application behind it does."""

from __future__ import annotations

import random
import re
import socket
import sys
from pathlib import Path

from websockets.frames import Opcode

from tests.conftest import session
from tests.live.clients import Observe, upgrade
from tests.live.wire import client
from tests.support import Service, fetch, free_port, wait_for

HANDSHAKES = 300
WITHOUT = """
from fastx_list.live import server
from fastx_list.live.server import *

def post_worker_init(worker):
    server.post_worker_init(worker)
    del worker.wsgi.wsgi_app  # the method of Flask's class comes back
"""
METHODS = (*["GET"] * 8, "HEAD", "POST")
ADDRESSES = ("/api/list", "/api/admin/session", "/api/admin/server", "/api/params", "/health")
IN_PATH = ("", "", "/", "/{good}", "/{admin}", "/{good}/", "/{late}", "/x", "//{good}", "/%2F")
QUERIES = (
    *["", "token={good}", "token={admin}", "token={good}&token={admin}", "token=&token={good}"],
    *["token={late}", "token=x", "Token={good}", "token={good};filter=x", "snapshot=0"],
    *["snapshot=perhaps", "filter=clients==0", "filter[]=clients%3D%3D0", "filter=x", "_=17"],
    *["since=x", "Filter=login==alice", "filter=name==%EB", "limit=1", "a=%FF&&=", "since="],
    *["_=1;%66ilter[]=x", "filter%3Dclients%3D%3D0", "%EB=1", "filters", "bookmark=1", "filter&_"],
)
HEADERS = (
    *[("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"), ("Host", "é")],
    *[("Sec-WebSocket-Extensions", "permessage-deflate; x"), ("Sec-WebSocket-Version", "8")],
    *[("Sec-WebSocket-Key", "short"), ("Sec-WebSocket-Key", ""), ("Origin", "http://127.0.0.1")],
    *[("Origin", "http://elsewhere"), ("Origin", "http://["), ("Origin", "null"), ("Host", "[x")],
    *[("Connection", "keep-alive, Upgrade"), ("Connection", "close"), ("Upgrade", "WebSocket")],
    *[("Connection", "é, Upgrade"), ("Upgrade", "h2c"), ("Authorization", "Bearer {admin}")],
    *[("Authorization", "Basic x"), ("X-FASTX-TOKEN", "{good}"), ("Content-Length", "9")],
    *[("Origin", "https://portal"), ("X-Forwarded-Host", "elsewhere"), ("Host", ":80")],
)


def answer(port: int, request: bytes) -> bytes:
    """Return all that comes until the end, for which a WebSocket is asked at once."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data and (part := connection.recv(65536)):
            data += part
        if data.startswith(b"HTTP/1.1 101"):
            connection.sendall(client(Opcode.CLOSE))
        while part := connection.recv(65536):
            data += part
        # The order of the methods is another one in each process
        return re.sub(rb"\r\n(Date|Allow): [^\r]*", b"", data)


def test_both_ways_decide_alike(service: Service, observe: Observe, tmp_path: Path) -> None:
    settings = tmp_path / "settings.py"
    settings.write_text(WITHOUT)
    service.environ |= {
        "FASTX_LIST_ALLOWED_ORIGINS": "https://portal",
        "FASTX_LIST_LIST_PORT": "1",
        "WEB_CONCURRENCY": "1",
    }
    service.start_live()
    plain = free_port()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        str(settings),
        "fastx_list:create_live_app()",
    ]
    service.processes.start([*command, "--bind", f"127.0.0.1:{plain}"], "plain", service.environ)

    def is_there() -> bool:
        try:
            return fetch(f"http://127.0.0.1:{plain}/health").status == 200
        except OSError:
            return False

    wait_for("the other sidecar", is_there)
    observe(session("a", clients=0), session("b", clients=2), session("c", "bob"))
    tokens = {
        "good": service.token("alice"),
        "admin": service.token("carol", admin=True),
        "late": service.token("alice", ttl=-1),
    }
    for port in (service.live_port, plain):
        known = upgrade(service, tokens["admin"]).replace(b"/api/list", b"/api/admin/session")
        wait_for("the list", lambda: all(b'"%c"' % each in answer(port, known) for each in b"abc"))
        assert answer(port, upgrade(service, tokens["good"])).startswith(b"HTTP/1.1 101")
    choose = random.Random(14)
    accepted = 0
    for _ in range(HANDSHAKES):
        queries = choose.sample(QUERIES, choose.choice((0, 1, 1, 2)))
        headers = dict(choose.sample(HEADERS, choose.choice((0, 0, 1, 2))))
        rest = upgrade(service, "", **headers).partition(b"\r\n")[2]
        path = choose.choice(ADDRESSES[: choose.choice((1, 5))]) + choose.choice(IN_PATH)
        line = f"{choose.choice(METHODS)} {path}?{'&'.join(queries)} HTTP/1.1\r\n"
        text = (line + rest.decode()).replace("{good}", tokens["good"])
        text = text.replace("{admin}", tokens["admin"]).replace("{late}", tokens["late"])
        answers = [answer(port, text.encode()) for port in (service.live_port, plain)]
        assert answers[0] == answers[1].replace(b"%d" % plain, b"%d" % service.live_port), text
        accepted += answers[0].startswith(b"HTTP/1.1 101")
    assert accepted > HANDSHAKES / 10
    assert "Traceback" not in service.processes.log("live") + service.processes.log("plain")
