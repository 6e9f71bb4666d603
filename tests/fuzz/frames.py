"""Rules for the handshake of a WebSocket, and for the frames behind it (RFC 6455)."""

from __future__ import annotations

import struct

from tests.fuzz.grammar import Asked, alternative, literals


def shake_hands(asked: Asked) -> None:
    """Give it the headers of a handshake, mostly right, and frames."""
    mistake = asked.say("mistake in the handshake")
    for name in (b"Upgrade", b"Connection", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version"):
        value = asked.say(f"wrong {name.decode()}" if name == mistake else name.decode())
        if value is not None:
            asked.headers.append((name, value))
    if asked.chance(0.1):
        asked.headers.append((b"Sec-WebSocket-Extensions", asked.say("extensions")))
    if asked.chance(0.05):
        asked.headers.append(
            (b"Sec-WebSocket-Protocol", asked.pick(b"chat", b"", b"\xff", b"a, b,"))
        )
    for _ in range(asked.random.choice((0, 0, 1, 2, 3, 5))):
        asked.after += asked.say("frame")
    if asked.chance(0.02):
        asked.after += _frame(asked, 0x9) * 120
    asked.after += _frame(asked, 0x8, b"\x03\xe8")


literals("mistake in the handshake", b"", weight=20)
literals("mistake in the handshake", b"Upgrade", b"Connection", b"Sec-WebSocket-Key")
literals("mistake in the handshake", b"Sec-WebSocket-Version")
literals("Upgrade", b"websocket")
literals("Connection", b"Upgrade")
literals("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==")
literals("Sec-WebSocket-Version", b"13")
literals("wrong Upgrade", b"", b"h2c", b"WebSocket", b"websocket, h2c", b"websocket/13", b"\xff")
literals("wrong Connection", b"", b"close", b"keep-alive, upgrade", b"upgrade", b",,", b"\xff")
literals("wrong Sec-WebSocket-Key", b"", b"x", b"AAAA", b"A" * 24, b"A" * 9000, b"\xff", b"====")
literals(
    "wrong Sec-WebSocket-Version", b"", b"8", b"13, 8", b"013", b"-1", b"x", b"\xff", b"9" * 5000
)
literals("extensions", b"permessage-deflate", b"permessage-deflate; server_max_window_bits=99", b"")
literals(
    "extensions", b";;,", b"x; y=\xff", b"permessage-deflate; client_max_window_bits=" + b"9" * 400
)


def _frame(asked: Asked, opcode: int, data: bytes = b"", flags: int = 0x80) -> bytes:
    """Return a frame as a client has to send it."""
    mask = asked.random.randbytes(4)
    length = bytes([0x80 | min(len(data), 126)])
    if len(data) > 125:
        length += struct.pack("!H", len(data))
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
    return bytes([flags | opcode]) + length + mask + masked


@alternative("frame", 4)
def _message(asked: Asked) -> bytes:
    text = asked.pick(b"", b"x", b'{"id":"x"}', "é".encode(), b"x" * 125, b"x" * 126, b"x" * 1024)
    return _frame(asked, asked.pick(0x1, 0x2), text)


@alternative("frame", 2)
def _ping_or_pong(asked: Asked) -> bytes:
    return _frame(asked, asked.pick(0x9, 0xA), asked.noise(0, 125))


@alternative("frame", 2)
def _fragments(asked: Asked) -> bytes:
    first, last = asked.pick(0, 0x80), asked.pick(0, 0x80)
    middle = asked.pick(b"", _frame(asked, 0x9, b"in between"), _frame(asked, 0x1, b"", 0))
    ends = _frame(asked, asked.pick(0x0, 0x0, 0x1), b"\xa4" + b"y" * asked.pick(0, 1000), last)
    return _frame(asked, asked.pick(0x1, 0x2, 0x0), b"\xc3", first) + middle + ends


@alternative("frame")
def _any_opcode_and_flags(asked: Asked) -> bytes:
    return _frame(
        asked, asked.random.randint(0, 15), asked.noise(0, 130), asked.pick(*range(0, 256, 16))
    )


@alternative("frame")
def _close(asked: Asked) -> bytes:
    code = asked.pick(
        0, 999, 1000, 1001, 1004, 1005, 1006, 1014, 1015, 2999, 3000, 4999, 5000, 65535
    )
    reason = asked.pick(b"", b"bye", b"\xff", "é".encode() * 62)
    return _frame(asked, 0x8, asked.pick(b"", b"\x03", struct.pack("!H", code) + reason))


@alternative("frame")
def _invalid_utf_8(asked: Asked) -> bytes:
    return _frame(
        asked, 0x1, asked.pick(b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80")
    )


@alternative("frame")
def _too_long(asked: Asked) -> bytes:
    return _frame(asked, asked.pick(0x1, 0x9), b"x" * asked.pick(1025, 5000, 65_535))


@alternative("frame")
def _wrong_length(asked: Asked) -> bytes:
    lengths = (
        b"\xfe\0\x05",
        b"\xff" + b"\xff" * 8,
        b"\xff" + b"\0" * 8,
        b"\xff\0\0\0\0\xff\xff\xff\xff",
    )
    return b"\x81" + asked.pick(*lengths) + asked.noise(4, 20)


@alternative("frame")
def _unmasked(asked: Asked) -> bytes:
    return bytes([asked.pick(0x81, 0x88, 0x89), 3]) + b"abc"


@alternative("frame")
def _noise(asked: Asked) -> bytes:
    return asked.noise(1, 60)
