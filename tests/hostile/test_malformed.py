"""Requests that are wrong in a way of their own: each gets an answer that says so, in JSON."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest

from tests.hostile.crowd import ask
from tests.support import Service

FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
MALFORMED = [
    b"ZZ\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloworld\r\n0\r\n\r\n",
    b"5;\x00\r\nhello\r\n0\r\n\r\n",
    b"\r\n\r\n",
    b"0\r\nno trailer\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"5" + b";x" * 9000,
]


@pytest.fixture
def list_(service: Service) -> Iterator[Service]:
    service.start_list()
    yield service
    log = service.processes.log("list")
    assert "Traceback" not in log and service.token("x").partition(".")[0] not in log


def error(answer: bytes) -> tuple[int, str]:
    """Return status and name of an error in its one form."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower(), answer[:500]
    return int(head.split()[1]), json.loads(body)["error"]["name"]


@pytest.mark.parametrize("call", ["list", "params", "admin/server", "list with it in the form"])
def test_malformed_chunks_are_the_clients_mistake(list_: Service, call: str) -> None:
    path = "/api/list" if " " in call else f"/api/{call}/{list_.token('alice', admin=True)}"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    for kind in ("application/json", FORM, MULTIPART):
        for body in MALFORMED:
            answer = ask(list_.list_port, f"{head}Content-Type: {kind}\r\n\r\n".encode() + body)
            assert error(answer) == (400, "ValidationError"), (kind, body)


def test_a_malformed_form_is_no_empty_form(list_: Service) -> None:
    head = f"POST /api/list/{list_.token('alice')} HTTP/1.1\r\nHost: x\r\n"
    head += f"Content-Type: {MULTIPART}\r\n"
    for form in (b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n", b"--b\r\n", b"other", b"\x00"):
        chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(form), form)
        length = b"Content-Length: %d\r\n\r\n%s" % (len(form), form)
        for framed in (chunks, length):
            answer = ask(list_.list_port, head.encode() + framed)
            assert error(answer) == (400, "ValidationError"), framed


@pytest.mark.parametrize(
    "coding",
    ["gzip", "deflate", "identity", "x", "gzip, chunked", "x, chunked", "chunked, chunked"],
)
def test_a_transfer_encoding_other_than_chunked_has_one_status(list_: Service, coding: str) -> None:
    """What is in such chunks would be read as it is, and mean nothing."""
    head = f"POST /api/list/{list_.token('alice')} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n"
    form = gzip.compress(b"limit=0", mtime=0)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(form), form)
    for codings in (coding, coding.replace(", ", "\r\nTransfer-Encoding: ")):
        request = f"{head}Transfer-Encoding: {codings}\r\n\r\n".encode() + body
        answer = ask(list_.list_port, request)
        assert error(answer) == (501, "ValidationError"), codings


@pytest.mark.parametrize("chunk", [b"x", b"x" * 8000])
def test_a_body_in_chunks_is_bounded_as_any_other(list_: Service, chunk: bytes) -> None:
    """It is the whole that counts, with its framing."""
    head = f"POST /api/list/{list_.token('alice')} HTTP/1.1\r\nHost: x\r\n"
    head += f"Transfer-Encoding: chunked\r\nContent-Type: {FORM}\r\n\r\n"
    framed = b"%x\r\n%s\r\n" % (len(chunk), chunk)
    answer = ask(list_.list_port, head.encode() + framed * (200_000 // len(framed)))
    assert error(answer) == (413, "PayloadTooLarge")


def test_a_broken_host_is_no_mistake_of_ours_and_nothing_redirects(list_: Service) -> None:
    for path in ("/", "/docs/", "/api/list/{}/", "//api/list/{}", "/api//list/{}"):
        for host in ("[", "[::1", "a b", "x:y", "é", "..", "", "x" * 300):
            request = f"GET {path.format(list_.token('alice'))} HTTP/1.1\r\nHost: {host}\r\n\r\n"
            answer = ask(list_.list_port, request.encode("latin-1"))
            assert int(answer.split()[1]) in (200, 400, 404), (path, host, answer[:300])
            assert b"\nLocation" not in answer
