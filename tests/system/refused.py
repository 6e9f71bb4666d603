"""Requests that are wrong, byte for byte: whoever stands before the list may refuse them without
asking it."""

from __future__ import annotations

import http.client
import socket
import ssl
from email.message import Message

from tests.support import Answer

_HOST = b"Host: localhost\r\n"
_HANDSHAKE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
_KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n"


def _get(address: bytes = b"", headers: bytes = b"", method: bytes = b"GET") -> bytes:
    return method + b" /api/list/TOKEN" + address + b" HTTP/1.1\r\n" + _HOST + headers + b"\r\n"


def _post(headers: bytes, body: bytes = b"") -> bytes:
    return _get(headers=headers, method=b"POST") + body


# By what is wrong with them. TOKEN stands for one.
REFUSED = {
    "no request line": b"nonsense\r\n\r\n",
    "no version": b"GET /api/list/TOKEN nonsense\r\n" + _HOST + b"\r\n",
    "a version that is none": b"GET /api/list/TOKEN HTTP/7.0\r\n" + _HOST + b"\r\n",
    "a malformed percent encoding": _get(b"%zz"),
    "a NUL in the path": b"GET /api/list/%00 HTTP/1.1\r\n" + _HOST + b"\r\n",
    "a byte that is not ASCII": _get(b"?filter=\xeb"),
    "no Host": b"GET /api/list/TOKEN HTTP/1.1\r\n\r\n",
    "two Hosts": _get(headers=b"Host: other\r\n"),
    "a malformed Host": b"GET /api/list/TOKEN HTTP/1.1\r\nHost: a b\r\n\r\n",
    "an unknown expectation": _get(headers=b"Expect: foo\r\n"),
    "an unknown transfer coding": _post(b"Transfer-Encoding: gzip\r\n"),
    "two lengths": _post(b"Content-Length: 2\r\nContent-Length: 3\r\n", b"{}"),
    "a length that is no number": _post(b"Content-Length: abc\r\n"),
    "a chunk without a length": _post(_CHUNKED, b"zz\r\nhello\r\n0\r\n\r\n"),
    "a chunk without its end": _post(_CHUNKED, b"2\r\n{}garbage\r\n0\r\n\r\n"),
    "too long a request line": _get(b"?" + b"x" * 20_000),
    "too long a header": _get(headers=b"X-A: " + b"x" * 20_000 + b"\r\n"),
    "too many headers": _get(headers=b"".join(b"X-%d: 1\r\n" % each for each in range(150))),
    "a header without a colon": _get(headers=b"nonsense\r\n"),
    "a blank in a header's name": _get(headers=b"X A: 1\r\n"),
    "a NUL in a header": _get(headers=b"X-A: a\0b\r\n"),
    "an unknown method": _get(method=b"BREW"),
    "TRACE": _get(method=b"TRACE"),
    "TRACE of the proxy": _get(headers=b"Max-Forwards: 0\r\n", method=b"TRACE"),
    "CONNECT": b"CONNECT localhost:443 HTTP/1.1\r\n" + _HOST + b"\r\n",
    "a range past the end": _get(headers=b"Range: bytes=9999999-\r\n"),
    "a handshake without a key": _get(headers=_HANDSHAKE + b"Sec-WebSocket-Version: 13\r\n"),
    "a handshake of another version": _get(
        headers=_HANDSHAKE + _KEY + b"Sec-WebSocket-Version: 12\r\n"
    ),
    "a compressed body": _post(b"Content-Encoding: gzip\r\nContent-Length: 1\r\n", b"x"),
}


def send(data: bytes, port: int, tls: ssl.SSLContext | None) -> Answer:
    """Send these very bytes to this machine, and return the answer to them: status 0 if there is
    none."""
    with socket.create_connection(("localhost", port), timeout=60) as plain:
        with tls.wrap_socket(plain, server_hostname="localhost") if tls else plain as connection:
            response = http.client.HTTPResponse(connection)
            try:
                connection.sendall(data)
                response.begin()
                return Answer(response.status, response.headers, response.read())
            except (http.client.BadStatusLine, OSError):
                return Answer(0, Message(), b"")


def has_one_form(answer: Answer) -> bool:
    """Whether a refusal is as the API documents it."""
    if answer.headers["Content-Type"] != "application/json":
        return False
    error = answer.json.get("error", {})
    return error.keys() == {"name", "message"} and answer.headers["Cache-Control"] == "no-store"
