"""A connection to Redis on which nothing waits for long: it is made in the background, and every
answer has its time.

Resolving a name, connecting, TLS, a password and asking Sentinels can each take seconds while
something is away. So a thread does all that, and who asks waits for it a moment only; if it takes
longer, the next one who asks finds it done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

from redis import connection as connections
from redis import exceptions, sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from fastx_list.store import StoreError
from fastx_list.store.redis_address import Address

CONNECT_SECONDS = 3.0  # that making a connection may take
AGAIN_SECONDS = 0.5  # after no answer, until anybody waits for one again

_CANNOT_SAVE = "MISCONF"  # the first word of what Redis says then

Command = Sequence[str | bytes | int]
# Parts of redis-py that are public, but have no types or not the right ones.
Connection: TypeAlias = Any
_TcpConnection: Any = connections.Connection
_TlsConnection: Any = connections.SSLConnection
_UnixConnection: Any = connections.UnixDomainSocketConnection
_Sentinel: Any = sentinel.Sentinel


class StoreFull(StoreError):
    """Redis takes no changes, for want of memory or disk; what it has can be read."""


class Link:
    """At most one connection to Redis. Not for use by several threads at once.

    Who asks waits at most ``patience`` seconds for it to be made, and ``seconds`` for each answer.
    """

    def __init__(self, address: Address, patience: float, seconds: float) -> None:
        self._address = address
        self._patience = patience
        self._seconds = seconds
        self._connection: Connection = None
        self._attempt: _Attempt | None = None
        self._failure: tuple[float, StoreError] | None = None

    def ask(self, *commands: Command, more: float = 0) -> list[Any]:
        """Return the answers to ``commands``, which are sent at once; with ``more``, the first may
        take so many seconds longer.

        Raises :class:`StoreError`, and ``redis.exceptions.NoScriptError`` for a script that Redis
        does not know.
        """
        was_there = self._connection is not None
        try:
            return self._ask(self._connect(), commands, more)
        except exceptions.NoScriptError:
            raise
        except exceptions.RedisError as error:
            self.close()
            # What Redis has closed meanwhile is no reason for an error: nothing that is asked here
            # does harm when asked twice.
            if was_there and type(error) is exceptions.ConnectionError:
                return self.ask(*commands, more=more)
            raise self._fail(error) from error

    def transaction(self, *commands: Command) -> list[Any]:
        """Return the answers to ``commands``, between which nothing happens."""
        answers: list[Any] = self.ask(("MULTI",), *commands, ("EXEC",))[-1]
        for answer in answers:
            if isinstance(answer, exceptions.RedisError):
                raise self._fail(answer)
        return answers

    def send(self, *commands: Command) -> None:
        """Send ``commands``, whose answers :meth:`take` takes."""
        connection = self._connect()
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        except exceptions.RedisError as error:
            self.close()
            raise self._fail(error) from error

    def has_answer(self) -> bool:
        """Return whether an answer has come, or none can come any more."""
        try:
            return self._connection is None or bool(self._connection.can_read(0))
        except exceptions.RedisError:
            self.close()
            return True

    def take(self) -> list[object]:
        """Take one answer to what was sent; nothing if it is an error, with which the connection is
        given up."""
        try:
            return [] if self._connection is None else [self._connection.read_response()]
        except exceptions.RedisError:
            self.close()
            return []

    def close(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def _ask(self, connection: Connection, commands: Sequence[Command], more: float) -> list[Any]:
        if len(commands) == 1:
            connection.send_packed_command(
                connection.pack_command(*commands[0]), check_health=False
            )
        else:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        if more and not connection.can_read(more + self._seconds):
            raise exceptions.TimeoutError("Timeout reading from socket")
        return [connection.read_response() for _ in commands]

    def _connect(self) -> Connection:
        if self._connection is not None:
            return self._connection
        if self._failure is not None and time.monotonic() < self._failure[0]:
            raise StoreError(str(self._failure[1]))
        if self._attempt is None:
            self._attempt = _Attempt(self._address, self._seconds)
        self._attempt.thread.join(self._patience)
        if self._attempt.thread.is_alive():
            raise self._fail(exceptions.TimeoutError())
        attempt, self._attempt = self._attempt, None
        if attempt.connection is None:
            raise self._fail(attempt.error)
        self._connection = attempt.connection
        return self._connection

    def _fail(self, error: BaseException | None) -> StoreError:
        failure = (StoreFull if _is_full(error) else StoreError)(
            f"the store, {self._address}, {_reason(error, self._address)}"
        )
        if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError)):
            self._failure = time.monotonic() + AGAIN_SECONDS, failure
        return failure


class Watch:
    """A question that Redis answers as soon as there is something to say: until it has, nothing has
    happened.

    So whoever wants to know looks at a socket of his own machine, and need not ask again.
    """

    def __init__(self, address: Address, patience: float, seconds: float) -> None:
        """The times are those of :class:`Link`."""
        self._link = Link(address, patience, seconds)
        self._seconds = seconds
        self._until: float | None = None
        # The answer that tells that Redis has the question, until it has come
        self._awaited: list[object] = []

    def begin(self, check: Command, answer: object, command: Command, seconds: float) -> None:
        """Ask ``check`` and with it ``command``, which Redis answers after ``seconds`` if nothing
        happens.

        That counts once ``check`` has been answered with ``answer``. If they cannot be asked,
        nothing is watched.
        """
        self._end()
        try:
            self._link.send(check, command)
        except StoreError:
            return
        self._until, self._awaited = time.monotonic() + seconds + self._seconds, [answer]

    @property
    def is_asked(self) -> bool:
        """Whether there is a question that may still be answered."""
        return self._until is not None and time.monotonic() < self._until

    def goes_on(self) -> bool:
        """Return whether Redis has the question and has not answered it yet, though it still
        may."""
        if not self.is_asked:
            return False
        has_answer = self._link.has_answer()
        if self._awaited:
            if not has_answer:
                return False  # not yet
            if self._link.take() != [self._awaited.pop()]:
                self.close()
                return False
            has_answer = self._link.has_answer()
        if has_answer:
            self._end()
        return not has_answer

    def _end(self) -> None:
        if self._until is None:
            return
        self._until = None
        for _ in range(len(self._awaited) + 1):
            if not self._link.has_answer() or not self._link.take():
                self._link.close()  # an answer that comes later would be taken for another's
                return

    def close(self) -> None:
        self._until = None
        self._link.close()


class _Attempt:
    """Makes a connection, in a thread of its own."""

    def __init__(self, address: Address, seconds: float) -> None:
        self.connection: Connection = None
        self.error: BaseException | None = None
        self._address = address
        self._seconds = seconds
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.connection = self._make()
        except Exception as error:  # told to whoever asks
            self.error = error

    def _make(self) -> Connection:
        address = self._address
        common: dict[str, Any] = {
            "username": address.username,
            "password": address.read_password(),
            "socket_timeout": self._seconds,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        tls = (
            {"ssl_ca_certs": address.ca, "ssl_certfile": address.cert, "ssl_keyfile": address.key}
            if address.tls
            else {}
        )
        if address.socket is not None:
            connection = _UnixConnection(path=address.socket, db=address.database, **common)
        else:
            host, port = self._find_master(common, tls) if address.master else address.hosts[0]
            kind = _TlsConnection if address.tls else _TcpConnection
            connection = kind(
                host=host,
                port=port,
                db=address.database,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_keepalive=True,
                **common,
                **tls,
            )
        try:
            connection.connect()
            if address.master:
                self._check_master(connection)
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def _find_master(self, common: dict[str, Any], tls: dict[str, Any]) -> tuple[str, int]:
        assert self._address.master is not None
        options = {
            "socket_timeout": CONNECT_SECONDS / 3,
            "socket_connect_timeout": CONNECT_SECONDS / 3,
            "retry": common["retry"],
            "ssl": self._address.tls,
            "password": self._address.read_sentinel_password(),
            **tls,
        }
        sentinels = _Sentinel(self._address.hosts, sentinel_kwargs=options)
        try:
            host, port = sentinels.discover_master(self._address.master)
            return str(host), int(port)
        finally:
            for client in sentinels.sentinels:
                client.close()

    @staticmethod
    def _check_master(connection: Connection) -> None:
        connection.send_command("ROLE")
        if connection.read_response()[0] != b"master":
            raise exceptions.ReadOnlyError("it has become a replica")


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, exceptions.OutOfMemoryError) or str(error).startswith(_CANNOT_SAVE)


def _reason(error: BaseException | None, address: Address) -> str:
    """Say what is wrong, and what helps."""
    text = str(error or "")
    for kinds, reason in (
        (
            (exceptions.AuthenticationError, exceptions.AuthenticationWrongNumberOfArgsError),
            (
                "does not take the password: give it in the URL of FASTX_LIST_STORE, or a file that"
                " holds it with ?password_file="
            ),
        ),
        (
            (exceptions.NoPermissionError,),
            "does not let this user do all that it takes: see ACL SETUSER in its documentation",
        ),
        ((exceptions.BusyLoadingError,), "is still loading its data"),
        (
            (exceptions.ReadOnlyError,),
            "is a replica, which takes no changes: FASTX_LIST_STORE takes its master, or Sentinels",
        ),
        ((exceptions.OutOfMemoryError,), "has no memory left for changes: raise its maxmemory"),
        ((exceptions.TimeoutError,), "does not answer"),
    ):
        if isinstance(error, kinds):
            return reason
    if text.startswith(("NOAUTH", "Authentication required")):
        return _reason(exceptions.AuthenticationError(), address)
    if text.startswith(_CANNOT_SAVE):
        return (
            "cannot save its data, so it takes no changes: its disk may be full, and its log says"
            " more"
        )
    if isinstance(error, sentinel.MasterNotFoundError):
        return (
            "cannot be found: no Sentinel that answers knows a master of this name; "
            "if they ask for a password, name a file that holds it with ?sentinel_password_file="
        )
    if address.password:
        text = text.replace(address.password, "***")
    return f"cannot be used: {text or type(error).__name__}"
