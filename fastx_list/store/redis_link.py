"""A connection to Redis on which nothing waits for long.

It is made in the background, and every answer has its time. Who asks while it is being made waits a
moment only; if it takes longer, the next one who asks finds it done.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from redis import exceptions

from fastx_list.store import StoreError
from fastx_list.store.redis_address import Address
from fastx_list.store.redis_connect import Attempt, Connection
from fastx_list.store.redis_errors import TooLong, store_error

AGAIN_SECONDS = 0.5  # after no answer, until anybody waits for one again

_WITHOUT_KEY = {"MULTI", "EXEC", "EVAL", "EVALSHA"}  # as their first argument
WRONG_TYPE = "WRONGTYPE"  # the first word of Redis when a key is another kind's

Command = Sequence[str | bytes | int]


class Link:
    """At most one connection to Redis. Not for use by several threads at once.

    Who asks waits at most ``patience`` seconds for it to be made, and ``seconds`` for each answer.
    """

    def __init__(self, address: Address, patience: float, seconds: float) -> None:
        self._address = address  # where Redis is
        self._patience = patience  # how long anybody waits for a connection to be made, in seconds
        self._seconds = seconds  # how long anybody waits for an answer
        self._connection: Connection = None  # once it is made
        self._attempt: Attempt | None = None  # at a connection, until that is made or has failed
        # What Redis did not answer, and until when (time.monotonic()) nobody waits for it again
        self._failure: tuple[StoreError, float] | None = None

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
            raise self._fail(error, *commands) from error

    def transaction(self, *commands: Command) -> list[Any]:
        """Return the answers to ``commands``, between which nothing happens."""
        answers: list[Any] = self.ask(("MULTI",), *commands, ("EXEC",))[-1]
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, exceptions.RedisError):
                raise self._fail(answer, command)
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
        if self._failure is not None and time.monotonic() < self._failure[1]:
            raise StoreError(str(self._failure[0]))
        if self._attempt is None:
            self._attempt = Attempt(self._address, self._seconds)
        self._attempt.thread.join(self._patience)
        if self._attempt.thread.is_alive():
            raise self._fail(exceptions.TimeoutError())
        attempt, self._attempt = self._attempt, None
        if attempt.connection is None:
            raise self._fail(attempt.error)
        self._connection = attempt.connection
        return self._connection

    def _fail(self, error: BaseException | None, *commands: Command) -> StoreError:
        failure = store_error(error, self._address)
        keys = " or ".join(repr(each[1]) for each in commands if each[0] not in _WITHOUT_KEY)
        if isinstance(error, TooLong):
            failure = StoreError(
                f"{failure}; look at {keys or 'its keys'}, and remove what somebody else wrote"
            )
        elif str(error).startswith(WRONG_TYPE) and len(commands) == 1 and keys:
            failure = StoreError(f"{failure}: {keys}; remove that key")
        if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError)):
            self._failure = failure, time.monotonic() + AGAIN_SECONDS
        return failure
