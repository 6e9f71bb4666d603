"""Clients of a site behind nginx, for tests of what they notice of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions import Extension

from fastx_list.config import load
from fastx_list.tokens import Tokens
from tests.support import Answer, wait_for
from tests.system.feed import Feed
from tests.system.nginx import HOST
from tests.system.nginx_site import Site

JSON = {"Content-Type": "application/json"}
T = TypeVar("T")


class Follower:
    """A WebSocket client, for threads that wait for it.

    The library's own such client reads and writes from two threads at once, which an OpenSSL
    connection does not bear: with TLS 1.3 one handshake in some hundreds got lost on the way.
    """

    def __init__(self, site: Site, url: str, **options: Any) -> None:
        self._loop = site.loop
        self._connection: ClientConnection = self._run(self._open(url, ssl=site.tls, **options))

    @staticmethod
    async def _open(url: str, **options: Any) -> ClientConnection:
        return await connect(url, **options)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def recv(self, timeout: float | None = None) -> str | bytes:
        """Return the next message; raises ``TimeoutError`` if there is none for ``timeout``
        seconds."""
        try:
            return self._run(asyncio.wait_for(self._connection.recv(), timeout))
        except asyncio.TimeoutError:  # until Python 3.11 it is another
            raise TimeoutError from None

    @property
    def extensions(self) -> Sequence[Extension]:
        return self._connection.protocol.extensions

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._connection.close())


def follow(site: Site, token: str, url: str = "", **options: Any) -> Follower:
    """Open a WebSocket at ``url``, else at the site's own address."""
    return Follower(site, f"{url or site.live_url}?token={token}", **options)


def refusal(site: Site, token: str, url: str = "", **options: Any) -> Answer:
    """Return the answer to a WebSocket's handshake that fails."""
    with pytest.raises(InvalidStatus) as caught:
        follow(site, token, url, **options)
    response = caught.value.response
    answer = Answer(response.status_code, http.client.HTTPMessage(), bytes(response.body or b""))
    for name, value in response.headers.raw_items():
        answer.headers[name] = value
    return answer


def _is_list(body: bytes) -> bool:
    return isinstance(json.loads(body), list)


class Traffic:
    """Clients that ask for the list all the time, each over new connections or over one for as long
    as that lasts; one of them also with a POST, sets params of ``session``, and changes codes for
    tokens."""

    def __init__(self, site: Site, token: str, session: str = "") -> None:
        self._site, self._token, self._session = site, token, session
        self._codes = Tokens(load(site.service.environ))
        self.failures: list[str] = []
        self.answered = 0
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(kept, posts))
            for kept, posts in ((False, False), (True, False), (False, True))
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            HOST, self._site.port, context=self._site.tls, timeout=60
        )

    def _questions(self, posts: bool) -> Iterator[tuple[str, dict[str, Any] | None]]:
        while not self._over.is_set():
            yield f"/api/list/{self._token}", None
            if posts:
                yield "/api/list", {"token": self._token}
                yield "/code", {"code": self._codes.issue_code("alice", 60)}
            if posts and self._session:
                params = {"id": self._session, "params": {"way": str(self.answered)}}
                yield f"/api/params/{self._token}", params

    def _ask(self, kept: bool, posts: bool) -> None:
        connection, used = self._connect(), False
        for path, question in self._questions(posts):
            try:
                if question is None:
                    connection.request("GET", path)
                else:
                    connection.request("POST", path, json.dumps(question), JSON)
                response = connection.getresponse()
                body = response.read()
                if response.status != 200 or (question is None and not _is_list(body)):
                    self.failures.append(f"{response.status} {body[:200]!r}")
                self.answered += 1
                used = True
            except (ConnectionError, http.client.HTTPException) as error:
                # RFC 9112 section 9.3.1: a server may close an idle connection at any time, and a
                # client then asks again.
                if not used:
                    self.failures.append(repr(error))
                connection.close()
                connection, used = self._connect(), False
            if not kept:
                connection.close()
                connection, used = self._connect(), False
        connection.close()

    def more(self, count: int = 30) -> None:
        """Wait until so many more requests were answered."""
        wanted = self.answered + count
        wait_for("answers", lambda: self.failures or self.answered >= wanted)
        assert self.failures == []


class Client:
    """Does what a client of the WebSocket does: told that the server restarts, it drops what it
    knows and connects again, at once. That has to do, though it may come to another worker that
    is to go and then is told so once more."""

    def __init__(self, site: Site, token: str) -> None:
        self._site, self._token = site, token
        self._connection = self._connect()
        self.feed = Feed(self._connection)  # of the newest connection
        self.goodbyes = 0
        self.problems: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._connection.__exit__()

    def _connect(self) -> Follower:
        return follow(self._site, self._token, open_timeout=60)

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._follow()
        except Exception as error:  # told by the thread that waits
            self.problems.append(repr(error))

    def _follow(self) -> None:
        try:
            self.feed.take()
        except ConnectionClosed as closed:
            if closed.rcvd is None or closed.rcvd.code != 1001:
                raise
            self._connection = self._connect()
            self.feed = Feed(self._connection)
            self.goodbyes += 1

    def is_back(self) -> None:
        """Wait until it has connected again."""
        wait_for("its second connection", lambda: self.problems or self.goodbyes)
        assert self.problems == []

    def hears(self, **members: Any) -> None:
        """Wait until the only session that it knows has these ``members``."""
        wait_for(f"a message with {members}", lambda: self.problems or self.feed.knows(**members))
        assert self.problems == []
