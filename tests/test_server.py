"""What gunicorn answers before any application is asked."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support import Service


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nBad Header\r\n\r\n", b"400"),
    ],
)
def test_what_the_server_itself_refuses_has_the_one_form_of_an_error(
    service: Service, request_head: bytes, status: bytes
) -> None:
    service.start_list()
    service.start_live()
    for port in (service.list_port, service.live_port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(request_head)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status) and b"Content-Type: application/json" in head
        assert json.loads(body)["error"]["name"] == "ValidationError"
