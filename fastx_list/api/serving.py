"""The gunicorn settings that list and sidecar share. What differs is in ``web/server.py`` and
``live/server.py``.

gunicorn reads them before its gevent worker patches the standard library, and what is imported by
then is not patched. So these modules import next to nothing.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

import gunicorn.util
from gunicorn.errors import AppImportError

from fastx_list import redaction
from fastx_list.api.counters import WORKERS, counters
from fastx_list.errors import ERRORS, ApiError, NotImplementedCoding, error_body
from fastx_list.settings_file import value_of

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

_WRONG_CODING = "Invalid HTTP Header: 'TRANSFER-ENCODING'"
CANNOT_START = 4  # gunicorn's status where the application cannot be loaded

# One would leave the rest of the machine idle; each more takes memory for a copy of the list
workers = min(2, len(os.sched_getaffinity(0)))
if (wanted := value_of("WEB_CONCURRENCY") or "").isascii() and wanted.isdigit():
    workers = int(wanted)  # what is no number, the application refuses
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


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """Give ``worker`` a part of what is counted."""
    taken = {each.part for each in server.WORKERS.values()}
    worker.part = min(set(range(WORKERS)) - taken, default=WORKERS - 1)


def post_fork(server: Arbiter, worker: Worker) -> None:
    counters.part = worker.part


def child_exit(server: Arbiter, worker: Worker) -> None:
    counters.has_ended(worker.part)


def prepare() -> None:
    """Make gunicorn log no token and answer in JSON; for the master, before it starts."""
    redaction.install()
    # What gunicorn itself refuses, such as a request line of over 8 KiB, would be an HTML page.
    gunicorn.util.write_error = _gunicorn_refuses
    logging.getLogger("gunicorn.error").addFilter(_without_the_request)


def try_application(
    server: Arbiter,
    problem: Callable[[object], str | None] = lambda application: None,
    *,
    apart: bool,
) -> None:
    """Load the application before there are workers, and exit with one line where that fails, or
    where there is a ``problem`` with it.

    Else each worker would say it, and when a second one fails while gunicorn halts for the first,
    that ends with a traceback of its own. What is imported for it is there for all workers, unless
    it is loaded ``apart`` in a process that ends.
    """
    if server.cfg.is_ssl:
        _cannot_start("list and sidecar speak no TLS; that is for a proxy before them")
    if server.cfg.workers < 1:
        _cannot_start("WEB_CONCURRENCY takes how many workers there are: 1 or more", os.EX_CONFIG)
    is_other_user = server.cfg.uid != os.geteuid() or server.cfg.gid != os.getegid()
    child = os.fork() if apart or is_other_user else None
    if child:
        _, status = os.waitpid(child, 0)
        if (code := os.waitstatus_to_exitcode(status)) in (CANNOT_START, os.EX_CONFIG):
            sys.exit(code)
        return  # if it was killed the workers meet that, too
    if child is not None:
        gunicorn.util.set_owner_process(server.cfg.uid, server.cfg.gid, server.cfg.initgroups)
    logging.disable()  # as each worker logs the same
    what, code = _problem_with(server, problem)
    logging.disable(logging.NOTSET)
    if what:
        _cannot_start(what, code)
    if child is not None:
        sys.exit(0)


def _problem_with(
    server: Arbiter, problem: Callable[[object], str | None]
) -> tuple[str | None, int]:
    """Return what keeps it from starting, and the exit status for that."""
    from fastx_list.config import ConfigError, SettingsError
    from fastx_list.store import StoreError

    try:
        return problem(server.app.load()), CANNOT_START
    except SettingsError as error:
        return str(error), os.EX_CONFIG
    except (AppImportError, ConfigError, ImportError, StoreError) as error:
        return str(error), CANNOT_START
    except Exception as error:
        traceback.print_exc()
        return repr(error), CANNOT_START  # a mistake of ours, as it seems


def _cannot_start(why: str, code: int = CANNOT_START) -> NoReturn:
    print(redaction.redact(why), file=sys.stderr, flush=True)
    sys.exit(code)


def settle(settings: Any) -> None:
    """Keep gunicorn's ``settings`` as they are in this worker: it reads twenty for each request,
    and looks each up in three steps."""
    vars(settings).update((name, each.get()) for name, each in settings.settings.items())


def refuse(sock: Any, error: ApiError) -> None:
    """Answer on ``sock`` to a request that no application is asked about, if it can be sent."""
    try:
        _write_error(sock, error.status, HTTPStatus(error.status).phrase, error.message)
    except OSError:
        pass


def _gunicorn_refuses(sock: Any, status: int, reason: str, message: str) -> None:
    if message == _WRONG_CODING:  # which it knows, and still does not take
        status = NotImplementedCoding.status
    if status == NotImplementedCoding.status:
        refuse(sock, NotImplementedCoding())
    else:
        ours = ERRORS[status].message if status in ERRORS else ""
        _write_error(sock, status, reason, ours or _what_is_wrong(message) or reason)


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
    counters.request(counters.route(None), status)
    body = error_body(status, message)
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type:"
        " application/json\r\nCache-Control: no-store\r\n"
    )
    gunicorn.util.write_nonblock(
        sock, f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
    )
