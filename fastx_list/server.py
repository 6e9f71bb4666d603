"""gunicorn's settings for both roles. Which of the two it is follows from the application that
gunicorn is given.

The list runs sync workers: a request computes for well under a millisecond and waits for nothing.
The sidecar runs one gevent worker, which holds all connections; more of them work too, each with
its own copy of the list.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import gunicorn.util

from fastx_list import redaction

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

LIVE_APPS = {"wsgi:live", "fastx_list:create_live_app()"}
IS_LIVE = bool(LIVE_APPS.intersection(sys.argv))

proc_name = "fastx-list-live" if IS_LIVE else "fastx-list"
bind = "127.0.0.1:8001" if IS_LIVE else "127.0.0.1:8000"
worker_class = "gevent" if IS_LIVE else "sync"
workers = int(os.environ.get("WEB_CONCURRENCY") or (1 if IS_LIVE else 2))
worker_connections = 20_000  # that shake hands at the same time; then they need no greenlet
backlog = 4096
# Gunicorn's highest: a token and filters of 4 KiB, percent-encoded, make a long one
limit_request_line = 8190
graceful_timeout = 10
# Of these the sidecar's worker waits so long for requests under way. Then it has to end them (up to
# 4 s, as gunicorn looks around once a second) and to say goodbye to all others (up to 2 s), before
# the master's patience is over.
REQUEST_SECONDS = 3
# Whose X-Forwarded-* headers count is the product's own setting, FASTX_LIST_TRUSTED_PROXIES;
# gunicorn would believe every peer on a Unix socket.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
# Two masters on one machine must not share these, and nothing here needs them.
pidfile = None
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None


def on_starting(server: Arbiter) -> None:
    redaction.install()
    if IS_LIVE:  # a file a connection, and a service manager's default may be 1,024
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    # What gunicorn itself refuses, such as a request line of over 8 KiB, would be an HTML page.
    gunicorn.util.write_error = _write_error
    if not IS_LIVE and hasattr(gunicorn.util, "close_graceful"):
        gunicorn.util.close_graceful = partial(_close, gunicorn.util.close_graceful)


def _write_error(sock: socket.socket, status: int, reason: str, message: str) -> None:
    name = "ValidationError" if status < 500 else "InternalError"
    body = json.dumps(
        {"error": {"name": name, "message": redaction.redact(message) or reason}}
    ).encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type:"
        " application/json\r\nCache-Control: no-store\r\n"
    )
    gunicorn.util.write_nonblock(
        sock, f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
    )


def _close(lingering: Callable[[socket.socket], None], sock: socket.socket) -> None:
    """Close a connection, and wait for the peer to have read the answer only where that is needed.

    On TCP, bytes of a request that nobody reads can cost the peer the end of its answer (RFC 9112
    section 9.6), so gunicorn waits. On a Unix socket what was sent stays to be read, and a worker
    that waits for nginx each time answers a quarter less.
    """
    if sock.family != socket.AF_UNIX:
        lingering(sock)
        return
    try:
        # Unread bytes would make the end look like an error
        while sock.recv(65536, socket.MSG_DONTWAIT):
            pass
    except OSError:
        pass
    sock.close()


def post_worker_init(worker: Worker) -> None:
    """Start to follow the store before the first client comes, and leave time for
    :func:`worker_exit`."""
    if IS_LIVE:
        worker.cfg.set("graceful_timeout", REQUEST_SECONDS)
        _live(worker).start()


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """Say goodbye to all; by now the worker takes no new connections."""
    if IS_LIVE and worker.booted:
        _live(worker).close_all()


def _live(worker: Worker) -> Any:
    from fastx_list.live.sidecar import EXTENSION

    return worker.wsgi.extensions[EXTENSION]
