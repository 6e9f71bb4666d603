"""WebSocket frames (RFC 6455). Each is made once and shared by everyone it goes to."""

from __future__ import annotations

import json
from functools import cached_property

from wsproto.frame_protocol import FrameProtocol

from fastx_list.live.deflate import LEAST_BITS, deflating, text_of
from fastx_list.replica.view import Entry

# A server's frames are not masked, and none refers to another, so a frame depends on its payload
# alone.
_encoder = FrameProtocol(client=False, extensions=[])
# So that one frame will do for every client, whatever window it has
_deflating = deflating(LEAST_BITS, keeps_context=False)


class FramedEntry(Entry):
    """A session or server of the sidecar's replica, with the message about it.

    It stands for itself where a subscriber is told of it that may know it.
    """

    is_known = True

    @property
    def state(self) -> FramedEntry:
        return self

    @cached_property
    def frame(self) -> bytes:
        """The published message, made when first needed."""
        return session_frame(self.id, self.text)

    @cached_property
    def deflated(self) -> bytes:
        """The same for clients that take compressed messages: compressed, unless that is longer."""
        return min(self.frame, bytes(_deflating.send_data(text_of(self.frame))), key=len)


def session_frame(session_id: str, text: bytes | None) -> bytes:
    """Return the published message ``{"id", "data"}`` as a frame; ``text`` is the session's JSON,
    ``None`` once it has ended."""
    payload = b'{"id":%s,"data":%s}' % (
        json.dumps(session_id).encode(),
        b"null" if text is None else text,
    )
    return bytes(_encoder.send_data(payload.decode(), fin=True))


def revision_frame(revision: str | None) -> bytes:
    """Return the message ``{"revision"}`` as a frame; ``None`` says that what the client has is
    not known."""
    return bytes(_encoder.send_data(json.dumps({"revision": revision}), fin=True))


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame with this status code (RFC 6455 section 7.4) and reason."""
    return bytes(FrameProtocol(client=False, extensions=[]).close(code, reason))


def ping_frame() -> bytes:
    return bytes(_encoder.ping())


def pong_frame(payload: bytes) -> bytes:
    return bytes(_encoder.pong(payload))
