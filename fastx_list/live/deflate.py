"""Compressed messages (permessage-deflate, RFC 7692): what is agreed on, and what comes in.

A compressor costs 260 KiB, an inflater up to 40, so no connection has one of its own. A message is
compressed alone and shared by all it goes to. Only a long snapshot has a compressor while it is
made, so that each message can refer to those before it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from fastx_list.api.protocol import MAX_CLIENT_MESSAGE

LEAST_BITS, MOST_BITS = 9, 15  # of a window, as zlib's compressor has them
_FEWEST_BITS_OF_A_SNAPSHOT = 12  # in a smaller window there are too few of the messages before
_MAX_OFFERS = 4096  # characters of the header; what a browser sends has 50
_EXTENSION = "permessage-deflate"
# RFC 6455 section 9.1: a value is a token, or that in quotes. No value of ours has more than digits
_PARAMETER = re.compile(r'\s*([a-z_]+)\s*(?:=\s*("?)([0-9]+)\2\s*)?', re.ASCII)
_BITS = re.compile("[89]|1[0-5]")
_FLAGS = {"server_no_context_takeover", "client_no_context_takeover"}
# What stands at the end of a message without being sent: section 7.2.1
_TAIL = b"\x00\x00\xff\xff"


class Deflate(NamedTuple):
    """What was agreed on with a client (section 7.1)."""

    # Of the window, at most; None if the client did not say
    window_bits: int | None
    # Whether a message may refer to those before it
    keeps_context: bool

    @property
    def answer(self) -> str:
        """The extension as the handshake's answer has it."""
        # With a context of the client's each connection would need an inflater
        answer = f"{_EXTENSION}; client_no_context_takeover"
        if not self.keeps_context:
            answer += "; server_no_context_takeover"
        if self.window_bits is not None:
            answer += f"; server_max_window_bits={self.window_bits}"
        return answer

    def snapshot(self) -> Snapshot | None:
        """Return what compresses the messages of one snapshot, if they may refer to each other."""
        bits = MOST_BITS if self.window_bits is None else self.window_bits
        if not self.keeps_context or bits < _FEWEST_BITS_OF_A_SNAPSHOT:
            return None
        return Snapshot(bits)


def agree(offers: str) -> Deflate | None:
    """Return what is taken of ``offers``, the header ``Sec-WebSocket-Extensions``: the first that
    is valid and that can be kept (section 5). ``None`` if there is none; nothing is compressed
    then."""
    if len(offers) > _MAX_OFFERS:
        return None
    for offer in offers.split(","):
        name, *parameters = offer.split(";")
        if name.strip() == _EXTENSION:
            agreed = _take(parameters)
            if agreed is not None:
                return agreed
    return None


def _take(parameters: Iterable[str]) -> Deflate | None:
    found: dict[str, str | None] = {}
    for parameter in parameters:
        match = _PARAMETER.fullmatch(parameter)
        if match is None or match[1] in found:
            return None
        name, value = match[1], match[3]
        if name in _FLAGS:
            is_valid = value is None
        elif name == "client_max_window_bits":  # not narrowed: a window costs nobody anything
            is_valid = value is None or _BITS.fullmatch(value) is not None
        else:
            # zlib's compressor has no window of 8 bits
            is_valid = (
                name == "server_max_window_bits"
                and value is not None
                and _BITS.fullmatch(value) is not None
                and int(value) >= LEAST_BITS
            )
        if not is_valid:
            return None
        found[name] = value
    bits = found.get("server_max_window_bits")
    return Deflate(None if bits is None else int(bits), "server_no_context_takeover" not in found)


def deflating(window_bits: int, keeps_context: bool) -> FrameProtocol:
    """Return what makes compressed frames."""
    extension = PerMessageDeflate()
    extension.finalize(Deflate(window_bits, keeps_context).answer)
    return FrameProtocol(client=False, extensions=[extension])


class Snapshot:
    """Compresses the messages of a snapshot, each with those before it."""

    def __init__(self, window_bits: int) -> None:
        self._encoder = deflating(window_bits, keeps_context=True)

    def frames(self, plain: Iterable[bytes]) -> bytes:
        """Return these text frames compressed. They have to be sent in this order, and no other
        compressed ones in between: the client's inflater counts back from each."""
        return b"".join(self._encoder.send_data(text_of(frame)) for frame in plain)


def text_of(frame: bytes) -> str:
    """Return the text in a frame that a server sends uncompressed (RFC 6455 section 5.2)."""
    header = {126: 4, 127: 10}.get(frame[1], 2)
    return frame[header:].decode()


class Inflater(Extension):
    """Inflates what one client sends.

    What has come of a message is kept as it is and inflated at its end: it is short, while an
    inflater is not, and half a message may stay for as long as the client likes.
    """

    name = _EXTENSION
    # Deflate makes no text longer by half, so neither does a client that means well
    MAX_COMPRESSED = 2 * MAX_CLIENT_MESSAGE

    def __init__(self) -> None:
        # Of the message that has not ended yet; None unless it is compressed
        self._compressed: bytearray | None = None
        # Whether the frame at hand is of a message: pings may come in between
        self._is_data = False

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool | str:
        return False  # a client would

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> RsvBits:
        self._is_data = not opcode.iscontrol()
        is_first = opcode is Opcode.TEXT or opcode is Opcode.BINARY
        if is_first:
            self._compressed = bytearray() if rsv.rsv1 else None
        return RsvBits(is_first, False, False)

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        if self._compressed is None or not self._is_data:
            return data
        self._compressed += data
        return CloseReason.MESSAGE_TOO_BIG if len(self._compressed) > self.MAX_COMPRESSED else b""

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        if self._compressed is None or not self._is_data or not fin:
            return None
        try:
            message = zlib.decompressobj(-MOST_BITS).decompress(
                self._compressed + _TAIL, MAX_CLIENT_MESSAGE + 1
            )
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._compressed = None
        return CloseReason.MESSAGE_TOO_BIG if len(message) > MAX_CLIENT_MESSAGE else message
