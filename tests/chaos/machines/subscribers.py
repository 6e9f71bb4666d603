"""WebSocket clients that stay: each knows what it was told, connects again when it must, and notes
what it should not have seen."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.chaos.machines.truth import Members

CONNECT_SECONDS = 10.0  # a busy machine has time, and one that is away is left soon
AGAIN_SECONDS = 0.05


class Subscriber:
    """One client at ``url``; ``may_see`` says which sessions or servers are its to see."""

    def __init__(self, name: str, url: str, may_see: Callable[[Members], bool]) -> None:
        self.name = name
        self.may_see = may_see
        self.wrong: list[str] = []  # what it should not have been told
        self.ended: list[str] = []  # the ids that it was told the end of
        self.connections = 0
        self._url = url
        self._state: dict[str, Members] | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def state(self) -> dict[str, Members] | None:
        """What it takes for true now, by id; ``None`` while it has no connection."""
        with self._lock:
            return None if self._state is None else dict(self._state)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                # Of a server that lost its power nothing is heard any more, so clients ask as well.
                with connect(
                    self._url,
                    proxy=None,
                    open_timeout=CONNECT_SECONDS,
                    close_timeout=0.1,
                    ping_interval=5,
                ) as connection:
                    state: dict[str, Members] = {}
                    with self._lock:
                        self._state = state
                        self.connections += 1
                    while not self._stopped.is_set():
                        try:
                            self._take(json.loads(connection.recv(timeout=0.5)), state)
                        except TimeoutError:
                            continue
            except (WebSocketException, OSError, EOFError):
                with self._lock:
                    self._state = None
                self._stopped.wait(AGAIN_SECONDS)

    def _take(self, message: dict[str, Any], state: dict[str, Members]) -> None:
        with self._lock:
            name, data = message["id"], message["data"]
            if data is None:
                self.ended.append(name)
                if state.pop(name, None) is None:
                    self.wrong.append(
                        f"{self.name} was told the end of {name}, which was not there"
                    )
            else:
                state[name] = data
                if data["id"] != name or message.keys() != {"id", "data"} or not self.may_see(data):
                    self.wrong.append(f"{self.name} was told {message}")
