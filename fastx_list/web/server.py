"""The list's settings for gunicorn::

    gunicorn -c python:fastx_list.web.server 'fastx_list:create_app()'

A request computes for well under a millisecond; so each worker answers one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastx_list.api import serving
from fastx_list.api.serving import *  # noqa: F403

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter

proc_name = "fastx-list"
bind = "127.0.0.1:8000"
worker_class = "fastx_list.web.worker.Worker"
sendfile = False  # it would wait for the client


def on_starting(server: Arbiter) -> None:
    serving.prepare()
    serving.try_application(server, apart=False)
