"""WebSocket frames (RFC 6455) that are finished once and shared by everyone they go to."""

from __future__ import annotations

import json

from wsproto.frame_protocol import FrameProtocol

# A server's frames are not masked and nothing is compressed here, so a frame depends on its payload
# alone.
_encoder = FrameProtocol(client=False, extensions=[])


def session_frame(session_id: str, text: bytes | None) -> bytes:
    """Return the published message ``{"id", "data"}`` as a frame; ``text`` is the session's JSON,
    ``None`` once it has ended."""
    payload = b'{"id":%s,"data":%s}' % (
        json.dumps(session_id).encode(),
        b"null" if text is None else text,
    )
    return bytes(_encoder.send_data(payload.decode(), fin=True))


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame with this status code (RFC 6455 section 7.4) and reason."""
    return bytes(FrameProtocol(client=False, extensions=[]).close(code, reason))


def ping_frame() -> bytes:
    return bytes(_encoder.ping())


def pong_frame(payload: bytes) -> bytes:
    return bytes(_encoder.pong(payload))
