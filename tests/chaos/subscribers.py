"""WebSocket clients of all kinds, which stay: each hands what it is told to the judge, and connects
again when it must."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from tests.chaos.judge import History, Judge, Question
from tests.chaos.truth import Members

CONNECT_SECONDS = 60.0  # generous, since nothing here is about speed
LISTEN_SECONDS = 0.25  # until it is seen whether to stop
AGAIN_SECONDS = 0.1  # between two attempts to connect
SLOW_SECONDS = 0.2  # between two messages of a slow one
SMALL_BYTES, MUCH_BYTES = 16384, 1 << 20  # that the kernel keeps for a slow one, also in a hurry
ABNORMAL = 1006  # what a client says of a connection that was not closed (RFC 6455 section 7.1.5)
TOKEN_ENDED = 4401
AWAY = WebSocketException, OSError, EOFError, TimeoutError  # what says that nobody answers now


class Subscriber:
    """One client. ``token`` and ``url`` are its own."""

    def __init__(
        self,
        name: str,
        question: Question,
        url: str,
        token: str,
        judge: Judge,
        *,
        snapshot: bool = True,
        slow: bool = False,
        resume: bool = False,
    ) -> None:
        self.token = token
        self.history = History(name, question, snapshot, resume)
        self.is_slow = slow
        self.must_hurry = threading.Event()  # set while all are to agree
        # Whether its token may have ended, and whether it was told so
        self.is_revoked = False
        self.was_refused = False
        # Whether what it takes for true is all there is; without a snapshot it learns that later
        self.is_complete = snapshot
        self.connections = 0
        self._url = f"{url}{question.path}?token={token}&{question.parameters}"
        self._judge = judge
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._hangs_up = threading.Event()  # set when it is to connect again
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def state(self) -> dict[str, Members] | None:
        with self._lock:
            return None if self.history.state is None else dict(self.history.state)

    def complete(self, state: Callable[[], dict[str, Members]]) -> None:
        """Take what all have agreed on for what a snapshot would have said."""
        with self._lock:
            if self.history.state is not None and not self.is_complete:
                known, self.history.state = self.history.state, state()
                self.history.assumed = self.history.state.keys() - known.keys()
                self.is_complete = True

    def hang_up(self) -> None:
        """Let it connect again."""
        self._hangs_up.set()

    def stop(self) -> None:
        self._stopped.set()

    def join(self) -> None:
        self.stop()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set() and not self.was_refused:
            try:
                with self._connect() as connection:
                    with self._lock:
                        self.history.begin()
                        self.is_complete = self.history.has_snapshot
                        self.connections += 1
                    self._listen(connection)
            except ConnectionClosed as closed:
                self._judge_close(ABNORMAL if closed.rcvd is None else closed.rcvd.code)
            except InvalidStatus as refused:
                self._judge_refusal(refused.response.status_code)
            except AWAY:
                pass  # it is away; all have to agree in the end
            except Exception as error:
                self._judge.blame(f"{self.history.name}: {error!r}")
                return
            finally:
                with self._lock:
                    self.history.end()
            self._stopped.wait(AGAIN_SECONDS)

    def _connect(self) -> ClientConnection:
        sock = socket.create_connection(("127.0.0.1", 8001), CONNECT_SECONDS)
        if self.is_slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
        url, revision = self._url, self.history.revision
        if not self.history.has_snapshot:
            url += "&snapshot=0"
        if self.history.resumes:
            url += "&bookmarks=1" + (f"&since={revision}" if revision else "")
        return _connect(url, sock=sock, ping_interval=None, max_queue=1 if self.is_slow else 64)

    def _listen(self, connection: ClientConnection) -> None:
        self._hangs_up.clear()
        while not (self._stopped.is_set() or self._hangs_up.is_set()):
            try:
                message = json.loads(connection.recv(timeout=LISTEN_SECONDS))
            except TimeoutError:
                continue
            with self._lock:
                self._judge.message(self.history, message)
            if self.is_slow and not self.must_hurry.is_set():
                self._stopped.wait(SLOW_SECONDS)
            elif self.is_slow:
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MUCH_BYTES)

    def _judge_close(self, code: int) -> None:
        may_be = self._judge.truth.may_close(code, self.history.began)
        if may_be and not self.is_revoked:
            return
        if code == TOKEN_ENDED:
            self.was_refused = True
            if not self.is_revoked:
                self._judge.blame(f"{self.history.name} was closed with 4401; its token is good")
        elif not may_be:
            self._judge.blame(f"{self.history.name} was closed with {code}")

    def _judge_refusal(self, status: int) -> None:
        if TOKEN_ENDED in self._judge.truth.excuses.closes and not self.is_revoked:
            return  # by a clock that is wrong it has
        if status == 401:
            self.was_refused = True
            if not self.is_revoked:
                self._judge.blame(f"{self.history.name} was refused; its token is good")
        elif status not in {503, *self._judge.truth.excuses.statuses}:
            self._judge.blame(f"{self.history.name} was refused with {status}")


def _connect(url: str, **options: Any) -> ClientConnection:
    """Connect, or raise one of ``AWAY``."""
    try:
        connection: ClientConnection = connect(
            url,
            proxy=None,
            open_timeout=CONNECT_SECONDS,
            close_timeout=0.1,
            max_size=None,
            compression=None,
            **options,
        )
    except AssertionError as error:  # the library's, if it is hung up on while it asks
        raise EOFError from error
    return connection


def snapshot(url: str) -> dict[str, Members] | str:
    """Return all that a sidecar says that there is, or why it says nothing now."""
    state: dict[str, Members] = {}
    try:
        with _connect(f"{url}&bookmarks=1") as connection:
            while "revision" not in (message := json.loads(connection.recv(CONNECT_SECONDS))):
                state[message["id"]] = message["data"]
    except AWAY as error:
        return repr(error)
    return state
