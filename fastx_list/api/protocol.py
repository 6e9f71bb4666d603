"""The WebSocket protocol (RFC 6455) as it is spoken here: what a client may send, and with which
codes a connection is closed."""

from __future__ import annotations

from enum import IntEnum

WEBSOCKET_VERSION = "13"
MAX_CLIENT_MESSAGE = 1024  # bytes
MAX_CLIENT_FRAMES = 100  # in half a second; it has nothing to send but pings and pongs


class CloseCode(IntEnum):
    """A code that the sidecar closes a WebSocket with, and what it means to the client."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> CloseCode:
        member = int.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member

    GOING_AWAY = 1001, "the server restarts, or may have missed a change: connect again"
    PROTOCOL_ERROR = 1002, "the client broke the protocol (RFC 6455)"
    INVALID_TEXT = 1007, "the client sent text that is not UTF-8, or no compressed data"
    TOO_MANY_FRAMES = 1008, f"the client sent more than {MAX_CLIENT_FRAMES} frames in half a second"
    MESSAGE_TOO_LONG = (
        1009,
        f"the client sent a message of over {MAX_CLIENT_MESSAGE} bytes; shorter ones are ignored",
    )
    TOKEN_ENDED = 4401, "the token has expired or was revoked"


def spare_frames(seconds: float) -> int:
    """Return how many more frames than :data:`MAX_CLIENT_FRAMES` a client may send in so many
    seconds, which were more than half of one if we were kept from reading."""
    return max(0, int(MAX_CLIENT_FRAMES * (2 * seconds - 1)))
