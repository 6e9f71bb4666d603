"""When the last keyboard or pointer event came, as an X server tells of itself.

This speaks two requests: QueryExtension of the X11 protocol (section 9), once, and QueryInfo of
MIT-SCREEN-SAVER (https://www.x.org/releases/current/doc/scrnsaverproto/saver.html), which asks
without being an event itself and wakes nothing.
"""

from __future__ import annotations

import struct
import time

IDLE_SECONDS = 60.0  # who was there sooner is using the session; and how often that is asked
# By which a moment may be another one each time that it is worked out
JITTER_SECONDS = 2.0
LATE_SECONDS = 5.0  # after so long an answer tells of nobody knows when
_NAME = b"MIT-SCREEN-SAVER"
_QUERY_EXTENSION, _QUERY_INFO = 98, 1
_ERROR = 0
_TURN = 2**32 / 1000  # seconds after which the server's count begins anew


class Idle:
    """What one X server tells of its input. Does no input or output."""

    def __init__(self, asked_before: int, seconds: float = IDLE_SECONDS) -> None:
        """``asked_before`` is how many requests were sent on the connection. An input that was more
        than ``seconds`` ago is told of, and asked for as often."""
        self._seconds = seconds
        self._sequence = asked_before
        # The number of the request that is not answered yet, and when it and the next are sent, by
        # the monotonic clock.
        self._awaited: int | None = None
        self._asked_at = self._due = 0.0
        # The extension's; None until the server has told.
        self._opcode: int | None = None
        # Whether the server has it, as far as is known.
        self._may_ask = True
        # When the last event came, by the monotonic clock; None until the server has told.
        self._event: float | None = None
        # The same in seconds since boot, if it was long enough ago when it was asked for.
        self.since: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether the server has told, or never will."""
        return self._event is not None or not self._may_ask

    def request(self, root: int) -> bytes:
        """Return what is to be sent now to the server, whose root window is ``root``."""
        if not self._may_ask or self._awaited is not None:
            return b""
        now = time.monotonic()
        if now < self._due:
            return b""
        self._sequence = self._awaited = (self._sequence + 1) & 0xFFFF
        self._asked_at = now
        if self._opcode is None:
            return struct.pack("<BxHHxx", _QUERY_EXTENSION, 6, len(_NAME)) + _NAME
        self._due = now + self._seconds
        return struct.pack("<BBHI", self._opcode, _QUERY_INFO, 2, root)

    def take(self, data: bytes) -> bool:
        """Take the 32 bytes of a reply or an error; return whether it is to a request of ours."""
        if self._awaited is None or int.from_bytes(data[2:4], "little") != self._awaited:
            return False
        self._awaited = None
        if data[0] == _ERROR:
            self._may_ask, self.since = False, None
        elif self._opcode is None:
            has_it, opcode = data[8], data[9]
            self._may_ask = bool(has_it) and opcode >= 128
            self._opcode = opcode
        else:
            (idle,) = struct.unpack_from("<I", data, 16)
            self._take_idle(idle / 1000, time.monotonic())
        return True

    def _take_idle(self, idle: float, now: float) -> None:
        if now - self._asked_at > LATE_SECONDS:
            self._due = 0.0
            return
        event = self._asked_at - idle
        if self._event is not None:
            turns = round((event - self._event) / _TURN)
            if abs(event - max(turns, 0) * _TURN - self._event) <= JITTER_SECONDS:
                event = self._event
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME) - (now - event)
        if self._asked_at - event < self._seconds:
            self.since = None
        elif event != self._event or self.since is None:
            self.since = since_boot
        self._event = event
