"""Makes connections to Redis.

Resolving a name, connecting, TLS, a password and asking Sentinels can each take seconds while
something is away, so a thread does all that.
"""

from __future__ import annotations

import threading
from typing import Any, TypeAlias

from redis import connection as connections
from redis import exceptions, sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from fastx_list.store.redis_address import Address
from fastx_list.store.redis_errors import TooLong

CONNECT_SECONDS = 3.0  # that making a connection may take
# Of a value, which is four times what Records takes, and of an answer with many: of all sessions of
# a machine
MAX_VALUE_BYTES, MAX_ANSWER_BYTES = 1 << 20, 1 << 28
READ_BYTES = 1 << 16

# Parts of redis-py that are public, but have no types or not the right ones.
Connection: TypeAlias = Any
_TcpConnection: Any = connections.Connection
_TlsConnection: Any = connections.SSLConnection
_UnixConnection: Any = connections.UnixDomainSocketConnection
_Sentinel: Any = sentinel.Sentinel
_Parser: Any = connections.DefaultParser


class BoundedParser(_Parser):  # type: ignore[misc]
    """hiredis' parser, which keeps of an answer no more than we may be answered: anybody may have
    written it."""

    def read_response(self, *args: Any, **options: Any) -> Any:
        self._reads = 0
        return super().read_response(*args, **options)

    def read_from_socket(self, *args: Any, **options: Any) -> Any:
        """Read more of an answer. What of it is whole has left the reader's buffer."""
        self._reads += 1
        kept = self._reader.len() if self._reader is not None else 0
        if kept > MAX_VALUE_BYTES or self._reads * READ_BYTES > MAX_ANSWER_BYTES:
            raise TooLong
        return super().read_from_socket(*args, **options)


class Attempt:
    """A connection that is being made, in a thread of its own."""

    def __init__(self, address: Address, seconds: float) -> None:
        """``seconds`` is how long each answer on the connection may take."""
        self.connection: Connection = None  # once it is made
        self.error: Exception | None = None  # why it could not be made
        self.thread = threading.Thread(  # ends when one of the two is there
            target=self._run, args=(address, seconds), daemon=True
        )
        self.thread.start()

    def _run(self, address: Address, seconds: float) -> None:
        try:
            self.connection = _connect(address, seconds)
        except Exception as error:  # told to whoever asks
            self.error = error


def _connect(address: Address, seconds: float) -> Connection:
    common: dict[str, Any] = {
        "username": address.username,
        "password": address.read_password(),
        "socket_timeout": seconds,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "parser_class": BoundedParser,
        "socket_read_size": READ_BYTES,
    }
    tls = (
        {"ssl_ca_certs": address.ca, "ssl_certfile": address.cert, "ssl_keyfile": address.key}
        if address.tls
        else {}
    )
    if address.socket is not None:
        connection = _UnixConnection(path=address.socket, db=address.database, **common)
    else:
        host, port = _find_master(address, tls) if address.master else address.hosts[0]
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
            _check_master(connection)
    except BaseException:
        connection.disconnect()
        raise
    return connection


def _find_master(address: Address, tls: dict[str, Any]) -> tuple[str, int]:
    """Ask the Sentinels for the host and the port of the master that they watch."""
    options = {
        "socket_timeout": CONNECT_SECONDS / 3,
        "socket_connect_timeout": CONNECT_SECONDS / 3,
        "retry": Retry(NoBackoff(), 0),
        "ssl": address.tls,
        "password": address.read_sentinel_password(),
        **tls,
    }
    sentinels = _Sentinel(address.hosts, sentinel_kwargs=options)
    try:
        host, port = sentinels.discover_master(address.master)
        return str(host), int(port)
    finally:
        for client in sentinels.sentinels:
            client.close()


def _check_master(connection: Connection) -> None:
    connection.send_command("ROLE")
    if connection.read_response()[0] != b"master":
        raise exceptions.ReadOnlyError("it has become a replica")
