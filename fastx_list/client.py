"""A client of the service, for programs: it asks for sessions, and follows them through outages::

    client = Client("https://list.example.org", token)
    for session in client.sessions(filters=["clients==0"], sort_by="started"):
        print(session["id"], session["login"])
    for name, session in client.follow():
        print(name, "has ended" if session is None else session["clients"])

docs/api.md says what a session has, what filters take, and how a client comes back.
"""

from __future__ import annotations

import json
import random
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from socket import socket
from typing import Any, NamedTuple
from urllib.parse import urlencode

from wsproto import ConnectionType, WSConnection
from wsproto import events as told
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import ProtocolError

from fastx_list.endpoint import Endpoint

TIMEOUT = 10.0  # seconds that each wait for the service takes at most
MAX_ANSWER_BYTES = 2**28  # of several hundred thousand sessions
MAX_MESSAGE_CHARACTERS = 2**20  # of one
SILENT_SECONDS = 90.0  # without a word of the sidecar, which pings, until it is taken for gone
LONGEST_PAUSE = 30.0  # seconds between two tries
FORM = "application/x-www-form-urlencoded"
PASSING = (408, 429, 500, 502, 503, 504)  # statuses after which to try again
Session = dict[str, Any]  # its members
Filters = Sequence[str]  # all of which hold, such as "clients==0"
Token = str | Callable[[], str] | None
Context = ssl.SSLContext | None


class Refused(Exception):
    """The service answered with an error; ``status`` is that of HTTP."""

    def __init__(self, status: int, body: bytes) -> None:
        try:
            message = str(json.loads(body)["error"]["message"])
        except (ValueError, LookupError, TypeError, RecursionError):
            message = "the answer is no service's of ours"
        super().__init__(message)
        self.status = status


class Answer(NamedTuple):
    """What the service answered."""

    content: Any  # its JSON; None if it is as it was with the ``etag`` that was sent
    etag: str | None
    total: int | None  # how many there are before ``start`` and ``limit``, where they are counted
    warning: str | None  # why it may be out of date
    revision: str | None  # what to give as ``since`` to be told what has come after it


class Client:
    """Asks one service in the name of one login."""

    def __init__(
        self, url: str, token: Token = None, *, live_url: str = "", context: Context = None
    ) -> None:
        """``url`` is as :class:`Endpoint` takes it, and ``live_url`` the sidecar's, if that is
        another. ``token`` may be what makes one: it is called for each connection."""
        self._list, self._live = Endpoint(url, context), Endpoint(live_url or url, context)
        self._token = token

    def sessions(
        self,
        filters: Filters = (),
        sort_by: str = "",
        reverse: bool = False,
        everybody: bool = False,
    ) -> list[Session]:
        """Return the sessions of the token's login, or, for an administrator, of everybody. Raises
        as :meth:`ask`."""
        query = [("sortBy", sort_by), ("sortReverse", str(reverse).lower())]
        query += [("filter", each) for each in filters]
        return list(self.ask(_address(everybody), query).content)

    def ask(
        self, address: str, query: Sequence[tuple[str, str]] = (), etag: str | None = None
    ) -> Answer:
        """Return what the service answers at ``address``, such as ``/api/history``. Raises
        :class:`Refused`, ``OSError``, and ``HTTPException`` for what is no answer."""
        headers = self._headers() | {"Host": self._list.host, "Content-Type": FORM}
        headers |= {"If-None-Match": etag} if etag else {}
        with closing(HTTPConnection("localhost")) as connection:
            connection.sock = self._list.connect(TIMEOUT)
            connection.request("POST", self._list.prefix + address, urlencode(query), headers)
            with connection.getresponse() as response:
                body = response.read(MAX_ANSWER_BYTES + 1)
        if len(body) > MAX_ANSWER_BYTES:
            raise OSError("the answer is too long")
        if response.status not in (200, 304):
            raise Refused(response.status, body)
        total, etag = response.headers["X-Total-Count"], response.headers["ETag"]
        try:
            content = json.loads(body) if response.status == 200 else None
            count = int(total) if total else None
        except (ValueError, RecursionError):
            raise HTTPException("the answer is no service's of ours") from None
        if isinstance(content, dict) and "result" in content:  # FASTX_LIST_RESULT_ENVELOPE
            content = content["result"]
        return Answer(content, etag, count, *map(response.headers.get, ("Warning", "X-Revision")))

    def follow(
        self, filters: Filters = (), everybody: bool = False
    ) -> Iterator[tuple[str, Session | None]]:
        """Yield the id of each session with its members, then of each that changes, and ``None`` in
        their place once it has ended or no filter finds it any more. It never ends by itself: after
        an outage it tells what has changed since. Raises :class:`Refused` if retries can't help."""
        known: set[str] = set()
        revision, pause = None, 1.0
        while True:
            unsaid = set() if revision else set(known)  # of those that are told of anew
            try:
                for message in self._messages(filters, everybody, revision):
                    pause = 1.0
                    gone: set[str] = set()
                    if "revision" in message:
                        revision = message["revision"]
                        unsaid, gone = (set(), unsaid) if revision else (set(known), gone)
                    elif message["data"] is None:
                        gone = {message["id"]}
                    else:
                        known.add(message["id"])
                        unsaid.discard(message["id"])
                        yield message["id"], message["data"]
                    for name in gone & known:
                        known.discard(name)
                        yield name, None
            except Refused as refused:
                if refused.status not in PASSING:
                    raise
            except (OSError, ProtocolError, ValueError):
                pass
            time.sleep(pause * random.uniform(0.5, 1.5))  # so that not all come at once
            pause = min(pause * 2, LONGEST_PAUSE)

    def _messages(
        self, filters: Filters, everybody: bool, revision: str | None
    ) -> Iterator[dict[str, Any]]:
        query = [("bookmarks", "1"), ("since", revision or "")]
        query += [("filter", each) for each in filters]
        hello = told.Request(
            self._live.host,
            f"{self._live.prefix}{_address(everybody)}?{urlencode(query)}",
            [PerMessageDeflate()],
            [(name.encode(), value.encode()) for name, value in self._headers().items()],
        )
        wire, text, body, status = WSConnection(ConnectionType.CLIENT), "", b"", 0
        with closing(self._live.connect(TIMEOUT)) as sock:
            sock.sendall(wire.send(hello))
            sock.settimeout(SILENT_SECONDS)
            for event in _events(wire, sock):
                if isinstance(event, told.TextMessage):
                    text += event.data
                    if event.message_finished:
                        yield json.loads(text)
                        text = ""
                elif isinstance(event, told.RejectConnection):
                    status = event.status_code
                elif isinstance(event, told.RejectData):
                    body += event.data
                    if event.body_finished:
                        raise Refused(status, body)
                if max(len(text), len(body)) > MAX_MESSAGE_CHARACTERS:
                    raise OSError("a message is too long")

    def _headers(self) -> dict[str, str]:
        token = self._token() if callable(self._token) else self._token
        return {"Authorization": f"Bearer {token}"} if token else {}


def _address(everybody: bool) -> str:
    return "/api/admin/session" if everybody else "/api/list"


def _events(wire: WSConnection, sock: socket) -> Iterator[told.Event]:
    """Yield what comes over ``wire`` until it is closed, and answer pings."""
    while True:
        wire.receive_data(sock.recv(65536) or None)
        for event in wire.events():
            if isinstance(event, told.Ping):
                sock.sendall(wire.send(event.response()))
            if isinstance(event, told.CloseConnection):
                return
            yield event
