"""The list's settings for gunicorn::

    gunicorn -c python:fastx_list.web.server 'fastx_list:create_app()'

Its workers are sync ones: a request computes for well under a millisecond and waits for nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import gunicorn.util

from fastx_list.api import serving
from fastx_list.api.serving import *  # noqa: F403

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter

proc_name = "fastx-list"
bind = "127.0.0.1:8000"
worker_class = "sync"
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)


def on_starting(server: Arbiter) -> None:
    serving.prepare()
    if hasattr(gunicorn.util, "close_graceful"):
        gunicorn.util.close_graceful = partial(_close, gunicorn.util.close_graceful)


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
