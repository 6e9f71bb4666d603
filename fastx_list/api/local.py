"""Who asks over the socket that every user of this machine may open: the kernel says it
(SO_PEERCRED, unix(7)), so that nobody needs a token there.

This is said of the socket at FASTX_LIST_LOCAL_SOCKET alone, by the worker that has accepted the
connection. Over any other the peer is a proxy or a stranger, and nothing in a request can say
otherwise.
"""

from __future__ import annotations

import pwd
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Request

from fastx_list.errors import AuthError, Unavailable
from fastx_list.tokens import Claims

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
# What browsers send, which cannot open such a socket themselves
BROWSERS = ("Origin", "Sec-Fetch-Site")
# Of the network, and neither an address nor a path: where the socket stands behind a port, as with
# ssh -L, any site can make its own name lead there (DNS rebinding), and browsers then send neither
_NAME = re.compile(r"(?![0-9.]+(?::|$))[^%\[]*\.[^%\[.]")
LOOK_UP_SECONDS = 0.2  # that name services may keep all others waiting for one user's name
HANG_SECONDS = 2.0  # in which hardly anybody waits for them after they took longer
SHORT_SECONDS = 0.01  # for which a new question is waited for then: files answer sooner
SOON_SECONDS = 10.0  # after a question within which its answer still counts
MAX_ASKED = 24  # users about whom questions may be out, each in a thread: others' may not hang
_HANGING = "the name services of this machine do not say who you are; try again soon"
_UNSEEN = Path("/proc/sys/kernel/overflowuid")  # user_namespaces(7)


def local_uid(environ: WSGIEnvironment) -> int | None:
    """Return which user of this machine asks; ``None`` unless the request came over the socket that
    is for them."""
    uid: int | None = getattr(environ.get("gunicorn.socket"), "local_uid", None)
    return uid


class Names:
    """What the name services call users. They may hang, so a thread asks them. No answer is kept
    but for who was told to try again soon, since an id may be given to somebody else."""

    def __init__(self) -> None:
        # Made when first needed, since gunicorn's workers are forks
        self._threads: ThreadPoolExecutor | None = None
        # The questions that are out, by the user's id, and since when
        self._asked: dict[int, tuple[Future[str], float]] = {}
        # Until when nobody waits, by the monotonic clock
        self._hang_until = 0.0

    def of(self, uid: int) -> str:
        """Return the name of ``uid``. Raises ``KeyError`` if there is none, and
        :class:`Unavailable` if nobody says it now."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(MAX_ASKED, "names")
        now = time.monotonic()
        self._asked = {
            each: (future, since)
            for each, (future, since) in self._asked.items()
            if not future.done() or now < since + SOON_SECONDS
        }
        is_new = uid not in self._asked
        if is_new:
            if len(self._asked) >= MAX_ASKED:
                raise Unavailable(_HANGING)
            self._asked[uid] = self._threads.submit(lambda: pwd.getpwuid(uid).pw_name), now
        asked, _ = self._asked[uid]
        hangs = now < self._hang_until
        try:
            name = asked.result(SHORT_SECONDS * is_new if hangs else LOOK_UP_SECONDS)
        except TooLate:
            if not hangs:
                self._hang_until = time.monotonic() + HANG_SECONDS
            raise Unavailable(_HANGING) from None
        finally:
            if asked.done():
                self._asked.pop(uid, None)
        return name


_names = Names()


def claims_of_peer(request: Request) -> Claims | None:
    """Return what holds for the user who sent ``request``; ``None`` unless it came over the socket
    that is for users of this machine. Root is an administrator.

    Raises :class:`AuthError` if it cannot be told for whom it asks.
    """
    uid = local_uid(request.environ)
    if uid is None:
        return None
    if any(name in request.headers for name in (*FORWARDED, *BROWSERS)):
        raise AuthError(
            "this socket is for programs of this machine and takes nothing that a proxy passes on;"
            " give the proxy the list's other socket, or send a token",
            is_guess=False,
        )
    if _NAME.match(request.headers.get("Host", "")):
        raise AuthError("at this socket ask for http://localhost, or send a token", is_guess=False)
    if uid == _unseen_uid():
        raise AuthError("your user is not one of this machine's; send a token", is_guess=False)
    try:
        login = _names.of(uid)
    except (KeyError, UnicodeDecodeError):
        raise AuthError(
            f"your user id {uid} has no name on this machine; send a token", is_guess=False
        ) from None
    return Claims(login, 2**53, None, admin=uid == 0)


def _unseen_uid() -> int:
    """Return the id that stands for all users of another user namespace."""
    try:
        return int(_UNSEEN.read_text())
    except (OSError, ValueError):
        return 65534
