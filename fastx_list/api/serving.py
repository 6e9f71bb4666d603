"""The gunicorn settings that list and sidecar share. What differs is in ``web/server.py`` and
``live/server.py``.

gunicorn reads them before its gevent worker patches the standard library, and what is imported by
then is not patched. So these modules import next to nothing.
"""

from __future__ import annotations

import logging
import os
import re
from http import HTTPStatus
from typing import Any

import gunicorn.util

from fastx_list import redaction
from fastx_list.errors import ApiError, error_body

# One would leave the rest of the machine idle; each more takes memory for a copy of the list
workers = int(os.environ.get("WEB_CONCURRENCY") or min(2, len(os.sched_getaffinity(0))))
backlog = 4096
# Gunicorn's highest: a token and filters of 4 KiB, percent-encoded, make a long one
limit_request_line = 8190
graceful_timeout = 10
# Whose X-Forwarded-* headers count is the product's own setting, FASTX_LIST_TRUSTED_PROXIES;
# gunicorn would believe every peer on a Unix socket.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
# Two masters on one machine must not share these, and nothing here needs them.
pidfile = None
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None


def prepare() -> None:
    """Make gunicorn log no token and answer in JSON; for the master, before it starts."""
    redaction.install()
    # What gunicorn itself refuses, such as a request line of over 8 KiB, would be an HTML page.
    gunicorn.util.write_error = _gunicorn_refuses
    logging.getLogger("gunicorn.error").addFilter(_without_the_request)


def refuse(sock: Any, error: ApiError) -> None:
    """Answer on ``sock`` to a request that no application is asked about, if it can be sent."""
    try:
        _write_error(sock, error.status, HTTPStatus(error.status).phrase, error.message)
    except OSError:
        pass


def _gunicorn_refuses(sock: Any, status: int, reason: str, message: str) -> None:
    _write_error(sock, status, reason, _what_is_wrong(message) or reason)


def _without_the_request(record: logging.LogRecord) -> bool:
    client, _, message = str(record.msg).partition(": ")
    if client.startswith("Invalid request from ip="):
        record.msg = f"{client}: {_what_is_wrong(message)}"
    return True


def _what_is_wrong(message: str) -> str:
    """Return what gunicorn says of a request before it repeats a part of it, which may be any part
    of a token."""
    return re.split("[':\"]", message)[0].strip()


def _write_error(sock: Any, status: int, reason: str, message: str) -> None:
    body = error_body(status, message)
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type:"
        " application/json\r\nCache-Control: no-store\r\n"
    )
    gunicorn.util.write_nonblock(
        sock, f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
    )
