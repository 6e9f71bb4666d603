from __future__ import annotations

import json
import logging
import socket

import gunicorn.util
import pytest
from gunicorn.config import Config
from gunicorn.http.errors import InvalidHeader, UnsupportedTransferCoding

from fastx_list.api import serving
from fastx_list.errors import RequestTimeout


def prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare gunicorn for the time of a test."""
    monkeypatch.setattr(gunicorn.util, "write_error", None)
    monkeypatch.setattr(logging.getLogger("gunicorn.error"), "filters", [])
    factory = logging.getLogRecordFactory()
    serving.prepare()
    logging.setLogRecordFactory(factory)


def refusal(
    monkeypatch: pytest.MonkeyPatch, status: int, reason: str, message: str
) -> tuple[bytes, dict[str, str]]:
    """Return the head and the error of what is answered where gunicorn refuses a request."""
    prepare(monkeypatch)
    ours, peer = socket.socketpair()
    with ours, peer:
        gunicorn.util.write_error(ours, status, reason, message)
        head, _, body = peer.recv(65536).partition(b"\r\n\r\n")
    error: dict[str, str] = json.loads(body)["error"]
    return head, error


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "Invalid Request Line 'Invalid HTTP request line: 'GET /x<secret HTTP/1.1''",
            "Invalid Req",
        ),
        ('Invalid HTTP Header: "X: \'secret"', "Invalid HTTP Header"),
        ("'secret'", "Bad Request"),
        ("", "Bad Request"),
    ],
)
def test_what_gunicorn_refuses_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, message: str, said: str
) -> None:
    head, error = refusal(monkeypatch, 400, "Bad Request", message)
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n") and error["name"] == "ValidationError"
    assert error["message"].startswith(said) and "secret" not in error["message"]


def test_what_gunicorn_refuses_is_said_in_our_words_where_there_are_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "Unable to comply: 'secret'"
    _, error = refusal(monkeypatch, 417, "Expectation Failed", said)
    assert error == {"name": "ValidationError", "message": "Expect: takes 100-continue"}


@pytest.mark.parametrize(
    ("status", "raised"),
    [(400, InvalidHeader("TRANSFER-ENCODING")), (501, UnsupportedTransferCoding("x, chunked"))],
)
def test_a_coding_that_is_not_chunked_has_one_status(
    monkeypatch: pytest.MonkeyPatch, status: int, raised: Exception
) -> None:
    head, error = refusal(monkeypatch, status, "Bad Request", str(raised))
    assert head.startswith(b"HTTP/1.1 501 Not Implemented\r\n")
    assert error["message"].startswith("Transfer-Encoding: takes chunked")


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_what_gunicorn_refuses_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ip: str
) -> None:
    prepare(monkeypatch)
    log = logging.getLogger("gunicorn.error")
    log.warning(f"Invalid request from ip={ip}: Invalid HTTP Version: 'secret %s HTTP/1.1'")
    log.warning("Worker exiting (pid: %s)", 17)
    assert caplog.messages == [
        f"Invalid request from ip={ip}: Invalid HTTP Version",
        "Worker exiting (pid: 17)",
    ]


def test_what_no_application_is_asked_about_is_refused_in_json() -> None:
    ours, theirs = socket.socketpair()
    with theirs, ours:
        serving.refuse(ours, RequestTimeout())
        ours.close()
        head, _, body = theirs.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["error"]["name"] == "RequestTimeout"


def test_who_has_gone_is_told_nothing() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        serving.refuse(ours, RequestTimeout())


def test_gunicorns_settings_say_the_same_once_they_are_kept() -> None:
    settings = Config()
    before = {name: getattr(settings, name) for name in settings.settings}
    serving.settle(settings)
    assert {name: getattr(settings, name) for name in settings.settings} == before
    assert settings.workers is vars(settings)["workers"]
