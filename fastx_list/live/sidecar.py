"""Follows the store, tends the connections, and says goodbye to them. It knows nothing of HTTP."""

from __future__ import annotations

import gc
import logging
import math
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable
from weakref import WeakValueDictionary

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from fastx_list.api.arrival import Patience
from fastx_list.api.counters import counters
from fastx_list.api.protocol import CloseCode, spare_frames
from fastx_list.api.services import Services
from fastx_list.live.bus import Bus, Filters, News, Told, snapshot_of
from fastx_list.live.connection import CLOSE_SECONDS, Connection
from fastx_list.live.deflate import Deflate
from fastx_list.live.frames import FramedEntry
from fastx_list.live.loop import let_others
from fastx_list.live.server import SPARE_FILES
from fastx_list.live.start import Asked, mark, start
from fastx_list.live.tally import tally
from fastx_list.replica.doubt import RETRY_SECONDS
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Topic
from fastx_list.text import printable
from fastx_list.tokens import Claims

EXTENSION = "fastx-list-live"
FOLLOW_SECONDS = 1.0  # that the store is waited for to change, at a time
TEND_SECONDS = 0.5  # between two looks at each connection
# That new subscribers wait while the store is read anew, and a look at whether it still is
READ_ANEW_SECONDS, READ_ANEW_LOOK_SECONDS = 2.0, 0.02
FIRST_READ_SECONDS = 5.0  # that handshakes wait for the store to be read for the first time
AT_ONCE = 100  # sessions of a snapshot, before others have their turn
BOOKMARK_SECONDS = 5.0  # between two bookmarks of a connection
_ANSWER = ""  # to the handshake, which no session is called

log = logging.getLogger(__name__)


