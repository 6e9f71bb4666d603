"""The sidecar's settings for gunicorn::

    gunicorn -c python:fastx_list.live.server 'fastx_list:create_live_app()'

Each worker has a copy of the list and tells its own connections; a login's are counted over all.
"""

from __future__ import annotations

import resource
import sys
from typing import TYPE_CHECKING, Any

from gunicorn.errors import AppImportError

from fastx_list.api import serving
from fastx_list.api.serving import *  # noqa: F403
from fastx_list.live.tally import tally

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

START = "gunicorn -c python:fastx_list.live.server 'fastx_list:create_live_app()'"
NEEDS_GEVENT = f"the sidecar works only in gunicorn's gevent worker; start it with: {START}"

proc_name = "fastx-list-live"
bind = "127.0.0.1:8001"
worker_class = "fastx_list.live.worker.Worker"
# That are no WebSockets: the store's and the worker's own, and clients that are yet to be one
SPARE_FILES = 128
# Of the graceful timeout the worker waits so long for requests under way. Then it has to end them
# (up to 4 s, as gunicorn looks around once a second) and to say goodbye to all others (up to 2 s),
# before the master's patience is over.
REQUEST_SECONDS = 3


def check_worker() -> None:
    """Raise :class:`AppImportError`, which gunicorn prints as one line before it stops, in a
    gunicorn with other workers than gevent's. Where nothing is served all is well."""
    # gunicorn imports the class of its workers, and no other, before any of them loads an
    # application; its --check-config imports none.
    if "gunicorn.workers.base" in sys.modules and "gunicorn.workers.ggevent" not in sys.modules:
        raise AppImportError(NEEDS_GEVENT)


def on_starting(server: Arbiter) -> None:
    serving.prepare()
    # A file a connection, and a service manager's default may be 1,024
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    # What the master has imported gevent could not patch in a worker
    serving.try_application(server, _is_no_sidecar, apart=True)


def _is_no_sidecar(application: object) -> str | None:
    if live_in(application) is None:
        return f"these settings are the sidecar's; start it with: {START}"
    return None


def child_exit(server: Arbiter, worker: Worker) -> None:  # type: ignore[no-redef]
    serving.child_exit(server, worker)
    tally.clear(worker.part)


def post_worker_init(worker: Worker) -> None:
    """Start to follow the store before the first client comes, and leave time for
    :func:`worker_exit`."""
    worker.cfg.set("graceful_timeout", REQUEST_SECONDS)
    live_of(worker).start()


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """Say goodbye to all; by now the worker takes no new connections."""
    if worker.booted:
        live_of(worker).close_all()


def live_of(worker: Worker) -> Any:
    """Return the :class:`~fastx_list.live.sidecar.Live` of ``worker``."""
    return live_in(worker.wsgi)


def live_in(application: object) -> Any:
    """Return the :class:`~fastx_list.live.sidecar.Live` of ``application``, if it is a sidecar."""
    from fastx_list.live.sidecar import EXTENSION

    return getattr(application, "extensions", {}).get(EXTENSION)
