"""What a WebSocket client is told."""

from __future__ import annotations

import json
from typing import Any, Protocol

from tests.support import wait_for
from tests.system.sessions import only


class Receiver(Protocol):
    """A WebSocket client's connection, as far as it receives."""

    def recv(self, timeout: float | None = None) -> str | bytes: ...


class Feed:
    """What a WebSocket client knows: the newest state of each session, and all messages."""

    def __init__(self, connection: Receiver) -> None:
        self._connection = connection
        self.messages: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {}

    def is_empty(self) -> bool:
        self.take()
        return not self.state

    def take(self, seconds: float = 0.05) -> None:
        try:
            while True:
                message = json.loads(self._connection.recv(timeout=seconds))
                assert message.keys() == {"id", "data"}
                self.messages.append(message)
                if message["data"] is None:
                    self.state.pop(message["id"], None)
                else:
                    self.state[message["id"]] = message["data"]
        except TimeoutError:
            pass

    def commands(self) -> set[str | None]:
        """Return all that was told to be the command of a session."""
        self.take()
        return {message["data"]["command"] for message in self.messages if message["data"]}

    def knows(self, **members: Any) -> dict[str, Any] | None:
        """Return the only session if it has these ``members``, as far as was taken."""
        session = only(list(self.state.values()))
        return (
            session
            if session and all(session[name] == value for name, value in members.items())
            else None
        )

    def one(self, **members: Any) -> dict[str, Any]:
        """Wait until the only session has these ``members``, and return it."""

        def look() -> dict[str, Any] | None:
            self.take()
            return self.knows(**members)

        return wait_for(f"a message with {members}", look)