class Live:
    """The sidecar's connections, and the greenlets that follow the store and tend them."""

    def __init__(self, service: Services, replica: Replica[FramedEntry]) -> None:
        # Who is told of what
        self.bus = Bus(revision_of=replica.trail.revision)
        # All connections that are not gone
        self.connections: set[Connection] = set()
        # How many of them each login has; no login stands here with none
        self._of_login: Counter[str] = Counter()
        # For how long they are waited for
        self.patience = Patience()
        # How many connections there may be
        self.room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES
        # The settings, and who has revoked what
        self._service = service
        # What the connections are sent
        self._replica = replica
        # One that follows the store, one that tells of it, one that tends, and one for bookmarks;
        # none before start()
        self._greenlets: list[gevent.Greenlet[..., None]] = []
        # Set once the store has been read
        self._first_read = Event()
        # Set while there is something to tell
        self._news = Event()
        # Held by whichever connection of a login is sent a snapshot that takes long
        self._snapshots: WeakValueDictionary[str, BoundedSemaphore] = WeakValueDictionary()
        # Whether a change may not have come to those it is for
        self._may_have_missed = False
        # Of those who want bookmarks: what theirs end with, the step of the last one, and when the
        # next one is due
        self._bookmarks: dict[Connection, tuple[str, str | None, float]] = {}

    def start(self) -> None:
        """Begin to follow the store, once per process; to be called after the last fork."""
        if not self._greenlets:
            steps = (self._follow, self._tell, self._tend, self._bookmark_each)
            self._greenlets = [gevent.spawn(_for_ever, step) for step in steps]

    @property
    def has_read(self) -> bool:
        """Whether it follows the store, and has read it once."""
        return bool(self._greenlets) and self._replica.loaded

    def await_first_read(self) -> None:
        """Give the store a moment to be read if it never was: after a restart all come at once, and
        none is better sent away."""
        if not self._replica.loaded:
            self._first_read.wait(FIRST_READ_SECONDS)

    def serve(
        self,
        sock: socket.socket,
        answer: bytes,
        claims: Claims,
        filters: Filters,
        topic: Topic,
        asked: Asked,
        deflate: Deflate | None,
    ) -> None:
        """Take over ``sock``, which does not block: send the ``answer`` to its handshake and what
        is ``asked`` of ``topic``, and leave the rest to the loop."""
        connection = self._connect(sock, claims, filters, topic, deflate is not None)
        if len(self._replica.entries(topic)) <= AT_ONCE and not self._replica.is_read_anew:
            self._subscribe(connection, asked, [Told(_ANSWER, answer, True)], deflate)
            return
        connection.send(answer)
        self._await_new_copy()
        # All connections of a login together have one turn: who opens a hundred waits for them
        with self._snapshots.setdefault(claims.login, BoundedSemaphore()):
            self._subscribe(connection, asked, [], deflate)

    def _await_new_copy(self) -> None:
        """While the store is read anew give that a moment: another worker may be done, and have
        told the client more than this one knows. If it lasts, the last copy is better than none."""
        until = time.monotonic() + READ_ANEW_SECONDS
        while self._replica.is_read_anew and time.monotonic() < until:
            gevent.sleep(READ_ANEW_LOOK_SECONDS)

    def _subscribe(
        self, connection: Connection, asked: Asked, told: list[Told], deflate: Deflate | None
    ) -> None:
        if connection not in self.connections:
            return  # it has gone while it waited
        replica, topic = self._replica, connection.topic
        step = replica.trail.revision(topic)  # first, so that what is sent is at least as new
        first, ids = start(connection, topic, asked, self.bus, replica)
        told += first
        together = None
        # Sessions of several logins never refer to each other: who sees no more than how long the
        # frames are could tell what they have in common (RFC 7692 section 8)
        if deflate is not None and len(ids) > AT_ONCE and topic == connection.claims.login:
            together = deflate.snapshot()
        connection.deflates = deflate is not None and together is None
        for begin in range(0, len(ids) or 1, AT_ONCE):
            entries = replica.entries(topic)
            present = (entries[name] for name in ids[begin : begin + AT_ONCE] if name in entries)
            news = News([*told, *snapshot_of(present, connection.filters)])
            told = []
            counters.add("messages", sum(each.id != _ANSWER for each in news.told))
            if together is None:
                connection.tell(news)
            else:
                connection.tell_together(news, together)
            if len(ids) > AT_ONCE:
                let_others()  # nobody's snapshot keeps everybody else waiting
                if connection not in self.connections:
                    return
        connection.deflates = deflate is not None
        if asked.bookmarks and connection in self.connections:
            self._bookmarks[connection] = asked.tag, None, 0.0
            self._bookmark(connection, step)

    def _connect(
        self, sock: socket.socket, claims: Claims, filters: Filters, topic: Topic, inflates: bool
    ) -> Connection:
        connection = Connection(
            sock,
            claims,
            filters,
            topic,
            gevent.get_hub().loop,
            self._disconnect,
            inflates,
            self.patience,
        )
        self.connections.add(connection)
        counters.add("webSockets")
        self._of_login[claims.login] += 1
        tally.note(claims.login, self._of_login[claims.login])
        return connection

    def _disconnect(self, connection: Connection) -> None:
        login = connection.claims.login
        self.bus.unsubscribe(connection.topic, connection)
        self._bookmarks.pop(connection, None)
        self.connections.discard(connection)
        counters.add("webSockets", -1)
        self._of_login[login] -= 1
        tally.note(login, self._of_login[login])
        if not self._of_login[login]:
            del self._of_login[login]

    def of_login(self, login: str) -> int:
        """Return how many connections ``login`` has, at all workers."""
        return self._of_login[login] + tally.elsewhere(login)

    def close_all(self) -> None:
        """Tell every client that the server goes away, and wait until they have taken it, or for as
        long as a close may take."""
        deadline = time.monotonic() + CLOSE_SECONDS
        while self.connections and time.monotonic() < deadline:
            self._close_each("the server restarts; connect again")
            gevent.sleep(0.01)

    def _follow(self) -> None:
        replica = self._replica
        try:
            changes = replica.follow(FOLLOW_SECONDS)
            if replica.loaded and not self._first_read.is_set():
                gc.freeze()  # what stays for long, so that Python's collector need not walk over it
                self._first_read.set()
            if changes:
                self.bus.publish(changes)
                self._news.set()
            if changes or replica.is_behind:
                let_others()  # very many come in parts, and others have their turn in between
        except Exception as error:
            self._may_have_missed = True
            replica.problem = f"what was written cannot be followed: {error!r}"  # until it can
            raise
        if replica.pause > 0:
            gevent.sleep(replica.pause)
        elif self._may_have_missed:
            self._may_have_missed = False
            self._close_each("the server may have missed a change; connect again")

    def _tell(self) -> None:
        """Tell subscribers of what was published; all else has its turn in between."""
        self._news.wait()
        try:
            while self.bus.tell():
                let_others()
        except Exception:
            self._may_have_missed = True
            raise
        self._news.clear()

    def _close_each(self, reason: str) -> None:
        for connection in list(self.connections):
            connection.close(CloseCode.GOING_AWAY, reason)

    def _bookmark_each(self) -> None:
        gevent.sleep(TEND_SECONDS)
        for number, connection in enumerate(list(self._bookmarks), start=1):
            self._bookmark(connection, self.bus.told(connection.topic))
            if number % AT_ONCE == 0:
                let_others()

    def _bookmark(self, connection: Connection, step: str | None) -> None:
        """Say that it has been told all up to ``step``, if that is due, and known."""
        tag, last, due = self._bookmarks.get(connection, ("", None, math.inf))
        now = time.monotonic()
        # Two that wait in the mailbox would be one, and stand where the first does
        if now < due or step is None or step == last or None in connection.mailbox:
            return
        if not self._may_have_missed:
            connection.tell(News([mark(step + tag)]))
            self._bookmarks[connection] = tag, step, now + BOOKMARK_SECONDS

    def _tend(self) -> None:
        settings, tokens = self._service.settings, self._service.tokens
        gevent.sleep(TEND_SECONDS)
        tokens.refresh()
        revoked = self._replica.revoked
        now, wall = self.patience.now(), time.time()
        spare = spare_frames(self.patience.unseen())
        for connection in list(self.connections):
            if connection.claims.jti in revoked:
                connection.close(CloseCode.TOKEN_ENDED, "the token has been revoked")
            elif connection.claims.expires <= wall:
                connection.close(CloseCode.TOKEN_ENDED, "the token has expired")
            elif connection.claims.secret not in (None, tokens.replaced):
                connection.close(CloseCode.GOING_AWAY, "the secret was replaced; connect again")
            if connection.tend(now, settings.ping_interval, settings.slow_client_timeout, spare):
                counters.add("slowClientsDropped")
                login = printable(connection.claims.login)
                log.warning(
                    "dropped a connection of %s: it had read nothing for %g s",
                    login,
                    settings.slow_client_timeout,
                )
        self.patience.look()


def in_a_thread(call: Callable[[], None]) -> None:
    """Let ``call`` run in a real thread: what waits for a database would keep all greenlets
    waiting."""
    gevent.get_hub().threadpool.spawn(call)


def _for_ever(step: Callable[[], None]) -> None:
    """Take ``step`` again and again, whatever comes of it: nobody would be told of anything any
    more without it."""
    while True:
        try:
            step()
        except Exception:
            log.exception("unexpected error; going on in %g s", RETRY_SECONDS)
            gevent.sleep(RETRY_SECONDS)
