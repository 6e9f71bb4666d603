"""What is asked: the list's application in this process, with and without its short cut, and the
real processes over the wire."""

from __future__ import annotations

import io
import logging
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Flask

from fastx_list import create_app
from fastx_list.api.proxies import behind_proxies
from fastx_list.errors import Unavailable
from tests.fuzz.grammar import Asked
from tests.fuzz.headers import ETAG
from tests.fuzz.world import settings
from tests.support import wait_for

WAIT_SECONDS = 120.0  # for an answer; the machine may be busy with other things
# Of a WebSocket's client, and the answer, before which comes all that it is told first
PING, PONG = b"\x89\x84\0\0\0\0wait", b"\x8a\x04wait"
_NAME = re.compile(rb"[A-Za-z0-9-]+\Z")


@dataclass
class Answer:
    """An HTTP response, or with status 101 the frames of a WebSocket as its body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    is_head: bool = False  # of which the body is left out

    def header(self, name: str) -> str | None:
        return next((value for each, value in self.headers if each.lower() == name), None)

    @property
    def bytes(self) -> bytes:
        return repr(self.headers).encode() + self.body


class Mistaken(Exception):
    """What came back is no answer."""


class Records(logging.Handler):
    """Keeps what is logged in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += self.format(record) + "\n"

    def take(self) -> str:
        text, self.text = self.text, ""
        return text


class InProcess:
    """The list's application twice: as it is, and without the short cut."""

    def __init__(self, state: Path) -> None:
        self.quick, self.plain = create_app(settings(state)), create_app(settings(state))
        trusted = self.plain.extensions["fastx-list"].settings.trusted_proxies
        del self.plain.wsgi_app  # the method of the class comes back
        flask = behind_proxies(self.plain.wsgi_app, trusted)
        self.plain.wsgi_app = flask  # type: ignore[method-assign, assignment]
        for app in (self.quick, self.plain):
            wait_for("the store", partial(_has_looked, app))
        self.log = Records()
        logging.getLogger().addHandler(self.log)

    def ask(self, asked: Asked) -> tuple[Answer, Answer]:
        """Return what both answer."""
        for app in (self.quick, self.plain):
            # Who has looked between two changes calls what there is by another name
            _has_looked(app)
        etag = b"x"
        if any(ETAG in value for _, value in asked.headers):
            etag = (self._answer(self.plain, asked, None).header("etag") or "x").encode()
        return self._answer(self.quick, asked, etag), self._answer(self.plain, asked, etag)

    def sessions(self, token: str) -> Any:
        asked = Asked("process", None, path=b"/api/list/" + token.encode())  # type: ignore[arg-type]
        return self._answer(self.plain, asked, None)

    def close(self) -> None:
        logging.getLogger().removeHandler(self.log)
        for app in (self.quick, self.plain):
            app.extensions["fastx-list"].store.close()

    def _answer(self, app: Flask, asked: Asked, etag: bytes | None) -> Answer:
        started: list[Any] = []

        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            started[:] = [status, headers]

        answered: Iterable[bytes] = app.wsgi_app(_environ(asked, etag), start)
        body = b"".join(answered)
        if hasattr(answered, "close"):
            answered.close()
        status, headers = started
        return Answer(int(status[:3]), sorted(headers), body, asked.method == b"HEAD")


def _has_looked(app: Flask) -> bool:
    """Bring what ``app`` knows up to date; return whether it could be."""
    try:
        app.extensions["fastx-list"].refresh()
    except Unavailable:
        return False
    return True


def _environ(asked: Asked, etag: bytes | None) -> dict[str, Any]:
    """Return what gunicorn makes of a request (PEP 3333)."""
    path = re.sub(rb"\Ahttps?://[^/]*", b"", asked.path).partition(b"#")[0]
    path, _, query = path.partition(b"?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": asked.method.decode("latin-1"),
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": b"?".join(filter(None, (query, asked.query))).decode("latin-1"),
        "SCRIPT_NAME": "",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "list.example",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(asked.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    given: dict[str, str] = {}
    for name, value in asked.headers:
        if not _NAME.match(name) or re.search(rb"[\r\n\0]", value):
            continue  # gunicorn refuses it
        key = name.decode().upper().replace("-", "_")
        if key == "CONTENT_LENGTH" and not value.isdigit():
            continue
        if key == "IF_NONE_MATCH" and etag is None:
            continue
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key
        text = value.replace(ETAG, etag or b"").decode("latin-1").strip(" \t")
        given[key] = f"{given[key]},{text}" if key in given else text
    return environ | given


def over_the_wire(port: int, asked: Asked) -> list[Answer]:
    """Send it, and return the answers; raises :class:`Mistaken` if what comes is none, or has no
    end."""
    came = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS) as wire:
        try:
            wire.sendall(asked.raw + (asked.after if asked.target == "list" else b""))
            if asked.target == "live" and asked.is_whole:
                _read(wire, came, WAIT_SECONDS, b"\r\n\r\n")
                if came.startswith(b"HTTP/1.1 101"):
                    wire.sendall(PING)
                    _read(wire, came, WAIT_SECONDS, PONG)
                    wire.sendall(asked.after)
            wire.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has hung up; what it said before can still be read
        if not _read(wire, came, WAIT_SECONDS):
            raise Mistaken(f"there is no end; until now: {bytes(came[-200:])!r}")
    return parse(bytes(came), asked.method == b"HEAD")


def _read(wire: socket.socket, came: bytearray, seconds: float, until: bytes | None = None) -> bool:
    """Read into ``came`` up to the end of the stream, or to ``until``; return whether it came to
    that, with no silence of as many ``seconds``."""
    wire.settimeout(seconds)
    while until is None or until not in came:
        try:
            data = wire.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            return True
        if not data:
            return True
        came += data
    return True


def parse(came: bytes, is_head: bool = False) -> list[Answer]:
    """Return the responses that these bytes are."""
    answers: list[Answer] = []
    while came:
        head, end, came = came.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        matched = re.fullmatch(rb"HTTP/1\.\d (\d{3}) [ -~]*", status_line)
        if not end or matched is None:
            raise Mistaken(f"no response: {head[:200]!r}")
        headers = []
        for line in lines:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not _NAME.match(name.encode()):
                raise Mistaken(f"no header: {line!r}")
            headers.append((name, value.strip()))
        answer = Answer(int(matched[1]), headers, b"", is_head)
        if answer.status == 100:
            continue
        if answer.status == 101:
            answer.body, came = came, b""
        # What gunicorn itself refuses has a body, whatever the method was
        elif answer.status not in (204, 304) and not (is_head and came[:5] in (b"", b"HTTP/")):
            size = answer.header("content-length")
            if size is None or len(came) < int(size):
                raise Mistaken(f"a torn response: {head!r} {came[:200]!r}")
            answer.body, came = came[: int(size)], came[int(size) :]
        answers.append(answer)
    return answers
